"""What the YAML under `config/` is made of: names by allow-list, and sections without a key that nobody reads."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict

NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")


def allowed_name(value: str) -> str:
    """`value`, if it is a name; a ValueError says what is one."""
    if not NAME.fullmatch(value):
        raise ValueError("a name: a lower-case letter, then up to 62 of a-z, 0-9, '-' and '_'")
    return value


Name = Annotated[str, AfterValidator(allowed_name)]
"""Names of projects, profiles, tables, models: safe in paths, URLs, SQL identifiers and branch names."""


class Settings(BaseModel):
    """A section of a YAML file: frozen, and no key that nobody reads."""

    model_config = ConfigDict(frozen=True, extra="forbid")

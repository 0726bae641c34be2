"""`retention:` in a profile: what `trilha gc` keeps beside what is needed."""

from __future__ import annotations

from pydantic import PositiveInt

from components.settings import Settings


class Retention(Settings):
    """How much of the past stays."""

    releases: PositiveInt | None = None
    """Of each project, the newest so many; none: all. What serves, answers, has a tag or a receipt stays anyway."""
    nights: PositiveInt | None = None
    """Of each project's predictions for all rows, the newest so many; none: all, as each row has a receipt."""
    days: PositiveInt = 14
    """That what nothing needs stays for a look, and for runs that are going on, since it was last used."""

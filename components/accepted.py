"""What pydantic's faults say was accepted, in our words: a value, a range, a list of names."""

from __future__ import annotations

import re
from typing import Final

from pydantic_core import ErrorDetails

_KINDS: Final = {
    "bool": "true or false",
    "date": "a date, such as 2013-10-01",
    "dict": "keys with values",
    "float": "a number",
    "int": "a whole number",
    "list": "a list",
    "mapping": "keys with values",
    "model": "keys with values",
    "string": "text, in quotes",
    "tuple": "a list",
}
"""How the types of pydantic's faults begin -> what they ask for."""

_BOUNDS: Final = {
    "greater_than": "a number above {gt:g}",
    "greater_than_equal": "a number of {ge:g} or more",
    "less_than": "a number below {lt:g}",
    "less_than_equal": "a number of {le:g} or less",
    "too_short": "at least {min_length} of them",
    "too_long": "at most {max_length} of them",
    "string_too_short": "text of at least {min_length} characters",
    "string_too_long": "text of at most {max_length} characters",
    "string_pattern_mismatch": "text like {pattern}",
    "finite_number": "a finite number",
}
"""Types of pydantic's faults -> what they ask for, with the fault's own numbers."""


def accepted(fault: ErrorDetails) -> str:
    """What would have been accepted in place of what `fault` is about."""
    kind, context = fault["type"], fault.get("ctx", {})
    if names(fault):
        return ", ".join(names(fault))
    if kind in _BOUNDS:
        return _BOUNDS[kind].format(**context)
    if kind == "value_error":  # of a validator of ours, which says it
        return fault["msg"].removeprefix("Value error, ")
    known = _KINDS.get(kind.partition("_")[0])
    return known or fault["msg"].removeprefix("Input should be ")


def names(fault: ErrorDetails) -> list[str]:
    """The names that were expected in place of what `fault` is about; none where it is not about names."""
    context = fault.get("ctx", {})
    listed = context.get("expected") or context.get("expected_tags") or fault["msg"].partition(" is not one of ")[2]
    return re.findall(r"'([^']*)'", str(listed))

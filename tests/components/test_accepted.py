"""What was accepted, in our words, for the faults that pydantic finds."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, TypeAdapter, ValidationError

from components.accepted import accepted


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        (Literal["grid", "random"], "gird", "grid, random"),
        (float, "lots", "a number"),
        (int, "two", "a whole number"),
        (int, 1.5, "a whole number"),
        (bool, "perhaps", "true or false"),
        (str, 7, "text, in quotes"),
        (tuple[str, ...], "a", "a list"),
        (list[str], {}, "a list"),
        (dict[str, str], [], "keys with values"),
        (Annotated[float, Field(gt=0)], 0, "a number above 0"),
        (Annotated[float, Field(ge=0.5)], 0, "a number of 0.5 or more"),
        (Annotated[float, Field(lt=1)], 1, "a number below 1"),
        (Annotated[int, Field(le=1000)], 1001, "a number of 1000 or less"),
        (Annotated[tuple[str, ...], Field(min_length=1)], (), "at least 1 of them"),
        (Annotated[str, Field(max_length=3)], "four", "text of at most 3 characters"),
        (Annotated[str, Field(pattern="^a+$")], "b", "text like ^a+$"),
        (Annotated[float, Field(allow_inf_nan=False)], float("inf"), "a finite number"),
    ],
)
def test_in_our_words(kind: Any, value: object, words: str) -> None:
    """Kinds of values, bounds with their numbers, names as a list."""
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(kind).validate_python(value)
    assert accepted(caught.value.errors()[0]) == words

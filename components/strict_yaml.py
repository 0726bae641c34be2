"""YAML that is read safely and checked against a model; an error names file, line, key and the nearest spelling."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from components.errors import ConfigError
from components.given import read_text

Model = TypeVar("Model", bound=BaseModel)

MAX_BYTES = 1_000_000


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # the one in C is 25 times quicker
    """SafeLoader that refuses a key given twice, where YAML's own loader would keep the last one silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"key {key.value!r} is given twice", problem_mark=key.start_mark)
            seen.add(key.value)
        made: dict[Any, Any] = super().construct_mapping(node, deep)
        return made


def read(path: Path) -> tuple[object, yaml.Node | None]:
    """The document in `path` as plain values, and as nodes that know their lines.

    Raises:
        NotFoundError: there is no such file.
        ConfigError: it cannot be read, is not YAML in UTF-8, or larger than 1 MB.
    """
    text = read_text(path, MAX_BYTES)
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        return (loader.construct_document(node) if node is not None else {}), node
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or "not YAML"
        raise ConfigError(f"{path}{line}: {problem}", accepted="plain YAML without tags", details=str(error)) from error


def load(path: Path, model: type[Model]) -> Model:
    """The document in `path`, checked against `model`.

    Raises:
        NotFoundError: there is no such file.
        ConfigError: not YAML, or a key or value that `model` does not accept; every fault is in the details.
    """
    values, node = read(path)
    try:
        return model.model_validate(values)
    except ValidationError as error:
        # A misspelt key first: it explains the missing one.
        found = sorted(error.errors(include_url=False), key=lambda fault: fault["type"] != "extra_forbidden")
        faults = [_fault(path, node, model, fault) for fault in found]
        raise ConfigError(
            faults[0][0],
            accepted=faults[0][1],
            next_step="correct that line" if len(faults) == 1 else f"correct that line and {len(faults) - 1} more",
            details="\n".join(f"{problem} (accepted: {accepted})" for problem, accepted in faults),
        ) from error


def _fault(path: Path, node: yaml.Node | None, model: type[BaseModel], fault: ErrorDetails) -> tuple[str, str]:
    location = fault["loc"]
    where = f"{path}:{_line(node, location)}"
    key = ".".join(str(part) for part in location) or "the document"
    if fault["type"] == "extra_forbidden":
        siblings = _keys(model, location[:-1])
        close = difflib.get_close_matches(str(location[-1]), siblings, n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        return f"{where}: unknown key {key!r}{hint}", ", ".join(siblings)
    if fault["type"] == "missing":
        return f"{where}: key {key!r} is missing", f"{location[-1]!s}: ..."
    given = repr(fault["input"])
    shown = given if len(given) <= 60 else given[:57] + "..."
    return f"{where}: {key}: {shown}", fault["msg"].removeprefix("Value error, ")


def _line(node: yaml.Node | None, location: tuple[int | str, ...]) -> int:
    """The line of the deepest part of `location` that the file has; union tags in a location are passed over."""
    line = 1 if node is None else node.start_mark.line + 1
    for part in location:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value == str(part):
                    line, node = key.start_mark.line + 1, value
                    break
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
    return line


def _keys(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """The keys accepted at `location`, from the model's JSON Schema."""
    schema = model.model_json_schema()
    definitions = schema.get("$defs", {})
    choices = [schema]
    for part in location:
        following: list[dict[str, Any]] = []
        for choice in choices:
            inner = choice.get("properties", {}).get(str(part))
            following += _resolve(inner or choice.get("additionalProperties") or choice.get("items"), definitions)
        choices = following or choices  # a union's tag is in the location and not in the schema
    return sorted({key for choice in choices for key in choice.get("properties", {})})


def _resolve(schema: object, definitions: dict[str, Any]) -> list[dict[str, Any]]:
    if not isinstance(schema, dict):
        return []
    if "$ref" in schema:
        return _resolve(definitions[schema["$ref"].rsplit("/", 1)[-1]], definitions)
    options = schema.get("anyOf") or schema.get("oneOf")
    return [found for option in options for found in _resolve(option, definitions)] if options else [schema]

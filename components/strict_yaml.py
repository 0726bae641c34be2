"""YAML that is read safely and checked against a model; an error names file, line, key and the nearest spelling."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from components.accepted import accepted, names
from components.errors import ConfigError, nearest
from components.given import read_text

Model = TypeVar("Model", bound=BaseModel)

MAX_BYTES = 1_000_000

_brief = reprlib.Repr()  # what is nested without end has no end as text either
_brief.maxstring = 60


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # the one in C is 25 times quicker
    """SafeLoader that refuses a key given twice, where YAML's own loader would keep the last one silently.

    A date is text, in quotes or not: what is to be a date is read where it is checked, with the line at hand.
    """

    yaml_implicit_resolvers: ClassVar = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:  # noqa: FBT001, FBT002
        try:
            return super().construct_object(node, deep)
        except (AttributeError, ValueError) as error:  # what a tag asks for is not what is there
            raise yaml.MarkedYAMLError(
                problem=f"{node.value!r} is no {node.tag}", problem_mark=node.start_mark
            ) from error

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(problem="a key that is no text", problem_mark=key.start_mark)
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
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or "not YAML"
        raise ConfigError(f"{path}{line}: {problem}", accepted="plain YAML without tags", details=str(error)) from error


def load(path: Path, model: type[Model]) -> Model:
    """The document in `path`, checked against `model`.

    Raises:
        NotFoundError: there is no such file.
        ConfigError: not YAML, or a key or value that `model` does not accept; where there is more than one fault, all
            are in the details.
    """
    values, node = read(path)
    try:
        return model.model_validate(values)
    except ValidationError as error:
        # A misspelt key first: it explains the missing one.
        found = sorted(
            _innermost(error.errors(include_url=False)), key=lambda fault: fault["type"] != "extra_forbidden"
        )
        faults = [_fault(path, node, model, fault) for fault in found]
        more = faults[1:]
        raise ConfigError(
            faults[0][0],
            accepted=faults[0][1],
            next_step=f"correct that line and {len(more)} more" if more else "correct that line",
            details="\n".join(f"{problem} (accepted: {accepted})" for problem, accepted in faults) if more else "",
        ) from error


def place(path: Path, *location: int | str) -> str:
    """`file:line` of a key or an item in the document in `path`, for an error that is found after it was loaded."""
    return f"{path}:{_found(read(path)[1], location)[0]}"


def _innermost(faults: list[ErrorDetails]) -> list[ErrorDetails]:
    """`faults` without those of a whole that has a fault inside: the part says more."""
    return [
        fault
        for fault in faults
        if not any(other["loc"][: len(fault["loc"])] == fault["loc"] != other["loc"] for other in faults)
    ]


def _fault(path: Path, node: yaml.Node | None, model: type[BaseModel], fault: ErrorDetails) -> tuple[str, str]:
    kind, context, location = fault["type"], fault.get("ctx", {}), fault["loc"]
    if kind.startswith("union_tag"):  # the key that tells which one of several is meant
        location = (*location, context["discriminator"].strip("'"))
    line, there = _found(node, location)
    where, key, last = f"{path}:{line}", ".".join(there) or "the document", str(location[-1]) if location else ""
    if kind == "extra_forbidden":
        siblings = _keys(model, location[:-1])
        return f"{where}: unknown key {key!r}{nearest(last, siblings)}", ", ".join(siblings)
    if kind in {"missing", "union_tag_not_found"}:
        return f"{where}: key {'.'.join([*there, last])!r} is missing", f"{last}: ..."
    value = context.get("tag", fault["input"])
    hint = nearest(value, names(fault)) if isinstance(value, str) else ""
    if last == "[key]":
        return f"{where}: unknown key {key!r}{hint}", accepted(fault)
    given = _brief.repr(value)
    shown = given if len(given) <= 60 else given[:57] + "..."
    return f"{where}: {key}: {shown}{hint}", accepted(fault)


def _found(node: yaml.Node | None, location: Iterable[int | str]) -> tuple[int, list[str]]:
    """The line of the deepest part of `location` that the file has, and those parts: tags of unions are in no file."""
    line, there = 1 if node is None else node.start_mark.line + 1, []
    for part in location:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value == str(part):
                    line, node = key.start_mark.line + 1, value
                    there.append(str(part))
                    break
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
            there.append(str(part))
    return line, there


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

"""One module's code, symbol by symbol: the digest of each without comments and docstrings, and the names it mentions.

Parsing all that a lifecycle reaches takes longer than everything else in a run that finds all its steps done, so what
was read is kept beside Python's own byte code, under the digest of the source.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

FIRST_PARTY = ("components", "flows")

BODY = ""
"""The symbol that stands for what runs on import and binds nothing."""

Binding = tuple[str, str | None]
"""(module, symbol) that a name is imported from; the symbol is None where the module itself is bound."""


class Symbol(NamedTuple):
    """The code of one module-level name: its digest, the dotted names in it that may lead on, and its own imports."""

    digest: str
    names: list[list[str]]
    imports: dict[str, Binding]


class ModuleCode(NamedTuple):
    """What a module binds at its top level."""

    symbols: dict[str, Symbol]
    imports: dict[str, Binding]


def module_code(file: Path) -> ModuleCode:
    """The code in `file`, parsed or as it was read before."""
    source = file.read_bytes()
    digest = hashlib.sha256(_own_code() + source).hexdigest()
    kept = _kept(file)
    if kept is not None:
        with suppress(OSError, ValueError, KeyError, TypeError):
            found = json.loads(kept.read_bytes())
            if found["digest"] == digest:
                symbols = {
                    name: Symbol(own, names, _as_bindings(imports))
                    for name, (own, names, imports) in found["symbols"].items()
                }
                return ModuleCode(symbols, _as_bindings(found["imports"]))
    code = _read(source)
    if kept is not None and not sys.dont_write_bytecode:
        with suppress(OSError):  # a folder that is not ours to write to: it is parsed each time
            kept.parent.mkdir(exist_ok=True)
            part = kept.with_suffix(f".{os.getpid()}")
            part.write_text(json.dumps({"digest": digest, **code._asdict()}))
            part.replace(kept)
    return code


@cache
def _own_code() -> bytes:
    return Path(__file__).read_bytes()


def _kept(file: Path) -> Path | None:
    """Where the code of `file` is kept: of this version of Python, whose syntax trees are its own."""
    try:
        return Path(importlib.util.cache_from_source(str(file))).with_suffix(".code.json")
    except NotImplementedError:  # importlib's word for a Python without a cache tag: it keeps no byte code anywhere
        return None


def _as_bindings(found: dict[str, list[str]]) -> dict[str, Binding]:
    return {name: (module, symbol) for name, (module, symbol) in found.items()}


def _read(source: bytes) -> ModuleCode:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            node.body = [part for part in node.body if not _is_text(part)]  # docstrings, as comments, do not count
    imports: dict[str, Binding] = {}
    symbols: dict[str, list[ast.stmt]] = {BODY: []}
    for statement in tree.body:
        _bind(statement, symbols, imports)
    found = {name: _symbol(statements, symbols, imports) for name, statements in symbols.items()}
    return ModuleCode(found, imports)


def _bind(statement: ast.stmt, symbols: dict[str, list[ast.stmt]], imports: dict[str, Binding]) -> None:
    """Sort one top-level statement into what it binds."""
    match statement:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            symbols.setdefault(name, []).append(statement)
        case ast.Import() | ast.ImportFrom():
            imports.update(_bindings(statement))
        case ast.Assign() | ast.AnnAssign() | ast.AugAssign():
            for target in statement.targets if isinstance(statement, ast.Assign) else [statement.target]:
                for name in (node.id for node in ast.walk(target) if isinstance(node, ast.Name)):
                    symbols.setdefault(name, []).append(statement)
        case ast.If() | ast.Try() | ast.With():
            for inner in ast.iter_child_nodes(statement):
                if isinstance(inner, ast.stmt):
                    _bind(inner, symbols, imports)
        case _ if not _is_text(statement):
            symbols[BODY].append(statement)


def _symbol(statements: list[ast.stmt], symbols: Iterable[str], imports: dict[str, Binding]) -> Symbol:
    """What a symbol's statements are and mention."""
    nodes = [node for statement in statements for node in ast.walk(statement)]
    own: dict[str, Binding] = {}
    for node in nodes:
        own |= _bindings(node)  # a function may import where it needs to
    leading = {*symbols, *imports, *own}
    names = sorted({name for node in nodes for name in _dotted(node) if name[0] in leading})
    digest = hashlib.sha256("\n".join(map(ast.dump, statements)).encode()).hexdigest()
    return Symbol(digest, [list(name) for name in names], own)


def _dotted(node: ast.AST) -> Iterator[tuple[str, ...]]:
    """The dotted name that a node is, a quoted annotation included; nothing where it is none."""
    chain: list[str] = []
    while isinstance(node, ast.Attribute):
        chain.insert(0, node.attr)
        node = node.value
    match node:
        case ast.Name(id=name):
            yield (name, *chain)
        case ast.Constant(value=str(quoted)) if quoted.isidentifier():
            yield (quoted,)


def _bindings(node: ast.AST) -> dict[str, Binding]:
    if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in FIRST_PARTY:
        return {alias.asname or alias.name: (node.module, alias.name) for alias in node.names}
    if isinstance(node, ast.Import):
        return {
            alias.asname or alias.name.split(".")[0]: (alias.name if alias.asname else alias.name.split(".")[0], None)
            for alias in node.names
            if alias.name.split(".")[0] in FIRST_PARTY
        }
    return {}


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)

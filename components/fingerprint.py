"""What a step's code is: the digest of every first-party symbol that it can reach, without comments and docstrings.

Reachability is static and by name: a function reaches the module-level names that its body mentions, in its own module
or imported from another first-party one, and so on. A class counts whole. Vendors' code is covered by the lock file,
and adapters that a profile names (store, tracker, server) by their contract suites, which hold them to one behaviour.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

FIRST_PARTY = ("components", "flows")

_PARSING = threading.Lock()
"""Nodes run in threads, and Python 3.11 counts the depth of `ast.parse` for all threads together: two at once can end
in `SystemError: AST constructor recursion depth mismatch`."""


Binding = tuple[str, str | None]
"""(module, symbol) that a name is imported from; the symbol is None where the module itself is bound."""


@dataclass(frozen=True, slots=True)
class _Module:
    name: str
    symbols: dict[str, list[ast.stmt]] = field(default_factory=dict)
    imports: dict[str, Binding] = field(default_factory=dict)
    body: list[ast.stmt] = field(default_factory=list)
    """Statements that run on import and bind nothing."""


@cache
def fingerprint(function: Callable[..., object]) -> dict[str, str]:
    """Reachable symbol (`module:name`) -> digest of its code; `module:` stands for what runs on import.

    Args:
        function: a module-level function.
    """
    found: dict[str, str] = {}
    waiting = [(function.__module__, function.__qualname__.split(".")[0])]
    with _PARSING:
        while waiting:
            module, symbol = waiting.pop()
            label = f"{module}:{symbol}"
            if label not in found and _parse(module) is not None:
                found[label], targets = _reach(module, symbol)
                waiting += [*targets, (module, "")]
    return found


@cache
def _reach(module_name: str, symbol: str) -> tuple[str, frozenset[tuple[str, str]]]:
    """Digest of a symbol's own code, and the first-party symbols that it mentions."""
    module = _parse(module_name)
    assert module is not None
    statements = module.symbols.get(symbol, []) if symbol else module.body
    if not statements and symbol in module.imports:  # re-exported
        return "", frozenset(_targets(module, module.imports, [symbol]))
    digest = hashlib.sha256("\n".join(map(ast.dump, statements)).encode()).hexdigest()
    targets: set[tuple[str, str]] = set()
    for statement in statements:
        nodes = list(ast.walk(statement))
        imports = dict(module.imports)
        for node in nodes:
            imports |= _bindings(node)  # a function may import where it needs to
        for node in nodes:
            targets.update(_targets(module, imports, _dotted(node)))
    return digest, frozenset(targets)


def _targets(module: _Module, imports: dict[str, Binding], names: list[str]) -> Iterator[tuple[str, str]]:
    """The first-party symbols that a dotted name may mean inside `module`."""
    if not names:
        return
    name, *attributes = names
    if name in module.symbols:
        yield module.name, name
    if name in imports:
        source, symbol = imports[name]
        path = [*([symbol] if symbol else []), *attributes]
        while path and _parse(f"{source}.{path[0]}") is not None:  # a module inside a package
            source = f"{source}.{path.pop(0)}"
        if path:
            yield source, path[0]


def _dotted(node: ast.AST) -> list[str]:
    """The dotted name that a node is, a quoted annotation included; empty where it is none."""
    chain: list[str] = []
    while isinstance(node, ast.Attribute):
        chain.insert(0, node.attr)
        node = node.value
    match node:
        case ast.Name(id=name):
            return [name, *chain]
        case ast.Constant(value=str(quoted)) if quoted.isidentifier():
            return [quoted]
    return []


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


@cache
def _parse(name: str) -> _Module | None:
    """The module's symbols, or None where it is not first-party."""
    loaded = sys.modules.get(name)
    file = getattr(loaded, "__file__", None)
    if file is None:
        if name.split(".", maxsplit=1)[0] not in FIRST_PARTY:
            return None
        try:
            spec = importlib.util.find_spec(name)
        except (ModuleNotFoundError, ValueError):
            return None
        file = spec.origin if spec else None
    if file is None or not file.endswith(".py") or "site-packages" in Path(file).parts:
        return None
    module = _Module(name)
    tree = ast.parse(Path(file).read_bytes())
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            node.body = [part for part in node.body if not _is_text(part)]  # docstrings, as comments, do not count
    for statement in tree.body:
        _bind(module, statement)
    return module


def _bind(module: _Module, statement: ast.stmt) -> None:
    """Sort one top-level statement into what it binds."""
    match statement:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            module.symbols.setdefault(name, []).append(statement)
        case ast.Import() | ast.ImportFrom():
            module.imports.update(_bindings(statement))
        case ast.Assign() | ast.AnnAssign() | ast.AugAssign():
            for target in statement.targets if isinstance(statement, ast.Assign) else [statement.target]:
                for name in (node.id for node in ast.walk(target) if isinstance(node, ast.Name)):
                    module.symbols.setdefault(name, []).append(statement)
        case ast.If() | ast.Try() | ast.With():
            for inner in ast.iter_child_nodes(statement):
                if isinstance(inner, ast.stmt):
                    _bind(module, inner)
        case _ if not _is_text(statement):
            module.body.append(statement)


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)

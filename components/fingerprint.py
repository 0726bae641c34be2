"""What a step's code is: the digest of every first-party symbol that it can reach, without comments and docstrings.

Reachability is static and by name: a function reaches the module-level names that its body mentions, in its own module
or imported from another first-party one, and so on. A class counts whole. Vendors' code is covered by the lock file,
and adapters that a profile names (store, tracker, server) by their contract suites, which hold them to one behaviour.
"""

from __future__ import annotations

import importlib.util
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

from components.module_code import BODY, FIRST_PARTY, Binding, ModuleCode, module_code

_READING = threading.Lock()
"""Nodes run in threads, and Python 3.11 counts the depth of `ast.parse` for all threads together: two at once can end
in `SystemError: AST constructor recursion depth mismatch`."""


@cache
def fingerprint(function: Callable[..., object]) -> dict[str, str]:
    """Reachable symbol (`module:name`) -> digest of its code; `module:` stands for what runs on import.

    Args:
        function: a module-level function.
    """
    found: dict[str, str] = {}
    waiting = [(function.__module__, function.__qualname__.split(".")[0])]
    with _READING:
        while waiting:
            module, symbol = waiting.pop()
            label = f"{module}:{symbol}"
            if label not in found and _code(module) is not None:
                found[label], targets = _reach(module, symbol)
                waiting += [*targets, (module, BODY)]
    return found


@cache
def _reach(name: str, symbol: str) -> tuple[str, frozenset[tuple[str, str]]]:
    """Digest of a symbol's own code, and the first-party symbols that it mentions."""
    code = _code(name)
    assert code is not None
    found = code.symbols.get(symbol)
    if found is None:  # re-exported
        return "", frozenset(_targets(name, code, code.imports, [symbol]))
    imports = {**code.imports, **found.imports}
    return found.digest, frozenset(target for one in found.names for target in _targets(name, code, imports, one))


def _targets(
    name: str, code: ModuleCode, imports: Mapping[str, Binding], dotted: Sequence[str]
) -> Iterator[tuple[str, str]]:
    """The first-party symbols that a dotted name may mean inside the module `name`."""
    first, *attributes = dotted
    if first in code.symbols:
        yield name, first
    if first in imports:
        source, symbol = imports[first]
        path = [*([symbol] if symbol else []), *attributes]
        while path and _code(f"{source}.{path[0]}") is not None:  # a module inside a package
            source = f"{source}.{path.pop(0)}"
        if path:
            yield source, path[0]


@cache
def _code(name: str) -> ModuleCode | None:
    """The module's code, or None where it is not first-party."""
    file = _file(name)
    return None if file is None or "site-packages" in file.parts else module_code(file)


def _file(name: str) -> Path | None:
    """Where a first-party module is. None of its packages but the outermost is imported to find it."""
    loaded = getattr(sys.modules.get(name), "__file__", None)
    if loaded:
        return Path(loaded) if loaded.endswith(".py") else None
    first, *inner = name.split(".")
    outermost = importlib.util.find_spec(first) if first in FIRST_PARTY else None
    if outermost is None or outermost.origin is None:
        return None
    path = Path(outermost.origin).parent.joinpath(*inner)
    known = (path / "__init__.py", path.with_suffix(".py"))
    return next((file for file in known if file.is_file()), None)

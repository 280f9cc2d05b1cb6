"""What a result depends on besides its inputs: the sources that a module imports, found by reading them, and their packages."""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Iterator
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from importlib.resources import files
from pathlib import Path

_PACKAGE = "mmfa"


@lru_cache(maxsize=8)
def fingerprint(module: str, root: Path | None = None, *, also: tuple[str, ...] = ()) -> str:
    """SHA-256 of all that running `module`, such as ``mmfa.session``, can depend on.

    That is every source of this package that it imports, itself or through others, also inside a function; the data that
    lie beside those sources; and name and version of each package of others that they import. root: the folder of the
    package, by default of this one. also: modules that it imports by names which its source doesn't tell, such as the kind of
    a model.
    """
    root = root or Path(str(files(_PACKAGE)))
    sources, foreign = _reached((module, *also), root)
    sha256 = hashlib.sha256()
    for path in sorted({*sources, *_data(sources, root)}):
        sha256.update(path.relative_to(root).as_posix().encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    sha256.update("".join(f"{name}=={_version(name)}\n" for name in sorted(foreign)).encode())
    return sha256.hexdigest()


def installed(distribution: str) -> str:
    """The version of a package of others; a question mark where there is none."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "?"


def _reached(modules: tuple[str, ...], root: Path) -> tuple[set[Path], set[str]]:
    """The sources that modules import, their own included, and the names of the foreign modules that they import."""
    sources: set[Path] = set()
    foreign: set[str] = set()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        top, parent = name.partition(".")[0], name.rpartition(".")[0]
        if top != _PACKAGE:
            foreign.add(top)
            continue
        path = _source(name, root)
        if path is None:  # a name of the module before the last dot
            continue
        if path not in sources:
            sources.add(path)
            waiting += [parent] if parent else []
            waiting += _imports(path, name)
    return sources, foreign - set(sys.stdlib_module_names)


def _source(name: str, root: Path) -> Path | None:
    """The file of a module of this package."""
    place = root.joinpath(*name.split(".")[1:])
    return next((path for path in (place / "__init__.py", place.with_suffix(".py")) if path.is_file()), None)


def _imports(path: Path, name: str) -> Iterator[str]:
    """Full names of what the module `name` imports when it runs; of ``from a import b`` both a and a.b, which may be none."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in _running(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _running(node: ast.AST) -> Iterator[ast.AST]:
    """A node and all below it, but for what only type checkers read."""
    yield node
    typing_only = isinstance(node, ast.If) and ast.unparse(node.test).rpartition(".")[2] == "TYPE_CHECKING"
    for child in node.orelse if typing_only and isinstance(node, ast.If) else ast.iter_child_nodes(node):
        yield from _running(child)


def _data(sources: set[Path], root: Path) -> Iterator[Path]:
    """Files that aren't code in the rooms of the package (``priors/weights/…``). Those of models are named by who uses them."""
    for room in {path.relative_to(root).parts[0] for path in sources if path.parent != root} - {"models"}:
        yield from (path for path in (root / room).rglob("*") if path.suffix not in (".py", ".pyc") and path.is_file())


@lru_cache(maxsize=64)
def _version(name: str) -> str:
    """Of a module of others, by the distribution that it comes from."""
    return "+".join(installed(distribution) for distribution in sorted(set(_distributions().get(name, ()))))


@lru_cache(maxsize=1)
def _distributions() -> dict[str, list[str]]:
    return dict(packages_distributions())

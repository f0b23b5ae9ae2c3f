"""Which modules of the package import which, read from the sources and not by importing them.

Two kinds of imports are told apart. An *early* one runs when its module is imported; a *late* one
runs in a function, or never (`TYPE_CHECKING`). Both say that one module knows another.

Imports that are named as strings count too, as late ones: `import_module(".spectral.recipes", …)`,
and the tables of names that are imported when they are asked for, such as
``{"rvq": ".spectral.codec_task:RVQTask"}``. A string counts that names a module of the package
relative to its own module's package, or in full (``syllabary.audio.files``); docstrings don't. So
does a process that is started as ``python -m syllabary``: it is the command line, `cli`.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

from .conftest import ROOT

BESIDE = ("tests", "benchmarks", "docs", "examples")
_PLACE = re.compile(r"(\.+|syllabary\.?)([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)?(?::\w+)?")


@dataclass(frozen=True)
class Import:
    """One module's knowledge of another.

    Attributes:
        importer, imported: dotted, without `syllabary`; "" is the front door itself.
        line: in the importer's file.
        late: it runs in a function, or for type checkers only, or is named by a string.
    """

    importer: str
    imported: str
    line: int
    late: bool


@cache
def modules(root: Path = ROOT) -> dict[str, Path]:
    """The package's modules and packages by their dotted names, without `syllabary`."""
    found = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        made = any(part.startswith(".") or part in ("build", "dist") for part in parts)
        if made or parts[0] in BESIDE or parts == ("setup",):
            continue
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def imports(root: Path = ROOT) -> list[Import]:
    """All imports of modules of the package in modules of the package."""
    known = modules(root)
    return [found for name, path in known.items() for found in _imports_of(name, path, known)]


def _imports_of(name: str, path: Path, known: dict[str, Path]) -> Iterator[Import]:
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    prose = set(_docstrings(tree))
    for node, late in _walk(tree, False):
        if isinstance(node, ast.ImportFrom):
            base = _absolute(package, node.level, node.module or "")
            if base is None:
                continue
            for alias in node.names:
                inner = f"{base}.{alias.name}".strip(".")
                yield Import(name, inner if inner in known else base, node.lineno, late)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                top, _, rest = alias.name.partition(".")
                if top == "syllabary":
                    yield Import(name, rest, node.lineno, late)
        elif isinstance(node, ast.Tuple | ast.List) and _runs_the_program(node.elts):
            yield Import(name, "cli", node.lineno, True)
        elif isinstance(node, ast.Constant) and node not in prose:
            target = _named(node.value, package, known)
            if target is not None and target != name:
                yield Import(name, target, node.lineno, True)


def _absolute(package: str, level: int, module: str) -> str | None:
    """The dotted name, without `syllabary`, of what an import names; None: another package's."""
    if not level:
        top, _, rest = module.partition(".")
        return rest if top == "syllabary" else None
    parts = package.split(".") if package else []
    base = parts[: len(parts) - (level - 1)]
    return ".".join([*base, *filter(None, [module])])


def _named(value: object, package: str, known: dict[str, Path]) -> str | None:
    """The module that a string names, as `import_module` and our tables write them."""
    match = _PLACE.fullmatch(value) if isinstance(value, str) else None
    if match is None or match[2] is None:
        return None
    if match[1].startswith("syllabary"):
        name: str | None = match[2] if match[1] == "syllabary." else None
    else:
        name = _absolute(package, len(match[1]), match[2])
    return name if name in known else None


def _runs_the_program(words: list[ast.expr]) -> bool:
    """Whether a command has ``-m syllabary`` in it."""
    values = [getattr(word, "value", None) for word in words]
    return ("-m", "syllabary") in pairwise(values)


def _walk(node: ast.AST, late: bool) -> Iterator[tuple[ast.AST, bool]]:
    """All nodes below one, and whether they run later than the import of their module."""
    for child in ast.iter_child_nodes(node):
        yield child, late
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from _walk(child, True)
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for part, is_late in ((child.body, True), (child.orelse, late)):
                for statement in part:
                    yield statement, is_late
                    yield from _walk(statement, is_late)
        else:
            yield from _walk(child, late)


def _docstrings(tree: ast.AST) -> Iterator[ast.Constant]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            yield node.value


def dynamic_importers(root: Path = ROOT) -> set[str]:
    """Modules that import what a variable names; the reader sees it if a table of names has it."""
    found = set()
    for name, path in modules(root).items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and node.args:
                called = ast.unparse(node.func).rpartition(".")[2]
                constant = isinstance(node.args[0], ast.Constant)
                if called in ("import_module", "__import__") and not constant:
                    found.add(name)
    return found


def circles(arrows: set[tuple[str, str]]) -> list[tuple[str, ...]]:
    """The groups of names, sorted, each of which reaches every other of its group by arrows."""
    after: dict[str, set[str]] = {}
    for start, end in arrows:
        after.setdefault(start, set()).add(end)
        after.setdefault(end, set())
    reached = {name: _reached(name, after) for name in after}
    groups = {
        tuple(sorted({name, *(other for other in reached[name] if name in reached[other])}))
        for name in after
        if name in reached[name]
    }
    return sorted(group for group in groups if len(group) > 1)


def _reached(start: str, after: dict[str, set[str]]) -> set[str]:
    found: set[str] = set()
    pending = [start]
    while pending:
        new = after[pending.pop()] - found
        found |= new
        pending += new
    return found

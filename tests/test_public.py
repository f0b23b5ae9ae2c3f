"""What is public is one list, docs/api.md: the modules have it, and the pages use nothing else."""

import ast
import importlib
import inspect
import re
import subprocess
import sys

import pytest

from .conftest import ROOT
from .imports import imports, modules
from .markdown import code_blocks

PAGES = sorted(ROOT.glob("*.md")) + sorted(
    page
    for folder in ("docs", "assets", "benchmarks", "examples")
    for page in (ROOT / folder).rglob("*.md")
)
#: Rooms that nobody outside imports: the command line is a program, kernels are for the others.
NOT_IMPORTED = {"cli", "kernels"}


def documented() -> dict[str, list[str]]:
    """The names of each section of docs/api.md."""
    found: dict[str, list[str]] = {}
    for line in (ROOT / "docs" / "api.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            section = line.removeprefix("## ").strip("`")
            found[section] = []
        elif match := re.match(r"\| `([\w.]+)` \|", line):
            found[section].append(match[1])
    return found


PUBLIC = documented()
GROUPS = PUBLIC.pop("Entry points")


def names_of(module: str) -> set[str]:
    """What a module gives out; of one without `__all__`, its own classes and functions."""
    door = importlib.import_module(module)
    if hasattr(door, "__all__"):
        return set(door.__all__)
    own = {name for name, value in vars(door).items() if getattr(value, "__module__", "") == module}
    return {name for name in own if not name.startswith("_")}


def test_every_room_has_a_door():
    rooms = {name for name, path in modules().items() if path.name == "__init__.py"}
    rooms = {name for name in rooms if "." not in name} - NOT_IMPORTED
    assert {f"syllabary.{name}".rstrip(".") for name in rooms} <= set(PUBLIC)


@pytest.mark.parametrize("module", PUBLIC)
def test_the_list_is_what_a_door_gives(module):
    assert len(set(PUBLIC[module])) == len(PUBLIC[module])
    assert set(PUBLIC[module]) == names_of(module)
    door = importlib.import_module(module)
    for name in PUBLIC[module]:
        value = getattr(door, name)
        assert name in dir(door)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert value.__doc__, f"{module}.{name} has no docstring"
    with pytest.raises(AttributeError, match="nonsense"):
        _ = door.nonsense


def test_names_for_type_checkers_are_those_at_run_time():
    """A lazy door names each module twice: for type checkers, and to import it from."""
    lazy = [name for name in PUBLIC if "lazy_exports(" in source_of(name)]
    assert {"syllabary", "syllabary.codecs", "syllabary.training"} <= set(lazy)
    for module in lazy:
        tree = ast.parse(source_of(module))
        checked = next(node for node in tree.body if isinstance(node, ast.If))
        said = {}
        for statement in checked.body:
            assert isinstance(statement, ast.ImportFrom) and statement.level == 1
            for alias in statement.names:
                here = alias.asname or alias.name
                said[here] = (f"{module}.{statement.module}", alias.name)
        assert set(said) == set(PUBLIC[module])
        door = importlib.import_module(module)
        for name, (place, original) in said.items():
            assert getattr(door, name) is getattr(importlib.import_module(place), original)


def source_of(module: str) -> str:
    return modules()[module.removeprefix("syllabary").lstrip(".")].read_text(encoding="utf-8")


def test_doors_load_no_torch():
    """Except those of tensors themselves, and of streams of them."""
    light = set(PUBLIC) - {
        *("syllabary.quantizers", "syllabary.quantizers.kmeans", "syllabary.codecs.streaming"),
    }
    code = f"import {', '.join(sorted(light))}, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_entry_points_are_those_that_are_looked_up():
    """Strings such as `syllabary.metrics` that are no modules and no files are groups of these."""
    looked_up = set()
    for path in modules().values():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            value = node.value if isinstance(node, ast.Constant) else None
            if isinstance(value, str) and re.fullmatch(r"syllabary\.(?!json)[a-z]+", value):
                looked_up.add(value)
    places = {f"syllabary.{found.imported}" for found in imports()}
    assert looked_up - places == set(GROUPS)


def wrong_names(code: str) -> list[str]:
    """What a piece of Python uses of the package that is not public."""
    wrong = []
    doors = {"syllabary": "syllabary"}  # by what the code calls them
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and f"{node.module}.".startswith("syllabary."):
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                if name in PUBLIC:
                    doors[alias.asname or alias.name] = name
                if name not in PUBLIC and alias.name not in PUBLIC.get(node.module, ()):
                    wrong.append(name)
        elif isinstance(node, ast.Import):
            own = [alias.name for alias in node.names if alias.name.startswith("syllabary")]
            wrong += [name for name in own if name not in PUBLIC]
        elif isinstance(node, ast.Attribute):
            first, _, rest = ast.unparse(node).partition(".")
            name = f"{doors.get(first)}.{rest}"
            if first in doors and re.fullmatch(r"[\w.]+", rest) and not is_public(name):
                wrong.append(name)
    return wrong


def is_public(name: str) -> bool:
    """Whether a dotted name is a door, one of its names, or something of that."""
    parts = name.split(".")
    fits = [".".join(parts[:count]) for count in range(len(parts), 0, -1)]
    door = next(fit for fit in fits if fit in PUBLIC)
    rest = parts[door.count(".") + 1 :]
    return not rest or rest[0] in PUBLIC[door]


#: The protocol of the server, and a unit of systemd.
NO_NAMES = {"syllabary.v1", "syllabary.service"}


def test_pages_use_public_names_only():
    wrong, seen = [], 0
    for page in PAGES:
        for block in code_blocks(page):
            if block.language == "python":
                seen += "syllabary" in block.text
                wrong += [f"{block.place}: {name}" for name in wrong_names(block.text)]
        if page.parent.name != "assets":
            text = page.read_text(encoding="utf-8")
            for name in re.findall(r"`(syllabary(?:\.\w+)+)[`(]", text):
                if not is_public(name) and name not in GROUPS and name not in NO_NAMES:
                    wrong.append(f"{page.name}: {name}")
    assert not wrong
    assert seen > 15


@pytest.mark.parametrize(
    ("code", "wrong"),
    [
        ("import syllabary\nsyllabary.load('x').encode(wave)", []),
        ("import syllabary.codecs.registry", ["syllabary.codecs.registry"]),
        ("from syllabary import load, errors", []),
        ("from syllabary import cores", ["syllabary.cores"]),
        ("from syllabary.audio.files import read", ["syllabary.audio.files.read"]),
        ("from syllabary.audio import read, files", ["syllabary.audio.files"]),
        ("import syllabary\nsyllabary.errors.WaveError", []),
        ("import syllabary\nsyllabary.codecs.windowed.tile()", ["syllabary.codecs.windowed"]),
        ("import syllabary\nsyllabary.Tokens.batch([])", []),
        ("from syllabary import audio\naudio.read(path)", []),
        ("from syllabary import audio as a\na.files.read(path)", ["syllabary.audio.files"]),
    ],
)
def test_what_is_not_public_is_noticed(code, wrong):
    assert set(wrong) <= set(wrong_names(code)) and bool(wrong_names(code)) == bool(wrong)

"""The house plan: a room imports rooms on lower floors only, and nothing goes in a circle."""

from pathlib import Path

import pytest

from .conftest import ROOT
from .imports import circles, dynamic_importers, imports, modules

#: The rooms, from the ground up; those on one floor don't know each other. "" is the front door.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("errors",),
    (*("filesystem", "typed_fields", "catalogue", "lazy_exports", "cores", "plain_torch"),),
    ("kernels",),
    ("audio", "quantizers"),
    ("codecs", "bpe"),
    ("semantic", "jobs"),
    ("",),
    ("training", "lm", "eval", "serving"),
    ("cli",),
    ("__main__",),
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}

#: Modules that import what a variable names. All but the packages of others are in a table there,
#: whose strings `imports` reads.
DYNAMIC = {
    "lazy_exports": "the places that a package gives it",
    "codecs.families": "FAMILIES, and what the front door adds to it",
    "codecs.pretrained.architectures": "the adapters in TRANSFORMERS and PACKAGED",
    "semantic.encoders.catalogue": "KINDS",
    "training.recipe_registry": "TASKS and RECIPES",
    "eval.studies.other_processors": "the class of a tokenizer that is examined",
    "eval.requirements": "packages of others that a measurement needs",
    "serving.worker": "a tokenizer's class that the server's configuration names",
}


def room_of(module: str) -> str:
    return module.split(".")[0]


def folder_of(module: str) -> str:
    return ".".join(module.split(".")[:2])


def upward(root: Path = ROOT) -> set[tuple[str, str]]:
    """The imports, by module, of a room on the same floor or above."""
    return {
        (found.importer, found.imported)
        for found in imports(root)
        if room_of(found.importer) != room_of(found.imported)
        and FLOOR[room_of(found.importer)] <= FLOOR[room_of(found.imported)]
    }


def test_every_room_has_its_floor():
    """A room that the plan does not know is a decision to make: here, and in the docs."""
    assert {room_of(name) for name in modules()} <= set(FLOOR)


def test_the_architecture_page_names_every_room():
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = "\n".join(line for line in page.splitlines() if line.startswith("|"))
    for room in {room_of(name) for name in modules()} - {"", "__main__"}:
        title = f"`{room}/`" if (ROOT / room).is_dir() else f"`{room}.py`"
        assert title in table, f"docs/architecture.md: no {title} in the table of rooms"


def test_rooms_import_lower_floors_only():
    assert upward() == set()


def test_no_circles():
    rooms, modules_ = set(), set()
    folders: dict[str, set[tuple[str, str]]] = {}
    for found in imports():
        start, end = room_of(found.importer), room_of(found.imported)
        if start != end:
            rooms.add((start, end))
        elif found.importer != found.imported:
            modules_.add((found.importer, found.imported))
            inner = (folder_of(found.importer), folder_of(found.imported))
            if inner[0] != inner[1]:
                folders.setdefault(start, set()).add(inner)
    assert circles(rooms) == []
    assert circles(modules_) == []
    assert {room: circles(arrows) for room, arrows in folders.items() if circles(arrows)} == {}


def test_what_variables_import_is_in_a_table_that_is_read():
    assert dynamic_importers() == set(DYNAMIC)
    seen = {(found.importer, found.imported) for found in imports() if found.late}
    assert ("codecs.families", "codecs.ts3.tokenizer") in seen
    assert ("", "semantic.units.tokenizer") in seen
    assert ("training.recipe_registry", "training.spectral.codec_task") in seen
    assert ("training.recipe_registry", "training.spectral.recipes") in seen
    assert ("semantic.encoders.catalogue", "semantic.encoders.mfcc") in seen
    assert ("eval.studies.catalogue", "eval.studies.promises") in seen
    assert ("", "codecs.container") in seen


@pytest.mark.parametrize(
    ("text", "imported", "late"),
    [
        ("from ..eval import page", "eval.page", False),
        ("from .. import eval", "eval", False),
        ("from ..eval.page import draw", "eval.page", False),
        ("import syllabary.eval.page", "eval.page", False),
        ("from syllabary.eval import page", "eval.page", False),
        ("def f():\n    from ..eval import page", "eval.page", True),
        ("if TYPE_CHECKING:\n    from ..eval.page import Page", "eval.page", True),
        (
            "if typing.TYPE_CHECKING:\n    pass\nelse:\n    from ..eval import page",
            "eval.page",
            False,
        ),
        ("import_module('..eval.page', __package__)", "eval.page", True),
        ("import_module('syllabary.eval.page')", "eval.page", True),
        ("TABLE = {'a': ('..eval.page', 'Page')}", "eval.page", True),
        ("TABLE = {'a': '..eval.page:Page'}", "eval.page", True),
        ("TABLE = {n: f'..eval.page:page_{n}' for n in range(3)}", "eval.page", True),
        ("PLACE = 'syllabary.eval.page:Page'", "eval.page", True),
        ("run([sys.executable, '-m', 'syllabary', 'list'])", "cli", True),
        ("run(('python', '-m', 'syllabary.eval.page'))", "eval.page", True),
        ("'''..eval.page'''", None, None),
        ("SUFFIX = '.page'", None, None),
        ("import evaluate, torch.eval", None, None),
        ("from .other import eval", "audio.other", False),
    ],
)
def test_imports_are_seen_however_they_are_written(tmp_path, text, imported, late):
    files = {"audio/__init__": "", "audio/files": text, "audio/other": "", "eval/__init__": ""}
    for name, content in {**files, "eval/page": "", "__init__": "", "cli": ""}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.py").write_text(content)
    found = [(arrow.importer, arrow.imported, arrow.late) for arrow in imports(tmp_path)]
    assert found == ([("audio.files", imported, late)] if imported else [])
    wrong = imported is not None and not imported.startswith("audio")
    assert upward(tmp_path) == ({("audio.files", imported)} if wrong else set())


def test_circles_are_found():
    assert circles({("a", "b"), ("b", "c"), ("c", "a"), ("c", "d"), ("e", "a")}) == [
        ("a", "b", "c")
    ]
    assert circles({("a", "b"), ("b", "a"), ("b", "c"), ("d", "c"), ("c", "d")}) == [
        ("a", "b"),
        ("c", "d"),
    ]
    assert circles({("a", "b"), ("b", "c"), ("a", "c")}) == []


def test_an_import_that_a_variable_names_is_noticed(tmp_path):
    (tmp_path / "__init__.py").write_text("import_module(name, __package__)\n")
    (tmp_path / "audio.py").write_text("importlib.import_module('pyworld')\n")
    (tmp_path / "bpe.py").write_text("found = __import__(name)\n")
    assert dynamic_importers(tmp_path) == {"", "bpe"}

"""Things by name, bundled or of other packages; what is broken harms nothing else."""

import subprocess
import sys
from fractions import Fraction

import pytest

from syllabary.catalogue import Catalogue, expand
from syllabary.errors import CheckpointError, ConfigError, SyllabaryError
from syllabary.eval.probes.catalogue import PROBES, parse
from syllabary.eval.studies.catalogue import STUDIES

GROUP = "syllabary-test.numbers"
ENTRIES = """
[syllabary-test.numbers]
two = other_numbers:TWO
word = other_numbers:WORD
gone = other_numbers:GONE
late = no_such_numbers:X
refused = other_numbers:REFUSED
half = other_numbers:TWO
[syllabary.tasks]
broken-task = no_such_numbers:X
[syllabary.studies]
no-study = other_numbers:WORD
"""


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """As pip would have installed it: a module, and entry points in its dist-info."""
    (tmp_path / "other_numbers.py").write_text(
        "from fractions import Fraction\nTWO = Fraction(2)\nWORD = 'two'\nREFUSED = Fraction(-1)\n"
    )
    info = tmp_path / "other_numbers-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other-numbers\nVersion: 1\n")
    (info / "entry_points.txt").write_text(ENTRIES)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("other_numbers", None)


@pytest.fixture
def numbers():
    def positive(name, found):
        if isinstance(found, Fraction) and found < 0:
            raise SyllabaryError("it is negative")
        return found

    bundled = {"half": Fraction(1, 2), "three": "other_three:THREE", "bad": "nowhere:X"}
    return Catalogue(
        "number",
        GROUP,
        bundled,
        kind=Fraction,
        accept=positive,
        broken=CheckpointError,
        unknown=ConfigError,
    )


THREE = Fraction(3)


def test_names_are_those_that_are_found(numbers, installed):
    assert numbers.names() == ("half", "three", "bad", "gone", "late", "refused", "two", "word")
    numbers.add("four", Fraction(4))
    assert numbers.names()[-1] == "four" and all(name in numbers for name in numbers.names())
    assert "five" not in numbers
    assert numbers.find("half") == Fraction(1, 2), "an entry point can't replace what is bundled"
    assert numbers.find("two") is numbers.find("two") == Fraction(2)
    assert numbers.find("four") == Fraction(4)
    numbers.add("four", Fraction(5))
    assert numbers.find("four") == Fraction(5)


def test_a_place_is_imported_when_it_is_asked_for(monkeypatch):
    numbers = Catalogue("number", GROUP, {"three": "other_three:THREE"})
    assert "three" in numbers and numbers.names() == ("three",)
    with pytest.raises(ModuleNotFoundError):
        numbers.find("three")
    monkeypatch.setitem(sys.modules, "other_three", sys.modules[__name__])
    assert numbers.find("three") is THREE


def test_what_other_packages_break_is_named(numbers, installed):
    for name, message in (
        ("word", "^number word of other_numbers:WORD: expected a Fraction, got str$"),
        ("gone", "^number gone of other_numbers:GONE can't be loaded: AttributeError: .*GONE"),
        ("late", "^number late of no_such_numbers:X can't be loaded: ModuleNotFoundError: "),
        ("refused", "^number refused of other_numbers:REFUSED: it is negative$"),
    ):
        with pytest.raises(CheckpointError, match=message):
            numbers.find(name)
    assert numbers.find("two") == 2


def test_an_unknown_name_is_told_with_what_there_is(numbers):
    with pytest.raises(ConfigError, match=r"^no number 'thre', did you mean three\? there are"):
        numbers.find("thre")
    with pytest.raises(ConfigError, match=r"^no number 'xyz'; there are half, three, bad$"):
        numbers.find("xyz")
    message = str(numbers.missing("xyz", ["all", "none"]))
    assert message == "no number 'xyz'; there are half, three, bad, all, none"


def test_what_is_installed_later_is_found(numbers, request):
    with pytest.raises(ConfigError):
        numbers.find("two")
    request.getfixturevalue("installed")
    assert numbers.find("two") == 2


def test_of_two_entry_points_with_one_name_the_first_counts(numbers, installed, tmp_path):
    info = tmp_path / "another_one-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: another-one\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[{GROUP}]\nnew = other_numbers:TWO\n")
    assert numbers.names().count("two") == 1 and "new" in numbers.names()


def test_lists_of_names():
    groups = {"all": lambda: ["a", "b"], "none": tuple}
    assert expand(" b, all,,c ,b", groups) == ("b", "a", "c")
    assert expand("none", groups) == expand(" , ", groups) == ()


def test_a_broken_task_or_study_of_another_package_harms_no_evaluation(installed):
    assert [task.name for task in parse("digits")] == ["digits"] and parse("none") == ()
    with pytest.raises(ConfigError, match="probe broken-task of no_such_numbers:X can't be loaded"):
        PROBES.find("broken-task")
    with pytest.raises(SyllabaryError, match=r"study no-study of .*: expected a Study, got str"):
        STUDIES.find("no-study")


def test_a_catalogue_imports_no_torch():
    code = "import syllabary.catalogue, sys; assert not {'torch', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)

"""Pictures come from the table that lays codes out; those of the docs are up to date."""

import re
import xml.etree.ElementTree as ElementTree

import pytest

from syllabary.lm import patterns
from syllabary.lm.patterns import __main__ as picture

from ...conftest import ROOT

FOLDER = ROOT / "docs" / "patterns"


def test_text():
    delay = patterns.Delay((8,) * 3)
    assert patterns.draw_text(delay, 2) == (
        "  S 0.0 0.1   S   S\n  S   S 1.0 1.1   S\n  S   S   S 2.0 2.1\n"
    )
    assert patterns.draw_text(patterns.VallE((8,) * 2), 2) == "0.0 0.1   E 1.0 1.1\n"


def test_svg_has_a_cell_for_each_id():
    pattern = patterns.Flatten((8,) * 3, groups=(0, 1, 1), start=1)
    root = ElementTree.fromstring(patterns.draw_svg(pattern, 4))
    cells = root.findall("{*}rect")[1:]
    assert len(cells) == 3 * pattern.num_steps(4)
    coloured = [cell for cell in cells if cell.get("fill") != "#e6e6e6"]
    assert len(coloured) == 3 * 4 and len({cell.get("fill") for cell in coloured}) == 3


def test_the_pictures_of_the_docs(tmp_path):
    """`python -m syllabary.lm.patterns --all docs/patterns` draws them."""
    picture.main(["--all", str(tmp_path)])
    drawn = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert drawn == {path.name: path.read_text() for path in FOLDER.iterdir()}
    assert set(drawn) == {f"{name}.svg" for name in patterns.PATTERNS}
    shown = re.findall(r"\(patterns/([\w-]+)\.svg\)", (ROOT / "docs" / "lm.md").read_text())
    assert set(shown) == set(patterns.PATTERNS)


def test_command(tmp_path, capsys):
    picture.main(["delay", "--codebooks", "2", "--frames", "2", "--set", '{"delays": [0, 2]}'])
    assert capsys.readouterr().out == "  S 0.0 0.1   S   S\n  S   S   S 1.0 1.1\n"
    picture.main(["snac", "--svg", str(tmp_path / "x.svg")])
    assert (tmp_path / "x.svg").read_text().startswith("<svg")
    for wrong in (["delay", "--set", "{"], ["delay", "--set", '{"delays": [1]}'], ["dela"]):
        with pytest.raises(SystemExit) as error:
            picture.main(wrong)
        assert error.value.code == 2

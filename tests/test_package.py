"""The front door, start-up, and names in editors."""

import json
import shutil
import subprocess
import sys
import tomllib

import pytest

import syllabary

from .conftest import ROOT


def test_the_front_door():
    assert set(syllabary.__all__) <= set(dir(syllabary))
    assert all(getattr(syllabary, name) for name in syllabary.__all__)
    with pytest.raises(AttributeError):
        _ = syllabary.nonsense
    assert f'version = "{syllabary.__version__}"' in (ROOT / "pyproject.toml").read_text()


@pytest.mark.parametrize("code", ["import syllabary", "from syllabary.cli.main import main"])
def test_importing_loads_no_torch(code):
    check = f"{code}; import sys; assert not {{'torch', 'scipy', 'rich'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", check], check=True)


def test_the_standard_library_keeps_its_codecs():
    code = "import codecs, sys; assert codecs.__file__ == sys.argv[1], codecs.__file__"
    import codecs

    subprocess.run([sys.executable, "-c", code, codecs.__file__], cwd=ROOT, check=True)


def test_a_checkout_resolves_its_own_name(tmp_path):
    """`make` makes the link by which mypy and editors find `syllabary` in a folder of any name."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    subprocess.run(["make", "-s", ".cache/types/syllabary"], cwd=tmp_path, check=True)
    editor = json.loads((ROOT / "pyrightconfig.json").read_text())["extraPaths"]
    mypy = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]["mypy_path"]
    for place in (*editor, mypy.replace("$MYPY_CONFIG_FILE_DIR/", "")):
        assert (tmp_path / place / "syllabary").resolve() == tmp_path.resolve()

"""Imports, start-up, the wheel, and the rule that a room imports only lower floors."""

import ast
import json
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

import syllabary

from .conftest import ROOT

FLOORS = {
    "errors": -1,  # the ground: even floor 0 raises them
    "filesystem": 0,
    "typed_fields": 0,
    "cores": 0,
    "processors": 0,
    "kernel_cache": 0,
    "audio": 1,
    "quantizers": 1,
    "codecs": 2,
    "bpe": 2,
    "semantic": 3,
    "jobs": 3,
    "training": 4,
    "lm": 4,
    "eval": 4,
    "serving": 4,
    "cli": 5,
}


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


def test_rooms_import_lower_floors_only():
    wrong = []
    for path in ROOT.rglob("*.py"):
        parts = path.relative_to(ROOT).parts
        room = Path(parts[0]).stem
        if room not in FLOORS:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.ImportFrom) or node.level != len(parts):
                continue
            targets = [node.module] if node.module else [name.name for name in node.names]
            for target in targets:
                other = target.split(".")[0]
                if other in FLOORS and other != room and FLOORS[other] >= FLOORS[room]:
                    wrong.append(f"{path.relative_to(ROOT)} imports {other}")
    assert not wrong


def test_every_folder_of_code_is_packaged():
    text = (ROOT / "pyproject.toml").read_text()
    for init in ROOT.rglob("__init__.py"):
        folder = init.parent.relative_to(ROOT)
        if folder.parts and not folder.parts[0].startswith((".", "build")):
            assert f'"syllabary.{".".join(folder.parts)}"' in text


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    skip = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__", "demo-out")
    shutil.copytree(ROOT, source, ignore=skip)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(folder), "."]
    subprocess.run(command, cwd=source, check=True)
    return next(folder.glob("*.whl"))


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert "syllabary/py.typed" in names and "syllabary/assets/demo.flac" in names
    assert "syllabary/codecs/dmel/tokenizer.py" in names
    tops = {name.split("/")[0] for name in names}
    assert tops == {"syllabary", f"syllabary-{syllabary.__version__}.dist-info"}
    rooms = {name.split("/")[1] for name in names if name.startswith("syllabary/")}
    assert not rooms & {"tests", "benchmarks", "docs"}


def test_the_wheel_works_in_another_environment(wheel, tmp_path, demo_clip):
    """Dependencies come from this environment; the package itself from the wheel alone."""
    venv.create(tmp_path / "env", with_pip=False, symlinks=True)
    python = tmp_path / "env" / "bin" / "python"
    site = next((tmp_path / "env").glob("lib/python*/site-packages"))
    zipfile.ZipFile(wheel).extractall(site)
    here = [p for p in sys.path if p.endswith("site-packages")]
    (site / "others.pth").write_text("\n".join(here))
    script = (
        "import syllabary, sys; from syllabary.cli.main import main\n"
        "assert sys.argv[1] in syllabary.__file__, syllabary.__file__\n"
        "main(sys.argv[2:])"
    )
    command = [
        python,
        "-c",
        script,
        tmp_path,
        "encode",
        demo_clip,
        "-o",
        tmp_path / "x.syl",
        "--json",
    ]
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout.splitlines()[0])["status"] == "done"
    assert (tmp_path / "x.syl").stat().st_size > 1000

"""The wheel and the source distribution: what is in them, and that what is installed works.

Nothing is fetched: builds use the setuptools of this environment, and dependencies are its own.
"""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

import syllabary

from .conftest import ROOT

#: Folders of the repository that are not part of the package.
BESIDE = ("tests", "benchmarks", "docs", "examples")
#: What a checkout has none of yet, but may have tomorrow; the builds must find it by themselves.
PLANTED = {
    "assets/a/b/c/deep.bin": "an asset",
    "audio/newer/__init__.py": "",
    "audio/newer/still/__init__.py": "ANSWER = 42\n",
}


def files_of_the_checkout() -> list[str]:
    """What git has, or would take; in a tree without git, what is no product of a build."""
    if (ROOT / ".git").exists():
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
        return sorted(name for name in done.stdout.split("\0") if name and (ROOT / name).exists())
    names = (path.relative_to(ROOT) for path in ROOT.rglob("*") if path.is_file())
    made = {"build", "dist", "demo-out", "PKG-INFO", "setup.cfg"}
    hidden = {".venv", ".cache", ".pytest_cache", ".ruff_cache", ".hypothesis", "__pycache__"}
    return sorted(
        str(name)
        for name in names
        if name.parts[0] not in made
        and not hidden & set(name.parts)
        and not name.parts[0].endswith(".egg-info")
    )


def of_the_package(names: list[str]) -> set[str]:
    """The files, of those of the checkout, that an installed package has."""
    return {
        name
        for name in names
        if (
            name.split("/")[0] not in BESIDE and not name.startswith(".")
            if "/" in name
            else name == "py.typed" or (name.endswith(".py") and name != "setup.py")
        )
    }


def copy(names: list[str], folder: Path) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, folder / name)


def plant(folder: Path) -> None:
    for name, text in PLANTED.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def run(*command: object, cwd: Path | None = None, home: Path | None = None) -> str:
    """What a program prints that runs as it should; with `home`, in variables of its own."""
    variables = {"PATH": os.environ["PATH"], "HOME": str(home)} if home else None
    command = tuple(map(str, command))
    done = subprocess.run(
        command, cwd=cwd, env=variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def pip_install(*arguments: object, python: object = sys.executable) -> None:
    offline = ("--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check")
    run(sys.executable, "-m", "pip", "--python", python, "install", "-q", *offline, *arguments)


#: A script that encodes a file as the command line does, by the package of a folder only.
ENCODE = """
import sys, syllabary
from syllabary.cli.main import main
assert syllabary.__file__.startswith(sys.argv[1]), syllabary.__file__
main(["encode", *sys.argv[2:], "--json"])
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A copy of the checkout with nothing in it that git does not know, and new folders."""
    folder = tmp_path_factory.mktemp("source")
    copy(files_of_the_checkout(), folder)
    plant(folder)
    return folder


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, source)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def sdist(source, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sdist")
    run(sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", folder, source)
    return next(folder.glob("*.tar.gz"))


def environment(folder: Path) -> tuple[Path, Path]:
    """Python and site-packages of an environment with this one's packages, but no `syllabary`."""
    venv.create(folder, with_pip=False, symlinks=True)
    site = next(folder.glob("lib/python*/site-packages"))
    # Paths only: what else this environment's .pth files do, such as finding `syllabary`, stays.
    here = [path for path in sys.path if path.endswith("site-packages")]
    (site / "others.pth").write_text("\n".join(here))
    return folder / "bin" / "python", site


def test_the_wheel_has_what_git_has(wheel):
    names = {name for name in zipfile.ZipFile(wheel).namelist() if not name.endswith("/")}
    info = f"syllabary-{syllabary.__version__}.dist-info/"
    package = {name for name in names if not name.startswith(info)}
    expected = of_the_package([*files_of_the_checkout(), *PLANTED])
    assert package == {f"syllabary/{name}" for name in expected}
    assert {f"{info}METADATA", f"{info}entry_points.txt", f"{info}licenses/LICENSE"} <= names


def test_the_wheel_works_in_another_environment(wheel, tmp_path, demo_clip):
    """Dependencies come from this environment; the package itself from the wheel alone."""
    python, site = environment(tmp_path / "env")
    zipfile.ZipFile(wheel).extractall(site)
    # dMel: its weights are among the assets, and no kernel need be compiled for it.
    command = (site, demo_clip, "--codec", "dmel", "-o", tmp_path / "x.syl")
    printed = run(python, "-c", ENCODE, *command, cwd=tmp_path, home=tmp_path)
    assert json.loads(printed.splitlines()[0])["status"] == "done"
    assert (tmp_path / "x.syl").stat().st_size > 1000


@pytest.mark.slow
def test_the_source_distribution_has_what_git_has(sdist):
    """Tests, docs, benchmarks, the changelog, constraints and the Makefile among it."""
    with tarfile.open(sdist) as archive:
        names = {member.name for member in archive if member.isfile()}
    top = f"syllabary-{syllabary.__version__}"
    made = {"PKG-INFO", "setup.cfg", *(n for n in names if n.startswith(f"{top}/syllabary.egg-"))}
    expected = {f"{top}/{name}" for name in [*files_of_the_checkout(), *PLANTED]}
    assert names - made - {f"{top}/PKG-INFO", f"{top}/setup.cfg"} == expected


@pytest.mark.slow
def test_the_source_distribution_installs(sdist, tmp_path, demo_clip):
    python, site = environment(tmp_path / "env")
    fresh = tmp_path / "fresh"
    pip_install("--target", fresh, sdist)
    found = {str(path.relative_to(fresh)) for path in fresh.rglob("*") if path.is_file()}
    package = {n for n in found if n.startswith("syllabary/") and "__pycache__" not in n}
    expected = of_the_package([*files_of_the_checkout(), *PLANTED])
    assert package == {f"syllabary/{name}" for name in expected}
    (site / "fresh.pth").write_text(str(fresh))
    command = (fresh, demo_clip, "-o", tmp_path / "x.syl")
    printed = run(python, "-c", ENCODE, *command, cwd=tmp_path, home=tmp_path)
    assert json.loads(printed.splitlines()[0])["status"] == "done"


def test_an_editable_install_follows_the_checkout(tmp_path):
    """A folder that is made afterwards is found, as every other."""
    source = tmp_path / "somewhere"
    copy([name for name in files_of_the_checkout() if not name.startswith("assets/")], source)
    python, _ = environment(tmp_path / "env")
    pip_install("-e", source, python=python)
    plant(source)
    script = (
        "import syllabary; from syllabary.audio.newer.still import ANSWER\n"
        "print(ANSWER, syllabary.__file__)"
    )
    printed = run(python, "-c", script, cwd=tmp_path, home=tmp_path)
    assert printed.split() == ["42", str(source / "__init__.py")]
    assert (python.parent / "syllabary").exists()

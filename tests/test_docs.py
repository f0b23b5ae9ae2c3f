"""Every code block of the README and the docs is run."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from syllabary.audio.files import write

from .conftest import ROOT, synthetic_speech
from .markdown import blocks

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A folder with what the pages speak of: my.wav, a folder of speech, and syllabary on PATH."""
    write(tmp_path / "my.wav", synthetic_speech(48_000), 16000)
    for name in ("a", "b"):
        (tmp_path / "corpus" / name).mkdir(parents=True)
        write(tmp_path / "corpus" / name / "x.wav", synthetic_speech(20_000), 16000)
    monkeypatch.chdir(tmp_path)
    programs = tmp_path / "bin"
    programs.mkdir()
    program = programs / "syllabary"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m syllabary "$@"\n')
    program.chmod(0o755)
    python = programs / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_blocks(page, workplace):
    found = blocks(page, "python")
    if page.name == "write-your-own.md":
        # The contract suite registers its first block in this process; here it runs afresh.
        script = "\n".join(found)
        assert len(found[0].splitlines()) < 75
        subprocess.run([sys.executable, "-c", script], check=True)
        return
    names: dict = {}
    for block in found:
        exec(block, names)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_shell_blocks(page, workplace):
    for block in blocks(page, "bash"):
        if re.search(r"^(make|git|pip) ", block, re.MULTILINE):
            check_make(block)
            continue
        script = f"set -euo pipefail\n{block}"
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"


def check_make(block):
    """Installing is what CI itself does; here, that the targets exist."""
    for target in re.findall(r"^make ([\w-]+)", block, re.MULTILINE):
        subprocess.run(["make", "-n", target], cwd=ROOT, check=True, capture_output=True)


def test_links_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if not target.startswith("http"):
                assert (page.parent / Path(target)).exists(), f"{page.name}: {target}"


def test_the_changelog_names_this_version():
    import syllabary

    assert f"## {syllabary.__version__}" in (ROOT / "CHANGELOG.md").read_text()

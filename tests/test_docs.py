"""Every code block of the README, the docs and the model cards is run, or says why it is not.

The blocks of a page run in order, in one folder; Python blocks share their names. A block that
can't run in a test has a comment before it, ``<!-- not run: REASON -->``: what can be checked of it
is, and `pytest` prints the reasons at the end.
"""

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from syllabary.audio.files import write
from syllabary.cli.main import main
from syllabary.codecs import registry
from syllabary.codecs.registry import SHIPPED, load
from syllabary.eval.metrics import catalogue as metrics
from syllabary.eval.probes import catalogue as probes
from syllabary.eval.probes.task import read_task
from syllabary.eval.studies import catalogue as studies
from syllabary.eval.systems import catalogue as systems
from syllabary.eval.systems.external import External
from syllabary.training import recipe_registry as recipes
from syllabary.training.queue import read_list
from syllabary.training.spectral.growth import load_grown

from .conftest import ROOT, synthetic_speech
from .markdown import Block, code_blocks

FOLDERS = ("docs", "assets", "benchmarks", "examples")
PAGES = sorted(ROOT.glob("*.md")) + sorted(
    page for folder in FOLDERS for page in (ROOT / folder).rglob("*.md")
)
WITH_CODE = [page for page in PAGES if code_blocks(page)]

ENTRY_POINT_GROUPS = {
    module.ENTRY_POINT_GROUP for module in (registry, metrics, probes, studies, systems)
}


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A folder with what the pages speak of: my.wav, a folder of speech, and programs on PATH."""
    write(tmp_path / "my.wav", synthetic_speech(48_000), 16000)
    for name in ("a", "b"):
        (tmp_path / "corpus" / name).mkdir(parents=True)
        write(tmp_path / "corpus" / name / "x.wav", synthetic_speech(20_000), 16000)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(recipes, "TASKS", dict(recipes.TASKS))
    programs = tmp_path / "bin"
    programs.mkdir()
    scripts = {
        "syllabary": f'exec {sys.executable} -m syllabary "$@"',
        "python": f'exec {sys.executable} "$@"',
        "my-encoder": 'exec cp "$1" "$2"',
        "my-decoder": 'exec cp "$1" "$2"',
    }
    for name, script in scripts.items():
        (programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_code_blocks(page, workplace, record_property, capfd):
    found = code_blocks(page)
    names: dict = {"__name__": "docs"}
    for block in found:
        assert block.language in RUN, f"{block.place}: write a fence with one of {', '.join(RUN)}"
        if block.not_run is not None:
            assert len(block.not_run) > 20, f"{block.place}: why can't it run?"
            record_property("not run", f"{block.place}: {block.not_run}")
            check_shell(block, capfd)
        elif page.name != "write-your-own.md" or block.language != "python":
            RUN[block.language](block, names, capfd)
    if page.name == "write-your-own.md":
        # The contract suite registers its first block in this process; here it runs afresh.
        parts = [block.text for block in found if block.language == "python"]
        assert len(parts[0].splitlines()) < 75
        subprocess.run([sys.executable, "-c", "\n".join(parts)], check=True)


def run_python(block: Block, names: dict, capfd) -> None:
    # Errors name the line of the page.
    code = "\n" * block.line + block.text
    exec(compile(code, str(block.page), "exec"), names)


def run_shell(block: Block, names: dict, capfd) -> None:
    """Line by line; commands of ours in this process, as a new one takes seconds to load torch."""
    for command in commands(block):
        if command.startswith("syllabary ") and not re.search(r"[|&;<>$*`(]", command):
            code = syllabary(command)
        else:
            code = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", command], check=False
            ).returncode
        output = "".join(capfd.readouterr())
        assert code == 0, f"{block.place}: {command}\n{output}"


def commands(block: Block) -> list[str]:
    """The lines; one that a here-document follows has it with it."""
    found, lines = [], iter(block.text.replace("\\\n", " ").splitlines())
    for line in lines:
        if here := re.search(r"<<'(\w+)'", line):
            document = [line, *iter(lines.__next__, here[1]), here[1]]
            found.append("\n".join(document))
        elif shlex.split(line, comments=True):
            found.append(line)
    return found


def syllabary(command: str, *more: str) -> int:
    """The exit code of one of our commands."""
    with pytest.raises(SystemExit) as ended:
        main([*shlex.split(command, comments=True)[1:], *more])
    return ended.value.code


def read_json(block: Block, names: dict, capfd) -> None:
    """A description of a program, or a task for probes: what reads such files takes it."""
    fields = json.loads(block.text)
    path = Path(f"{fields['name']}.json")
    path.write_text(block.text, encoding="utf-8")
    found = External(path) if "encode" in fields else read_task(path)
    assert found.name == fields["name"]


def read_toml(block: Block, names: dict, capfd) -> None:
    """Entry points of the groups that there are."""
    groups = tomllib.loads(block.text)["project"]["entry-points"]
    assert groups and set(groups) <= ENTRY_POINT_GROUPS


def read_text(block: Block, names: dict, capfd) -> None:
    """A file that is named in its first line: a list of runs, for `syllabary queue`."""
    path = Path(block.text.splitlines()[0].removeprefix("# "))
    path.write_text(block.text, encoding="utf-8")
    runs = read_list(path)
    assert runs, f"{block.place}: no runs"
    for run in runs:
        check_start(run.recipe)


RUN = {
    "python": run_python,
    "bash": run_shell,
    "json": read_json,
    "toml": read_toml,
    "text": read_text,
}


def check_shell(block: Block, capfd) -> None:
    """Of a block that is not run: its syntax, targets of make, scripts, and recipes of training."""
    assert block.language == "bash", f"{block.place}: only shell blocks may be left out"
    subprocess.run(["bash", "-n", "-c", block.text], check=True)
    for command in commands(block):
        words = shlex.split(command.splitlines()[0], comments=True)
        if words[:1] == ["make"]:
            subprocess.run(["make", "-n", *words[1:]], cwd=ROOT, check=True, capture_output=True)
        for word in words:
            if word.startswith(("benchmarks/", "tests/")):
                assert (ROOT / word).exists(), f"{block.place}: {word}"
        if "syllabary train" in command:
            code = syllabary(command[command.index("syllabary") :], "--show")
            out, err = capfd.readouterr()
            assert code == 0, f"{block.place}: {command}\n{err}"
            check_start(recipes.from_fields(json.loads(out), block.place))


def check_start(recipe) -> None:
    """Training can start from the bundled codec that a recipe names: the layers fit."""
    if recipe.start_from not in SHIPPED:
        return
    saved = load(recipe.start_from)
    codec = type(saved)(recipe.model)
    load_grown(codec, codec.quantizer.state_dict(prefix="quantizer.") | saved.state_dict())


def test_pages_are_found():
    names = {page.relative_to(ROOT).as_posix() for page in WITH_CODE}
    assert {"README.md", "docs/training.md", "docs/onnx.md"} <= names
    assert set(WITH_CODE) < set(PAGES)


def test_blocks_of_a_page(tmp_path):
    """Fenced, indented and in lists; a reason belongs to the block right after it."""
    page = tmp_path / "page.md"
    page.write_text(
        "# Page\n\n```python\na = 1\n```\n\n- item\n\n  ~~~sh\n  one\n  ~~~\n\ntext\n\n"
        "    indented\n\n"
        "<!-- not run: it takes\nhours -->\n\n```bash\ntwo\n```\n\n<!-- not run: no -->\n\ntext\n\n"
        "```\nthree\n```\n"
    )
    assert [(b.line, b.language, b.text, b.not_run) for b in code_blocks(page)] == [
        (3, "python", "a = 1\n", None),
        (9, "sh", "one\n", None),
        (15, "", "indented\n", None),
        (20, "bash", "two\n", "it takes hours"),
        (28, "", "three\n", None),
    ]


def test_links_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if not target.startswith("http"):
                assert (page.parent / Path(target)).exists(), f"{page.name}: {target}"


def test_the_changelog_names_this_version():
    import syllabary

    assert f"## {syllabary.__version__}" in (ROOT / "CHANGELOG.md").read_text()

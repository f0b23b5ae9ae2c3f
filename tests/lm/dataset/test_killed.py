"""Killed at any moment, a build goes on to the same bytes.

The process is killed before each of its writes, renames and deletions in turn: a child is forked,
counts them, and sends itself SIGKILL at the one that is due.
"""

import io
import os
import signal
from pathlib import Path

import pytest

from syllabary.audio.files import write
from syllabary.lm.dataset import open_dataset
from syllabary.lm.dataset.build import build_dataset
from syllabary.lm.dataset.settings import Settings

from ...conftest import synthetic_speech
from .conftest import contents


def dies_at(moment, work):
    """Run `work` in a child that is killed at its n-th change of a file; None if it has fewer."""
    child = os.fork()
    if child == 0:
        try:
            count_changes(moment)
            work()
            os._exit(0)
        except BaseException:
            os._exit(3)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0
    return False


def count_changes(moment):
    """Kill this process at the n-th call that changes a file."""
    left = [moment]

    def due():
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def before(owner, name):
        original = getattr(owner, name)

        def changed(*arguments, **more):
            due()
            return original(*arguments, **more)

        setattr(owner, name, changed)

    for owner, name in (
        *((os, "fsync"), (os, "unlink"), (os, "rmdir"), (os, "replace"), (os, "mkdir")),
        *((Path, "replace"), (Path, "unlink"), (Path, "mkdir"), (Path, "write_text")),
    ):
        before(owner, name)
    opened = io.open

    def open_counted(file, mode="r", *arguments, **more):
        if set(mode) & set("wax+"):
            due()
        return opened(file, mode, *arguments, **more)

    io.open = open_counted


@pytest.mark.parametrize("stride", [5])
def test_at_every_change_of_a_file(tmp_path, monkeypatch, stride):
    monkeypatch.setattr("syllabary.lm.dataset.plan.PIECE_ITEMS", 2)
    folder = tmp_path / "speech"
    folder.mkdir()
    for number in range(5):
        write(folder / f"{number}.wav", synthetic_speech(1500 + 300 * number, number), 16000)
    settings = Settings(codec="dmel-narrow", codes_a_shard=2000)

    def build(name):
        build_dataset([folder], tmp_path / name, settings)

    build("whole")
    expected = contents(tmp_path / "whole")
    killed = 0
    # A fifth of the moments by themselves, each in a build of its own that then goes on.
    for moment in range(0, 10_000, stride):
        name = f"killed-{moment}"
        if not dies_at(moment, lambda name=name: build(name)):
            break
        killed += 1
        build(name)
        assert contents(tmp_path / name) == expected, moment
    assert killed > 8
    # And one build that dies again and again, a little later each time.
    moment = 0
    while dies_at(moment, lambda: build("again")):
        moment += 5
    assert contents(tmp_path / "again") == expected
    assert len(open_dataset(tmp_path / "again")) == 5

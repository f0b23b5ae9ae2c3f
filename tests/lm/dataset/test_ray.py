"""The same data set from Ray's workers, also when one of them is killed."""

import os
import signal
from pathlib import Path

import pytest

from syllabary.errors import DatasetError
from syllabary.lm.dataset.build import build_dataset
from syllabary.lm.dataset.ray_engine import ray_engine

from .conftest import contents


def workers_of_ray():
    """Process ids of actors that encode."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if place.read_bytes().startswith(b"ray::_Worker"):
                found.append(int(place.parent.name))
        except OSError:
            continue
    return found


@pytest.mark.usefixtures("small_pieces")
def test_ray(corpus, tmp_path, settings, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    build_dataset([corpus], tmp_path / "whole", settings)
    killed = []

    def kill_one(done, total, seconds):
        if not killed:
            killed.extend(workers_of_ray()[:1])
            os.kill(killed[0], signal.SIGKILL)

    report = build_dataset([corpus], tmp_path / "set", settings, ray_engine(2), progress=kill_one)
    assert killed and report.pieces == 4
    assert contents(tmp_path / "set") == contents(tmp_path / "whole")


def test_without_ray(corpus, tmp_path, settings, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(DatasetError, match=r"needs its package: pip install 'syllabary\[ray\]'"):
        build_dataset([corpus], tmp_path / "set", settings, ray_engine(2))

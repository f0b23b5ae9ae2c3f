"""The same codes on any processor: this one, and older ones that a process is held to."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from syllabary.codecs.registry import SHIPPED
from syllabary.kernels.processors import MASKS, cannot_mask, masked_environment

from ..conftest import ROOT
from . import golden

HELD_TO = {name: lambda name=name: masked_environment(name) for name in MASKS}
#: What clusters set whose nodes differ.
HELD_TO["numba's generic"] = lambda: os.environ | {"NUMBA_CPU_NAME": "generic"}


@pytest.mark.parametrize("name", SHIPPED)
def test_golden_codes(name):
    found = golden.compare(name)
    assert found.none, f"{name}: {found}"


@pytest.mark.slow
@pytest.mark.skipif(cannot_mask() is not None, reason=str(cannot_mask()))
@pytest.mark.parametrize("processor", HELD_TO)
def test_golden_codes_held_to_other_processors(processor):
    environment = HELD_TO[processor]()
    environment["PYTHONPATH"] = os.pathsep.join(part or str(ROOT) for part in sys.path)
    command = [sys.executable, str(ROOT / "tests" / "processors" / "golden.py")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = {name: golden.Difference(**part) for name, part in json.loads(done.stdout).items()}
    assert list(found) == list(SHIPPED)
    assert all(part.none for part in found.values()), f"as on {processor}: {found}"


@pytest.fixture
def changed(tmp_path, monkeypatch):
    """Golden codes of a tokenizer after a change to what is in their file."""

    def change(**parts):
        with np.load(golden.FOLDER / "fsq-16k.npz") as file:
            arrays = dict(file)
        for name, new in parts.items():
            arrays[name] = new(arrays[name])
        np.savez(tmp_path / "fsq-16k.npz", **arrays)
        monkeypatch.setattr(golden, "FOLDER", tmp_path)
        return "fsq-16k"

    return change


def test_a_code_that_differs_is_found(changed):
    def another(codes):
        codes[0, 7] ^= 1
        return codes

    assert golden.compare(changed(codes=another)).codes == 1
    assert not golden.compare("fsq-16k").none


def test_samples_that_differ_are_found(changed):
    found = golden.compare(changed(samples=lambda samples: samples + np.float32(3e-6)))
    assert found.codes == 0 and 2e-6 < found.samples < 4e-6 and not found.none
    assert not golden.compare(changed(samples=lambda samples: samples[1:])).none


def test_golden_codes_of_other_weights_say_what_to_run(changed, tmp_path):
    name = changed(weights=lambda weights: np.array("0" * 64))
    with pytest.raises(golden.StaleError, match=r"other weights of fsq-16k.*make golden"):
        golden.compare(name)
    (tmp_path / "fsq-16k.npz").unlink()
    with pytest.raises(golden.StaleError, match=r"no golden codes of fsq-16k: run `make golden`"):
        golden.compare(name)


def test_golden_codes_are_small_and_of_what_ships():
    files = list(golden.FOLDER.iterdir())
    assert {path.stem for path in files} == set(SHIPPED)
    assert sum(path.stat().st_size for path in files) < 300_000

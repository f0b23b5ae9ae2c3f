"""Lyra as a tokenizer: its codes and samples are those of the leaderboard's system, frame by frame.

Google's weights are in no package: $SYLLABARY_LYRA, or what shares a folder with this checkout.
"""

import shutil

import numpy as np
import pytest
import torch

import syllabary
from syllabary.codecs.pretrained.lyra import PARTS
from syllabary.errors import CheckpointError
from syllabary.eval.systems.lyra import Lyra

from ... import tiny_models
from ...conftest import synthetic_speech

pytest.importorskip("ai_edge_litert")
if not tiny_models.LYRA.is_dir():
    pytest.skip("set SYLLABARY_LYRA to a folder of Lyra's weights", allow_module_level=True)


@pytest.fixture(scope="module")
def codec() -> syllabary.AudioTokenizer:
    return syllabary.load(tiny_models.LYRA)


@pytest.mark.parametrize("kbps", ["3.2", "6", "9.2"])
def test_codes_and_samples_are_those_of_the_system(codec, kbps):
    system = Lyra(kbps, tiny_models.LYRA)
    wave = synthetic_speech(50 * 320, 1)
    tokens = codec.encode(wave, 16000, num_codebooks=system.num_quantizers)
    assert tokens.bitrate() == float(kbps) * 1000 or kbps == "9.2"
    system.start()
    codes = [system.encode(frame[None]) for frame in wave.reshape(-1, 320)]
    samples = np.concatenate([system.decode(code) for code in codes])
    theirs = np.stack([code[: system.num_quantizers, 0, 0] for code in codes], 1)
    assert int((tokens.codes[0].numpy() != theirs).sum()) == 0
    assert np.array_equal(codec.decode(tokens)[0].numpy(), samples)
    assert len(np.unique(theirs)) == 16


def test_it_is_saved_and_loaded_as_any_other(codec, tmp_path):
    codec.save_pretrained(tmp_path)
    loaded = syllabary.load(tmp_path)
    assert loaded.spec == codec.spec and loaded.name == "lyra-v2"
    assert loaded.spec.parameters > 1_000_000
    tokens = codec.encode(synthetic_speech(5000, 0), 16000)
    assert torch.equal(loaded.decode(tokens), codec.decode(tokens))


def test_missing_and_damaged_files(tmp_path):
    for part in PARTS:
        shutil.copy(tiny_models.LYRA / f"{part}.tflite", tmp_path)
    (tmp_path / "lyragan.tflite").write_bytes(b"no model")
    with pytest.raises(CheckpointError, match=r"lyragan\.tflite"):
        syllabary.load(tmp_path)
    (tmp_path / "lyragan.tflite").unlink()
    with pytest.raises(CheckpointError, match=r"lyragan\.tflite: No such file"):
        syllabary.load(tmp_path)

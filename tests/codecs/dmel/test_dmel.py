import numpy as np
import pytest
import torch

import syllabary
from syllabary.audio.files import read
from syllabary.audio.manifests import collect
from syllabary.audio.mel import MelSpectrogram, log_mel
from syllabary.codecs.dmel.analysis import analyse
from syllabary.codecs.dmel.config import DMelConfig
from syllabary.codecs.dmel.phase_retrieval import PhaseRetrievalConfig, PhaseRetrievalVocoder
from syllabary.codecs.dmel.tokenizer import TILE, DMel
from syllabary.errors import CheckpointError

from ...conftest import synthetic_speech


@pytest.mark.parametrize("name", ["dmel", "dmel-fine", "dmel-narrow", "dmel-40ch"])
def test_codes_are_the_cells_of_the_log_mel(name):
    """Against the definition: log10 mels of frames centred on their hops, cut into equal cells."""
    tokenizer = syllabary.load(name)
    config = tokenizer.config
    wave = synthetic_speech(16000)
    hop = config.hop_length
    mel = MelSpectrogram(hop_length=hop, num_mels=config.num_mels, dtype=torch.float64)
    shifted = torch.nn.functional.pad(torch.from_numpy(wave), (hop // 2, hop))
    values = log_mel(mel(shifted))[:, 1 : 1 + -(-16000 // hop)]  # frame n + 1 is centred there
    width = (config.maximum - config.minimum) / config.num_levels
    cells = ((values - config.minimum) / width).floor().clamp(0, config.num_levels - 1).long()
    codes = tokenizer.encode(wave, 16000).codes[0]
    assert codes.shape == cells.shape
    assert (codes != cells).float().mean() < 1e-4  # logarithms round at the edges; codes have none


def test_the_fast_analysis_is_the_spectrogram():
    mel = MelSpectrogram(dtype=torch.float64)
    windows = torch.randn(TILE, 800)
    expected = mel.frames(windows).T
    assert torch.allclose(analyse(mel, windows), expected, rtol=1e-12, atol=1e-15)
    analyse(mel, torch.randn(TILE, 800))  # the buffers are used again, and hold nothing back
    assert torch.allclose(analyse(mel, windows), expected, rtol=1e-12, atol=1e-15)


def test_level_edges_belong_to_the_upper_cell():
    tokenizer = syllabary.load("dmel")
    assert tokenizer.levels.shape == (80, 16)
    assert tokenizer.levels[0, [0, -1]].tolist() == pytest.approx([-6.71875, 1.71875])
    assert not tokenizer.encode(torch.zeros(4000), 16000).codes.any()


def test_fitted_levels(tmp_path):
    waves = [synthetic_speech(16000, seed) + 1e-3 for seed in range(3)]
    config = DMelConfig(num_levels=8)
    fitted = DMel.fit(waves, config, name="mine")
    assert fitted.config.levels == "fitted" and fitted.spec.parameters == 640
    assert bool((fitted.levels.diff(dim=1) > 0).all())
    assert DMel.fit(waves, config).spec.tokens.digest == fitted.spec.tokens.digest
    fitted.save_pretrained(tmp_path)
    loaded = syllabary.load(tmp_path)
    assert loaded.spec == fitted.spec
    tokens = fitted.encode(waves[0], 16000)
    assert loaded.encode(waves[0], 16000).equal(tokens)
    assert torch.equal(loaded.decode(tokens), fitted.decode(tokens))
    shares = torch.bincount(tokens.codes.flatten(), minlength=8) / tokens.codes.numel()
    assert shares.min() > 0.01


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hop_length": 401}, "even number"),
        ({"hop_length": 0}, "hop_length"),
        ({"levels": "random"}, "uniform or fitted"),
        ({"num_levels": 1}, "at least 2 levels"),
        ({"minimum": 3.0}, "minimum < maximum"),
        ({"hop_length": 398}, "common divisor"),
        ({"num_mels": 400}, "holds no FFT bin"),
        ({"bits": 4}, "no field 'bits' in DMelConfig"),
    ],
)
def test_bad_settings(options, message):
    with pytest.raises(ValueError, match=message):
        syllabary.load("dmel", **options)
    assert issubclass(CheckpointError, ValueError)


@pytest.mark.parametrize("hop", [100, 160, 200, 320, 400, 800])
def test_vocoder_of_every_hop(hop):
    tokenizer = syllabary.load("dmel", hop_length=hop)
    wave = synthetic_speech(12_000)
    again = tokenizer.decode(tokenizer.encode(wave, 16000))[0].numpy()
    # The energy is in the right places: envelopes of 50 ms agree.
    ours, theirs = (np.sqrt((x.reshape(-1, 800) ** 2).mean(1)) for x in (again, wave))
    assert np.corrcoef(ours, theirs)[0, 1] > 0.8


def test_vocoder_survives_any_codes():
    for name in ("dmel", "dmel-fine"):
        tokenizer = syllabary.load(name)
        tokens = tokenizer.encode(torch.zeros(16000), 16000)
        assert tokenizer.decode(tokens).abs().max() < 1e-4
        shape = tokens.codes.shape
        for codes in (torch.full(shape, 15), torch.randint(0, 16, shape)):
            tokens.codes.copy_(codes)
            wave = tokenizer.decode(tokens)
            assert bool(wave.isfinite().all()) and wave.abs().max() <= 1


def test_vocoder_rows_do_not_depend_on_each_other():
    """Batched, as a GPU would run it: the same up to rounding, on its first blocks."""
    config = DMelConfig()
    mel = MelSpectrogram(dtype=torch.float64)
    vocoder = PhaseRetrievalVocoder(PhaseRetrievalConfig.for_dmel(config), mel.filters.T)
    cells = torch.randn(2, 80, vocoder.block_frames) - 2
    with torch.no_grad():
        both = vocoder.step(vocoder.init_state(2), cells - 0.3, cells + 0.3, cells)
        for row in range(2):
            part = cells[row : row + 1]
            alone = vocoder.step(vocoder.init_state(1), part - 0.3, part + 0.3, part)
            assert torch.allclose(alone[0], both[row], atol=1e-4)


def test_real_speech_sounds_like_itself(speech_folder):
    """A floor below what benchmarks/dmel_vocoder.py measures, above Griffin–Lim's 1.8 and 2.3."""
    pytest.importorskip("pesq")
    pytest.importorskip("pystoi")
    from syllabary.eval.metrics.intelligibility import stoi
    from syllabary.eval.metrics.interface import Clip
    from syllabary.eval.metrics.pesq import pesq_wb

    items = [
        item
        for item in collect([speech_folder], "test")
        if item.extra["source"].startswith("librispeech") and 3 < item.duration_s < 9
    ][::4]
    for name, least in (("dmel", (2.0, 0.85)), ("dmel-fine", (2.5, 0.9))):
        tokenizer = syllabary.load(name)
        scores = []
        for item in items:
            wave, rate = read(item.path)
            again = tokenizer.decode(tokenizer.encode(wave, rate))[0].numpy()
            clip = Clip(wave, again, rate)
            scores.append((pesq_wb(clip), stoi(clip)))
        assert len(scores) >= 5
        assert (np.mean(scores, 0) > least).all(), np.mean(scores, 0)

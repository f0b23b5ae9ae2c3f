"""What real originals have of the faults, alone and against what was done to them."""

import json

import numpy as np
import pytest

from syllabary.audio.files import read
from syllabary.eval.metrics.buzz import buzz, repetition
from syllabary.eval.metrics.contrast import contrasts, harmonic_contrast, own_contrast
from syllabary.eval.metrics.haze import haze, pulsing
from syllabary.eval.metrics.interface import Clip, MetricError
from syllabary.eval.metrics.scoring import mean
from syllabary.eval.metrics.tilt import middle_level, spectral_tilt
from syllabary.eval.metrics.voiced_frames import voiced_pitch
from syllabary.eval.systems.references import Narrow, Noise

pytest.importorskip("pyworld")

METRICS = (buzz, harmonic_contrast, own_contrast, haze, spectral_tilt, middle_level)


@pytest.fixture(scope="module")
def sentences(speech_folder):
    """Twelve sentences of the test split, of as many sources as it has of long ones."""
    lines = (speech_folder / "manifest.jsonl").read_text().splitlines()
    items = [item for item in map(json.loads, lines) if item["split"] == "test"]
    long = [item for item in items if 3 < item["duration_s"] < 10]
    chosen = long[:: max(1, len(long) // 12)][:12]
    return [read(speech_folder / item["path"], 16000)[0] for item in chosen]


def over(sentences, metric, change):
    scores = []
    for wave in sentences:
        try:
            scores.append(metric(Clip(wave, change(wave).astype(np.float32), 16000)))
        except MetricError as error:
            assert "of the original" in str(error) or "in the original" in str(error)
    return mean(scores)


@pytest.mark.parametrize("metric", METRICS)
def test_originals_are_at_zero_at_any_volume(sentences, metric):
    assert over(sentences, metric, lambda wave: wave) == 0
    assert abs(over(sentences, metric, lambda wave: 0.1 * wave)) < 0.01


def test_what_originals_have(sentences):
    """No buzz to speak of, a contrast of some 10 dB, and hiss that pulses."""
    from syllabary.eval.metrics.buzz import _fricatives

    found = [repetition(wave, _fricatives(wave, 16000)[0]) for wave in sentences]
    assert np.concatenate(found).mean() < 0.04
    levels, depths = [], []
    for wave in sentences:
        try:
            pitch, points = voiced_pitch(wave, "this")
        except MetricError:
            continue  # DIO hears no voice in one
        levels.append(contrasts(wave, pitch, points))
        depths.append(pulsing(wave, pitch, points)[0])
    assert len(levels) > 9
    assert 7 < np.concatenate(levels).mean() < 16
    assert 0.4 < np.concatenate(depths).mean() < 1


def test_noise_is_no_buzz_and_has_neither_contrast_nor_pulses(sentences):
    noisy = {
        level: lambda wave, level=level: wave + 10 ** (-level / 20) * Noise().reconstruct(wave).wave
        for level in (30, 10)
    }
    for change in (*noisy.values(), lambda wave: Noise().reconstruct(wave).wave):
        assert abs(over(sentences, buzz, change)) < 0.03
    for metric in (harmonic_contrast, own_contrast):
        assert over(sentences, metric, noisy[10]) < over(sentences, metric, noisy[30]) - 1 < -1.2
    assert over(sentences, haze, noisy[10]) > over(sentences, haze, noisy[30]) > 0.01
    assert over(sentences, spectral_tilt, noisy[10]) > over(sentences, spectral_tilt, noisy[30]) > 0


def test_narrow_band_speech_has_but_one_fault(sentences):
    def narrow(wave):
        return Narrow().reconstruct(wave).wave

    assert abs(over(sentences, buzz, narrow)) < 0.03
    assert abs(over(sentences, harmonic_contrast, narrow)) < 0.05
    assert abs(over(sentences, middle_level, narrow)) < 0.05
    assert over(sentences, spectral_tilt, narrow) > 5
    with pytest.raises(MetricError, match="reconstruction has nothing above 5 kHz"):
        haze(Clip(sentences[0], narrow(sentences[0]), 16000))

import numpy as np
import pytest

from syllabary.eval.metrics.interface import Clip, MetricError, Ratio
from syllabary.eval.metrics.pitch import gross_pitch_error, pitch_correlation, voicing_error

pytest.importorskip("pyworld")


def voice(pitch):
    """Harmonics of a pitch given sample by sample."""
    phase = 2 * np.pi * np.cumsum(pitch) / 16000
    return (0.05 * sum(np.sin(k * phase) / k for k in range(1, 15))).astype(np.float32)


RISING = np.linspace(110, 190, 24000)


@pytest.mark.parametrize("offset", [0, 25, -15])
def test_a_known_offset(offset):
    clip = Clip(voice(RISING), voice(RISING + offset), 16000)
    assert pitch_correlation(clip) == pytest.approx(1, abs=0.003)
    errors = voicing_error(clip)
    assert errors.denominator == 151 and errors.numerator <= 6
    # 25 Hz is more than a fifth below 125 Hz.
    gross = (RISING[::160] < 125).sum() if offset == 25 else 0
    assert abs(gross_pitch_error(clip).numerator - gross) <= 4


def test_the_other_way():
    assert pitch_correlation(Clip(voice(RISING), voice(RISING[::-1]), 16000)) < -0.99
    far = gross_pitch_error(Clip(voice(RISING), voice(1.3 * RISING), 16000))
    near = gross_pitch_error(Clip(voice(RISING), voice(1.1 * RISING), 16000))
    assert far.numerator > 0.95 * far.denominator > 100 and near.numerator == 0


def test_voicing_that_is_lost():
    whole = voice(RISING)
    half = whole.copy()
    half[12000:] = 0.01 * np.random.default_rng(0).standard_normal(12000)
    errors = voicing_error(Clip(whole, half, 16000))
    assert errors.numerator / errors.denominator == pytest.approx(0.5, abs=0.05)
    assert voicing_error(Clip(half, half, 16000)) == Ratio(0, 151)
    silent = voicing_error(Clip(whole, 0 * whole, 16000))
    assert silent.numerator > 0.95 * silent.denominator


def test_what_has_no_pitch():
    noise = 0.01 * np.random.default_rng(0).standard_normal(24000).astype(np.float32)
    whole = voice(RISING)
    with pytest.raises(MetricError, match="frames voiced in both; expected at least 20"):
        pitch_correlation(Clip(whole, 0 * whole, 16000))
    with pytest.raises(MetricError, match="no frame is voiced in both"):
        gross_pitch_error(Clip(whole, 0 * whole, 16000))
    with pytest.raises(MetricError, match="no voiced frame"):
        voicing_error(Clip(noise[:800], whole[:800], 16000))
    with pytest.raises(MetricError, match="reference is silent"):
        voicing_error(Clip(0 * whole, whole, 16000))


def test_a_quarter_of_the_rate_is_enough(demo_clip):
    """DIO on the decimated signal against DIO on all of it."""
    import pyworld

    from syllabary.audio.files import read
    from syllabary.eval.metrics.pitch import pitch_track

    wave = read(demo_clip)[0]
    coarse = pyworld.dio(wave.astype(float), 16000, f0_floor=60, f0_ceil=500, frame_period=10)
    whole = pyworld.stonemask(wave.astype(float), *coarse, 16000)
    quick = pitch_track(wave, 16000)
    assert ((whole > 0) != (quick > 0)).mean() < 0.02
    both = (whole > 0) & (quick > 0)
    assert (np.abs(quick[both] / whole[both] - 1) > 0.02).mean() < 0.02

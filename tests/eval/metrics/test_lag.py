import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syllabary.eval.metrics.interface import Clip, MetricError
from syllabary.eval.metrics.lag import lag

from ...conftest import synthetic_speech


@given(st.floats(-40, 40), st.sampled_from([8000, 16000, 24000]))
@settings(deadline=None, max_examples=15)
def test_a_shift_is_found(ms, sample_rate):
    wave = synthetic_speech(sample_rate, sample_rate=sample_rate)
    shift = round(ms * sample_rate / 1000)
    late = np.roll(wave, shift) * -0.5
    assert lag(Clip(wave, late, sample_rate)) == pytest.approx(1000 * shift / sample_rate, abs=0.2)


def test_what_has_no_lag():
    wave = synthetic_speech(8000)
    assert lag(Clip(wave, wave, 16000)) == 0
    assert lag(Clip(wave[:300], wave[:300], 16000)) == 0
    with pytest.raises(MetricError, match="reconstruction is silent"):
        lag(Clip(wave, 0 * wave, 16000))

import numpy as np
import pytest

from syllabary.eval import analysis_cache as module
from syllabary.eval.analysis_cache import remembered


def test_equal_samples_are_analysed_once(monkeypatch):
    monkeypatch.setattr(module, "SIZE", 2)
    calls = []

    @remembered
    def peak(wave, sample_rate):
        calls.append(sample_rate)
        if not wave.size:
            raise ValueError("empty")
        return float(wave.max())

    one, two, three = (np.full(4, value) for value in (1, 2, 3))
    assert peak(one, 8000) == peak(one.astype(np.float32), 8000) == 1 and len(calls) == 1
    assert peak(one, 16000) == 1 and peak(one, 8000) == 1 and len(calls) == 2
    assert peak(two, 8000) == 2 and peak(one, 8000) == 1 and len(calls) == 3
    assert peak(three, 8000) == 3 and peak(two, 8000) == 2 and len(calls) == 5  # it was the oldest
    for count in (6, 7):  # what is raised is not kept
        with pytest.raises(ValueError, match="empty"):
            peak(one[:0], 8000)
        assert len(calls) == count

"""Times in buckets."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from syllabary.codecs.streaming.latency import Histogram, StreamTiming, Timing

from ... import tiny_codecs

TIMES = st.floats(0, 500, allow_nan=False)


@given(times=st.lists(TIMES, min_size=1, max_size=50), part=st.sampled_from([0.1, 0.5, 0.99, 1.0]))
def test_quantiles_are_never_below_and_at_most_a_bucket_above(times, part):
    histogram = Histogram()
    for value in times:
        histogram.add(value)
    exact = float(np.quantile(times, part, method="inverted_cdf"))
    said = histogram.quantile(part)
    assert exact * (1 - 1e-12) <= said <= max(exact * 2 ** (1 / 64) * (1 + 1e-9), 1e-6)
    assert histogram.largest == max(times)
    assert histogram.total == pytest.approx(sum(times))


@given(first=st.lists(TIMES, max_size=20), second=st.lists(TIMES, max_size=20))
def test_merging_is_counting_together(first, second):
    parts, whole = [Histogram(), Histogram()], Histogram()
    for histogram, values in zip(parts, (first, second), strict=True):
        for value in values:
            histogram.add(value)
            whole.add(value)
    parts[0].merge(parts[1])
    assert parts[0].counts == whole.counts and parts[0].largest == whole.largest
    assert parts[0].total == pytest.approx(whole.total)


def test_many_at_once_and_beyond_the_buckets():
    histogram = Histogram()
    assert histogram.quantile(0.5) == 0
    histogram.add(0.001, 99)
    histogram.add(5e9)
    histogram.add(0)
    assert histogram.counts.total() == 101 and histogram.largest == 5e9
    assert histogram.total == pytest.approx(0.099 + 5e9)
    assert histogram.quantile(0.5) == pytest.approx(0.001, rel=0.011)


def test_memory_does_not_grow():
    histogram = Histogram()
    for value in np.geomspace(1e-9, 1e6, 20_000):
        histogram.add(float(value))
    assert len(histogram.counts) <= 30 * 64


def test_nothing_was_measured_yet():
    stats = Timing().stats(16000)
    assert stats.calls == stats.call_p99_ms == stats.real_time_factor == 0


def test_calls_that_give_no_frame_count_for_the_next():
    timing = Timing()
    for seconds, frames in ((0.1, 0), (0.1, 0), (0.2, 2), (0.05, 1)):
        timing.record(seconds, frames, 4000)
    stats = timing.stats(16000)
    assert (stats.calls, stats.frames, stats.audio_seconds) == (4, 3, 1.0)
    assert stats.seconds == stats.real_time_factor == pytest.approx(0.45)
    assert stats.call_max_ms == pytest.approx(200)
    assert 100 <= stats.call_p50_ms < 110 and 200 <= stats.call_p99_ms < 220
    # Two frames took 0.4 s together, the third 0.05 s.
    assert 200 <= stats.frame_p50_ms < 220 and 200 <= stats.frame_p99_ms < 220


def test_a_session_says_what_it_took():
    codec = tiny_codecs.rvq(encoder_look_ahead=1, decoder_look_ahead=2)
    session = codec.stream(batch_size=2)
    assert session.stats.encode.calls == 0
    for _ in range(10):
        session.decode(session.encode(torch.zeros(2, 320)))
    stats = session.stats
    assert stats.encode.calls == stats.decode.calls == 10
    assert stats.encode.frames == stats.decode.frames == 18
    assert stats.encode.audio_seconds == pytest.approx(2 * 10 * 0.02)
    assert stats.decode.audio_seconds == pytest.approx(2 * 9 * 0.02)
    assert 0 < stats.encode.call_p50_ms <= stats.encode.call_p99_ms <= stats.encode.call_max_ms
    assert stats.encoder_latency_ms == 40 and stats.decoder_latency_ms == 55
    assert stats.encode.seconds > 0 and stats.decode.real_time_factor > 0


def test_latency_of_whole_utterances_is_not_a_number():
    class Spec:
        sample_rate, encoder_latency, decoder_latency = 16000, None, 0

    stats = StreamTiming().stats(Spec())
    assert stats.encoder_latency_ms is None and stats.decoder_latency_ms == 0

"""Measure how long calls take: always on, in constant memory.

Times are counted in buckets, 64 per octave, so a reported quantile is at most 1.1 % above the true
one, at about a microsecond per call. Only non-empty buckets take memory, some kilobytes.
"""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..spec import TokenizerSpec

_LEAST = 1e-6  # seconds; the first bucket ends here
_PER_OCTAVE = 64
_BUCKETS = 30 * _PER_OCTAVE  # to a quarter of an hour


@dataclass(frozen=True, repr=False)
class CallStats:
    """Durations of the calls of `encode`, or of `decode`.

    Attributes:
        calls: number of calls.
        frames: number of frames encoded, or decoded.
        seconds: wall time of all calls together.
        audio_seconds: of the audio encoded, or decoded, over all rows.
        call_p50_ms, call_p99_ms, call_max_ms: duration of a call.
        frame_p50_ms, frame_p99_ms: processing time per frame: the calls since frames last came
            out, divided by the number of frames that came out, of all rows.
    """

    calls: int
    frames: int
    seconds: float
    audio_seconds: float
    call_p50_ms: float
    call_p99_ms: float
    call_max_ms: float
    frame_p50_ms: float
    frame_p99_ms: float

    @property
    def real_time_factor(self) -> float:
        """Processing time divided by audio time; 0.01 is a hundred times faster than real time."""
        return self.seconds / self.audio_seconds if self.audio_seconds else 0.0

    def __repr__(self) -> str:
        if not self.calls:
            return "no calls"
        factor = self.real_time_factor
        speed = f" ({1 / factor:.3g} × real time)" if factor else ""
        return (
            f"{self.calls:,} calls, {self.frames:,} frames, {self.audio_seconds:.2f} s of audio in "
            f"{self.seconds:.3g} s{speed}; a call takes {self.call_p50_ms:.3g} ms (p99 "
            f"{self.call_p99_ms:.3g}, at most {self.call_max_ms:.3g})"
        )


@dataclass(frozen=True, repr=False)
class StreamStats:
    """Measured processing times and algorithmic latency of a stream.

    Attributes:
        encode, decode: measured.
        encoder_latency_ms, decoder_latency_ms: algorithmic latency: from a frame's first sample to
            its code, and from a code to its samples, with computation taken as instant. None if the
            whole utterance is needed.
    """

    encode: CallStats
    decode: CallStats
    encoder_latency_ms: float | None
    decoder_latency_ms: float | None

    def __repr__(self) -> str:
        latency = " + ".join(
            "the whole utterance" if value is None else f"{value:g} ms"
            for value in (self.encoder_latency_ms, self.decoder_latency_ms)
        )
        return (
            f"encode: {self.encode}\ndecode: {self.decode}\n"
            f"algorithmic latency, encoder + decoder: {latency}"
        )


class Histogram:
    """A histogram of durations in seconds, for quantiles.

    Attributes:
        counts: number of values in each non-empty bucket.
        total, largest: of all values.
    """

    def __init__(self) -> None:
        self.counts: Counter[int] = Counter()
        self.total = self.largest = 0.0

    def add(self, seconds: float, times: int = 1) -> None:
        """Add a value, `times` times."""
        octaves = math.log2(seconds / _LEAST) if seconds > _LEAST else 0.0
        self.counts[min(_BUCKETS - 1, math.ceil(octaves * _PER_OCTAVE))] += times
        self.total += seconds * times
        self.largest = max(self.largest, seconds)

    def merge(self, other: "Histogram") -> None:
        """Add the values of another histogram."""
        self.counts.update(other.counts)
        self.total += other.total
        self.largest = max(self.largest, other.largest)

    def quantile(self, part: float) -> float:
        """Return the value that a share `part` of all values do not exceed; 0 if there are none."""
        due, seen = part * self.counts.total(), 0
        for bucket, count in sorted(self.counts.items()):
            seen += count
            if seen >= due:
                return min(_LEAST * 2 ** (bucket / _PER_OCTAVE), self.largest)
        return 0.0


class Timing:
    """Durations of the calls of one kind, `encode` or `decode`."""

    def __init__(self) -> None:
        self.calls = self.frames = self.samples = 0
        self.per_call, self.per_frame = Histogram(), Histogram()
        self._since = 0.0  # seconds of calls without output, since the last call with output

    def record(self, seconds: float, frames: int, samples: int) -> None:
        """Add a call of `seconds` that processed `frames` and `samples`, over all rows."""
        self.calls += 1
        self.frames += frames
        self.samples += samples
        self.per_call.add(seconds)
        self._since += seconds
        if frames:
            self.per_frame.add(self._since / frames, frames)
            self._since = 0.0

    def merge(self, other: "Timing") -> None:
        """Add the calls of another timing."""
        self.calls += other.calls
        self.frames += other.frames
        self.samples += other.samples
        self.per_call.merge(other.per_call)
        self.per_frame.merge(other.per_frame)

    def stats(self, sample_rate: int) -> CallStats:
        """Return the statistics so far."""
        return CallStats(
            calls=self.calls,
            frames=self.frames,
            seconds=self.per_call.total,
            audio_seconds=self.samples / sample_rate,
            call_p50_ms=1000 * self.per_call.quantile(0.5),
            call_p99_ms=1000 * self.per_call.quantile(0.99),
            call_max_ms=1000 * self.per_call.largest,
            frame_p50_ms=1000 * self.per_frame.quantile(0.5),
            frame_p99_ms=1000 * self.per_frame.quantile(0.99),
        )


class StreamTiming:
    """Durations of the calls of `encode` and of `decode`."""

    def __init__(self) -> None:
        self.encode, self.decode = Timing(), Timing()

    def merge(self, other: "StreamTiming") -> None:
        """Add the calls of another timing."""
        self.encode.merge(other.encode)
        self.decode.merge(other.decode)

    @classmethod
    def of(cls, parts: Iterable["StreamTiming"]) -> "StreamTiming":
        """Return one timing with the calls of several."""
        total = cls()
        for part in parts:
            total.merge(part)
        return total

    def stats(self, spec: "TokenizerSpec") -> StreamStats:
        """Return the statistics so far, with the algorithmic latency."""
        encoder, decoder = (
            None if samples is None else 1000 * samples / spec.sample_rate
            for samples in (spec.encoder_latency, spec.decoder_latency)
        )
        rate = spec.sample_rate
        return StreamStats(self.encode.stats(rate), self.decode.stats(rate), encoder, decoder)

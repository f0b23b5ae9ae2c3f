"""How long calls take: always on, in constant memory.

Times go into buckets, 64 to an octave, so that a quantile is at most 1.1 % above what it was, and a
call costs a microsecond more. Only buckets that something fell into take memory, some kilobytes.
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


@dataclass(frozen=True)
class CallStats:
    """How long the calls of `encode`, or of `decode`, took.

    Attributes:
        calls: how many there were.
        frames: that they gave, or took.
        seconds: all calls together, real time.
        audio_seconds: of audio that they took, or that the tokens stand for, all rows together.
        call_p50_ms, call_p99_ms, call_max_ms: of a call.
        frame_p50_ms, frame_p99_ms: of a frame: of all calls since the one before, over the frames
            that they gave, whatever the row.
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
        """Seconds of work for a second of audio; 0.01 is a hundred times real time."""
        return self.seconds / self.audio_seconds if self.audio_seconds else 0.0


@dataclass(frozen=True)
class StreamStats:
    """What a stream costs.

    Attributes:
        encode, decode: measured.
        encoder_latency_ms, decoder_latency_ms: by the algorithm, on an infinitely fast machine:
            between a frame's first sample and its code, and by which samples lag behind their
            codes. None where a whole utterance is needed.
    """

    encode: CallStats
    decode: CallStats
    encoder_latency_ms: float | None
    decoder_latency_ms: float | None


class Histogram:
    """Quantiles of many values, in seconds.

    Attributes:
        counts: of the values in each bucket that has some.
        total, largest: of all values.
    """

    def __init__(self) -> None:
        self.counts: Counter[int] = Counter()
        self.total = self.largest = 0.0

    def add(self, seconds: float, times: int = 1) -> None:
        """Count a value so many times."""
        octaves = math.log2(seconds / _LEAST) if seconds > _LEAST else 0.0
        self.counts[min(_BUCKETS - 1, math.ceil(octaves * _PER_OCTAVE))] += times
        self.total += seconds * times
        self.largest = max(self.largest, seconds)

    def merge(self, other: "Histogram") -> None:
        """Count what another one counted."""
        self.counts.update(other.counts)
        self.total += other.total
        self.largest = max(self.largest, other.largest)

    def quantile(self, part: float) -> float:
        """The value that at least `part` of all values do not exceed; 0 where there are none."""
        due, seen = part * self.counts.total(), 0
        for bucket, count in sorted(self.counts.items()):
            seen += count
            if seen >= due:
                return min(_LEAST * 2 ** (bucket / _PER_OCTAVE), self.largest)
        return 0.0


class Timing:
    """Times of the calls of one kind."""

    def __init__(self) -> None:
        self.calls = self.frames = self.samples = 0
        self.per_call, self.per_frame = Histogram(), Histogram()
        self._since = 0.0  # seconds of the calls that gave no frame, since one did

    def record(self, seconds: float, frames: int, samples: int) -> None:
        """Count a call that took so long, for so many frames and samples of all rows."""
        self.calls += 1
        self.frames += frames
        self.samples += samples
        self.per_call.add(seconds)
        self._since += seconds
        if frames:
            self.per_frame.add(self._since / frames, frames)
            self._since = 0.0

    def merge(self, other: "Timing") -> None:
        """Count the calls that another one counted."""
        self.calls += other.calls
        self.frames += other.frames
        self.samples += other.samples
        self.per_call.merge(other.per_call)
        self.per_frame.merge(other.per_frame)

    def stats(self, sample_rate: int) -> CallStats:
        """What was counted so far."""
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
    """Times of both kinds of calls."""

    def __init__(self) -> None:
        self.encode, self.decode = Timing(), Timing()

    def merge(self, other: "StreamTiming") -> None:
        """Count the calls that another one counted."""
        self.encode.merge(other.encode)
        self.decode.merge(other.decode)

    @classmethod
    def of(cls, parts: Iterable["StreamTiming"]) -> "StreamTiming":
        """All calls of several."""
        total = cls()
        for part in parts:
            total.merge(part)
        return total

    def stats(self, spec: "TokenizerSpec") -> StreamStats:
        """What was counted so far, beside what the algorithm needs."""
        encoder, decoder = (
            None if samples is None else 1000 * samples / spec.sample_rate
            for samples in (spec.encoder_latency, spec.decoder_latency)
        )
        rate = spec.sample_rate
        return StreamStats(self.encode.stats(rate), self.decode.stats(rate), encoder, decoder)

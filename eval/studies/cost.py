"""Cost of a system: size, arithmetic, latency, time and memory."""

import platform
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from ...codecs.interface import AudioTokenizer
from ...cores import torch_threads, usable_cores
from ...errors import SyllabaryError
from ..metrics.interface import MetricError
from ..systems.interface import System
from .interface import Bench, Findings, Study, Value
from .peak_memory import peak_memory

#: Seconds of the timed clip, of each row of the batch, and of the stream.
CLIP, ROW, STREAM = 10.0, 4.0, 4.0
ROWS = 8
#: Timed rounds, after a warm-up round; fewer if a round takes longer than `_SLOW` s.
ROUNDS, FEWER = 5, 3
_SLOW = 1.5
_LEAST_FRAMES = 20  # minimal number of calls for a 99th percentile


def processor_time() -> float:
    """Return the processor time in seconds of this process and its finished children."""
    mine, theirs = (
        resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return mine.ru_utime + mine.ru_stime + theirs.ru_utime + theirs.ru_stime


def median_times(
    calls: dict[str, Callable[[], object]], clock: Callable[[], float] = processor_time
) -> tuple[dict[str, float], int]:
    """Return the median seconds of each call, all in alternation, and the number of rounds.

    A first warm-up round, which may compile or allocate, is not counted.
    """
    taken: dict[str, list[float]] = {name: [] for name in calls}
    wanted, number = ROUNDS, 0
    while number <= wanted:
        begun = clock()
        for name, call in calls.items():
            start = clock()
            call()
            if number:
                taken[name].append(clock() - start)
        if clock() - begun > _SLOW:
            wanted = FEWER
        number += 1
    return {name: statistics.median(times) for name, times in taken.items()}, wanted


def run(bench: Bench) -> Findings:
    """Measure on one thread, and take the other figures from the spec."""
    reason = unsuitable(bench.system)
    if reason:
        raise MetricError(reason)
    findings = Findings()
    clip = clip_of(bench, CLIP, _nearest(bench, CLIP))
    tokenizer = bench.system.tokenizer
    with torch_threads(1):
        if tokenizer is None:
            _codec_times(bench.system, clip, findings)
        else:
            _declared(tokenizer, findings)
            kept = bench.system.num_codebooks or tokenizer.spec.tokens.num_codebooks
            _tokenizer_times(tokenizer, kept, clip, findings)
            _batch_time(tokenizer, kept, bench, findings)
            _stream_times(tokenizer, kept, clip, findings)
    _memory(bench.system, clip, findings)
    findings.notes.append(
        f"Times are of the processor, on one thread of {machine()}; they differ between machines, "
        "and by some percent between runs where others use the machine. The clip has "
        f"{len(clip) / bench.system.sample_rate:.1f} s."
    )
    return findings


def clip_of(bench: Bench, seconds: float, start: int = 0) -> np.ndarray:
    """Return (samples,) float32 of enough consecutive utterances, from an item on.

    Raises:
        MetricError: the readable items have no samples.
    """
    wanted = round(seconds * bench.system.sample_rate)
    parts: list[np.ndarray] = []
    got = 0
    for turn in range(2 * len(bench.items)):
        if got >= wanted:
            break
        try:
            parts.append(bench.wave(bench.items[(start + turn) % len(bench.items)]))
        except (SyllabaryError, OSError):
            continue
        got += len(parts[-1])
    if not got:
        raise MetricError("the utterances hold no samples")
    whole = np.concatenate(parts).astype(np.float32)
    return np.tile(whole, -(-wanted // got))[:wanted]


def _nearest(bench: Bench, seconds: float) -> int:
    """Return the item of the nearest duration; the first one if none is known."""
    known = [
        (abs(item.duration_s - seconds), index)
        for index, item in enumerate(bench.items)
        if item.duration_s is not None
    ]
    return min(known, default=(0.0, 0))[1]


def _declared(tokenizer: AudioTokenizer, findings: Findings) -> None:
    spec = tokenizer.spec
    millions = spec.parameters / 1e6
    findings.values.append(Value("parameters", "parameters", millions, False, "M", 2))
    if spec.macs_per_second is None:
        findings.missing["macs"] = "not counted for this tokenizer"
    else:
        giga = spec.macs_per_second / 1e9
        findings.values.append(Value("macs", "MACs a second of audio", giga, False, "G", 3))
    if spec.latency_ms is None:
        findings.missing["latency"] = "unbounded: it needs whole utterances"
    else:
        findings.values.append(Value("latency", "latency", spec.latency_ms, False, "ms", 1))


def _tokenizer_times(
    tokenizer: AudioTokenizer, kept: int, clip: np.ndarray, findings: Findings
) -> None:
    rate = tokenizer.spec.sample_rate
    tokens = tokenizer.encode(clip, rate, num_codebooks=kept)
    calls: dict[str, Callable[[], object]] = {
        "encode": lambda: tokenizer.encode(clip, rate, num_codebooks=kept),
        "decode": lambda: tokenizer.decode(tokens),
    }
    times, rounds = median_times(calls)
    for name, seconds in times.items():
        findings.values.append(_times_real(name, len(clip) / rate, seconds, rounds))


def _codec_times(system: System, clip: np.ndarray, findings: Findings) -> None:
    times, rounds = median_times({"both": lambda: system.reconstruct(clip)})
    value = _times_real("both", len(clip) / system.sample_rate, times["both"], rounds)
    findings.values.append(value)
    findings.notes.append(
        "There and back at once, with the start of its programs and their files, if it has some."
    )


def _times_real(name: str, audio: float, seconds: float, rounds: int) -> Value:
    heading = "there and back" if name == "both" else name
    if seconds <= 0:
        raise MetricError("it took no time that the clock can tell")
    return Value(name, heading, audio / seconds, True, "× real time", 1, count=rounds)


def _batch_time(tokenizer: AudioTokenizer, kept: int, bench: Bench, findings: Findings) -> None:
    rate = tokenizer.spec.sample_rate
    far = max(1, len(bench.items) // ROWS)
    batch = np.stack([clip_of(bench, ROW, row * far) for row in range(ROWS)])

    def there_and_back() -> None:
        tokenizer.decode(tokenizer.encode(batch, rate, num_codebooks=kept))

    times, rounds = median_times({"batch": there_and_back})
    through = batch.size / rate / times["batch"]
    heading = f"{ROWS} rows there and back"
    value = Value("batch", heading, through, True, "s of audio a second", 1, count=rounds)
    findings.values.append(value)


def _stream_times(
    tokenizer: AudioTokenizer, kept: int, clip: np.ndarray, findings: Findings
) -> None:
    """Measure the call durations in ms of a session that gets one frame at a time."""
    hop = tokenizer.spec.tokens.hop
    times: dict[str, list[float]] = {"encode": [], "decode": []}
    begun = time.process_time()
    try:
        with tokenizer.stream(num_codebooks=kept) as session:
            for start in range(0, round(STREAM * tokenizer.spec.sample_rate) - hop, hop):
                first = time.process_time()
                tokens = session.encode(clip[start : start + hop])
                between = time.process_time()
                session.decode(tokens)
                times["encode"].append(1000 * (between - first))
                times["decode"].append(1000 * (time.process_time() - between))
                slow = time.process_time() - begun > 4 * _SLOW
                if slow and len(times["encode"]) >= _LEAST_FRAMES:
                    break
    except (ValueError, RuntimeError) as error:
        for name in times:
            findings.missing[f"stream-{name}"] = f"{type(error).__name__}: {error}"
        return
    for name, values in times.items():
        for share in (50, 99):
            label, heading = f"stream-{name}-p{share}", f"{name} a frame, {share} %"
            milliseconds = float(np.percentile(values, share))
            value = Value(label, heading, milliseconds, False, "ms", 2, count=len(values))
            findings.values.append(value)


def _memory(system: System, clip: np.ndarray, findings: Findings) -> None:
    """Measure memory; only for systems in this process, since Linux counts the parent's memory in a
    program's peak.
    """
    if not getattr(system, "in_process", True):
        findings.missing["memory"] = "its programs run beside this process"
        return
    try:
        megabytes = peak_memory(getattr(system, "given", system.name), clip)
    except MetricError as error:
        findings.missing["memory"] = str(error)
        return
    findings.values.append(Value("memory", "peak memory", megabytes, False, "MB", 0))
    findings.notes.append(
        f"Peak memory: of a process of its own, {len(clip) / system.sample_rate:.0f} s there and "
        "back, above what it holds after importing PyTorch; weights and compiled code are in it."
    )


def machine() -> str:
    """Describe the processor, available cores, and PyTorch's threads."""
    return (
        f"{_processor()} ({usable_cores()} core(s) usable, {torch.get_num_threads()} thread(s) of "
        f"PyTorch {torch.__version__})"
    )


def _processor() -> str:
    """Return the processor's model name if Linux reports it."""
    try:
        lines: Sequence[str] = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = ()
    for line in lines:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def unsuitable(system: System) -> str | None:
    """Return why a system's cost can't be measured."""
    return "a reference, not a codec" if system.kind == "reference" else None


STUDY = Study(
    name="cost",
    heading="Cost",
    run=run,
    description=(
        "Parameters, multiply-accumulates and algorithmic latency as the tokenizer declares them. "
        f"Measured on one thread: how many times faster than real time {CLIP:g} s of speech are "
        f"encoded and decoded (medians of at least {FEWER} rounds, in turns), seconds of audio "
        f"that go there and back a second in a batch of {ROWS} × {ROW:g} s, milliseconds a frame "
        "of a stream, and peak memory."
    ),
    unsuitable=unsuitable,
    alone=True,
)

"""How fast neural codecs encode and decode, whole clips and frame by frame, beside their peers.

    taskset -c 0 python benchmarks/codec_speed.py --codec rvq-16k --codec fsq-16k --threads 1

A codec is any name that `syllabary.load` takes, or `random:rvq`, `random:fsq`, `random:ts3`,
`random:vocoder` (dMel with the neural vocoder) for what ships with random weights, which run as
fast. The peers are EnCodec as transformers has it, with random weights and its weight norm folded,
at 24 kHz, and the same layers at 16 kHz; transformers' Mimi with 8 codebooks and random weights;
and Lyra v2 through LiteRT, 16 quantizers (3.2 kbit/s), a frame of 20 ms a call as it is made for.
All take turns in one process; medians of the rounds are compared. Time is that of the processor, so
that other work on the machine does not count, but for what it takes from the caches; `--clock wall`
is for several threads.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import syllabary
from syllabary.eval.systems.interface import MissingSystemError
from syllabary.eval.systems.lyra import WEIGHTS, Lyra

sys.path.insert(0, __file__.rpartition("/")[0])
from timing import machine

CLOCKS = {"cpu": time.process_time, "wall": time.perf_counter}
_BANDWIDTH = 6.0  # kbit/s at 24 kHz: 8 codebooks, as many as rvq has


def speech_like(seconds: float, sample_rate: int, seed: int = 0) -> Tensor:
    """Pulses and noise in turns of a syllable's length, with pauses: (samples,) float32."""
    from syllabary.codecs.neural.layers.pulses import PulseTrain

    generator = torch.Generator().manual_seed(seed)
    hop = sample_rate // 100
    points = -(-int(seconds * sample_rate) // hop)
    pitch = 110 * 2 ** (0.5 * torch.sin(torch.arange(points) / 40) + 0.3)
    train = PulseTrain(sample_rate, hop, 0.45 * sample_rate)
    start = pitch[:1], torch.zeros(1, dtype=torch.float64)
    pulses, _, _ = train(pitch[None], *start)
    kinds = torch.rand(points // 15 + 1, 3, generator=generator)
    kinds = kinds.repeat_interleave(15 * hop, 0)[: pulses.shape[1]]
    noise = torch.randn(pulses.shape[1], generator=generator)
    loud = 0.1 * (kinds[:, 0] > 0.2)
    return (loud * (kinds[:, 1] * pulses[0] + 0.3 * kinds[:, 2] * noise))[
        : int(seconds * sample_rate)
    ]


def random_codec(kind: str) -> Any:
    """The default configuration with random weights."""
    torch.manual_seed(0)
    if kind == "rvq":
        from syllabary.codecs.rvq.tokenizer import RVQCodec, RVQConfig

        return RVQCodec(RVQConfig()).eval()
    if kind == "fsq":
        from syllabary.codecs.fsq.tokenizer import FSQCodec, FSQConfig

        return FSQCodec(FSQConfig()).eval()
    if kind == "ts3":
        from syllabary.codecs.ts3.tokenizer import TS3Codec
        from syllabary.training.spectral.recipes import ts3_16k

        return TS3Codec(ts3_16k().model).eval()
    if kind == "vocoder":
        from syllabary.codecs.dmel.neural_vocoder import NeuralVocoder, NeuralVocoderConfig
        from syllabary.codecs.dmel.tokenizer import DMel, DMelConfig

        return DMel(DMelConfig(), vocoder=NeuralVocoder(NeuralVocoderConfig()).eval())
    raise SystemExit(f"random:{kind}; there are random:rvq, fsq, ts3 and vocoder")


def whole_clips(codec: Any, seconds: float) -> dict[str, Callable[[], object]]:
    """Encoding and decoding a clip with one of ours."""
    rate = codec.spec.sample_rate
    wave = speech_like(seconds, rate)
    tokens = codec.encode(wave, rate)
    return {"encode": lambda: codec.encode(wave, rate), "decode": lambda: codec.decode(tokens)}


def encodec(sample_rate: int, seconds: float) -> dict[str, Callable[[], object]]:
    """Encoding and decoding a clip with EnCodec's layers at a sample rate."""
    from torch.nn.utils import parametrize
    from transformers import EncodecConfig, EncodecModel

    torch.manual_seed(0)
    model = EncodecModel(EncodecConfig(sampling_rate=sample_rate)).eval().requires_grad_(False)
    for module in list(model.modules()):
        for name in list(getattr(module, "parametrizations", {})):
            parametrize.remove_parametrizations(module, name)
    # The bandwidth that means as many codebooks at another frame rate.
    bandwidth = min(
        model.config.target_bandwidths,
        key=lambda value: abs(value - _BANDWIDTH * sample_rate / 24000),
    )
    wave = speech_like(seconds, sample_rate)[None, None]
    with torch.no_grad():
        found = model.encode(wave, bandwidth=bandwidth)

    @torch.no_grad()
    def encode() -> object:
        return model.encode(wave, bandwidth=bandwidth)

    @torch.no_grad()
    def decode() -> object:
        return model.decode(found.audio_codes, found.audio_scales)

    return {"encode": encode, "decode": decode}


def mimi(seconds: float) -> dict[str, Callable[[], object]]:
    """Encoding and decoding a clip with Mimi, 24 kHz, 1.1 kbit/s."""
    from transformers import MimiConfig, MimiModel

    torch.manual_seed(0)
    model = MimiModel(MimiConfig(num_quantizers=8)).eval().requires_grad_(False)
    wave = speech_like(seconds, 24000)[None, None]
    with torch.no_grad():
        codes = model.encode(wave, num_quantizers=8).audio_codes

    @torch.no_grad()
    def encode() -> object:
        return model.encode(wave, num_quantizers=8)

    @torch.no_grad()
    def decode() -> object:
        return model.decode(codes)

    return {"encode": encode, "decode": decode}


def lyra(seconds: float, weights: Path | None) -> dict[str, Callable[[], object]]:
    """Encoding (quantizer included) and decoding a clip with Lyra v2, frame by frame."""
    codec = Lyra("3.2", weights)
    codec.start()
    wave = speech_like(seconds, 16000).numpy()
    frames = wave[: len(wave) // Lyra.HOP * Lyra.HOP].reshape(-1, 1, Lyra.HOP)
    codes = [codec.encode(frame) for frame in frames]
    return {
        "encode": lambda: [codec.encode(frame) for frame in frames],
        "decode": lambda: [codec.decode(code) for code in codes],
    }


def peers(seconds: float, weights: Path | None) -> dict[str, dict[str, Callable[[], object]]]:
    """All that can be had."""
    makers: dict[str, Callable[[], dict[str, Callable[[], object]]]] = {
        "encodec-24k": lambda: encodec(24000, seconds),
        "encodec-16k": lambda: encodec(16000, seconds),
        "mimi": lambda: mimi(seconds),
        "lyra-v2-3.2": lambda: lyra(seconds, weights),
    }
    found = {}
    for name, make in makers.items():
        try:
            found[name] = make()
        except (MissingSystemError, ImportError) as error:
            print(f"without {name}: {error}", file=sys.stderr)
    return found


def frame_times(codec: Any, seconds: float, clock: Callable[[], float]) -> dict[str, list[float]]:
    """Milliseconds of each call of a session that gets one frame at a time."""
    rate, hop = codec.spec.sample_rate, codec.spec.tokens.hop
    wave = speech_like(seconds, rate)
    times: dict[str, list[float]] = {"encode": [], "decode": []}
    with codec.stream() as session:
        for start in range(0, wave.shape[0] - hop + 1, hop):
            begin = clock()
            tokens = session.encode(wave[start : start + hop])
            between = clock()
            session.decode(tokens)
            end = clock()
            times["encode"].append(1000 * (between - begin))
            times["decode"].append(1000 * (end - between))
    return times


def percentiles(values: list[float]) -> dict[str, float]:
    p50, p99 = np.percentile(values, [50, 99])
    return {"p50_ms": float(p50), "p99_ms": float(p99), "max_ms": max(values)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--codec", action="append", help="may be given more than once")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=10.0, help="length of a clip")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clock", choices=CLOCKS, default="cpu")
    lyra = f"Lyra's weights; default: $SYLLABARY_LYRA, or {WEIGHTS}"
    parser.add_argument("--lyra", type=Path, metavar="DIR", help=lyra)
    parser.add_argument("--output", help="also write the figures to this JSON file")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    clock = CLOCKS[given.clock]
    names = given.codec or ["random:rvq", "random:fsq", "random:vocoder"]
    codecs = {
        name: random_codec(name.removeprefix("random:"))
        if name.startswith("random:")
        else syllabary.load(name)
        for name in names
    }
    contenders = {name: whole_clips(codec, given.seconds) for name, codec in codecs.items()}
    others = peers(given.seconds, given.lyra)
    contenders |= others
    taken: dict[str, dict[str, list[float]]] = {
        name: {what: [] for what in calls} for name, calls in contenders.items()
    }
    frames: dict[str, dict[str, list[float]]] = {
        name: {"encode": [], "decode": []} for name in codecs
    }
    for number in range(given.rounds + 1):  # the first does not count
        for name, calls in contenders.items():
            for what, call in calls.items():
                start = clock()
                call()
                if number:
                    taken[name][what].append(clock() - start)
        for name, codec in codecs.items():
            for what, values in frame_times(codec, given.seconds, clock).items():
                frames[name][what] += values if number else []
    medians = {
        name: {what: statistics.median(values) for what, values in calls.items()}
        for name, calls in taken.items()
    }
    for calls in medians.values():
        calls["both"] = calls["encode"] + calls["decode"]
    print(
        f"{machine()}; clips of {given.seconds:g} s, medians of {given.rounds} rounds, "
        f"{given.clock} time\n\n"
        + "".join(f"| {column} " for column in ("codec", "what", "× real time"))
        + "".join(f"| × {peer} " for peer in others)
        + "|\n"
        + "| --- " * (3 + len(others))
        + "|"
    )
    for name, calls in medians.items():
        for what, value in calls.items():
            ratios = " | ".join(f"{medians[peer][what] / value:.1f}" for peer in others)
            print(f"| {name} | {what} | {given.seconds / value:.0f} | {ratios} |")
    print(
        "\n| codec, one frame at a time | what | p50 ms | p99 ms | max ms |\n"
        "| --- | --- | --- | --- | --- |"
    )
    streamed = {
        name: {what: percentiles(values) for what, values in calls.items()}
        for name, calls in frames.items()
    }
    for name, calls in streamed.items():
        for what, value in calls.items():
            print(
                f"| {name} | {what} | {value['p50_ms']:.2f} | {value['p99_ms']:.2f} "
                f"| {value['max_ms']:.2f} |"
            )
    if given.output:
        result = {
            "machine": machine(),
            "threads": given.threads,
            "clock": given.clock,
            "clip_seconds": given.seconds,
            "rounds": given.rounds,
            "seconds": medians,
            "all_seconds": taken,
            "streaming": streamed,
        }
        Path(given.output).write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()

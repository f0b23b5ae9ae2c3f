"""ONNX Runtime beside our compiled kernels: milliseconds a frame, one frame at a time.

    taskset -c 0 python benchmarks/onnx_speed.py --codec rvq-16k
    taskset -c 0 python benchmarks/onnx_speed.py --codec random:ts3-int8

A codec is any name that `syllabary.load` takes whose family has an ONNX form, or `random:ts3` and
`random:ts3-int8`: ts3-16k with random weights, whole or with 8-bit ones. Both sides get the same
windows and codes, carry their state from frame to frame, and take turns in one process, on one
thread. Time is that of the processor. How many codes differ is printed as well, and by how much
samples do. `--graphs DIR` keeps the graphs, and uses those that are there.
"""

import argparse
import dataclasses
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import syllabary
from syllabary.codecs.neural.onnx.export import DESCRIPTION_FILE, GRAPH_FILES, export_onnx
from syllabary.codecs.neural.onnx.steps import OnnxSteps

sys.path.insert(0, __file__.rpartition("/")[0])
from codec_speed import speech_like

from timing import machine

#: Frames in a turn.
_TURN = 10


def codec_of(name: str) -> Any:
    """A codec by name, or with random weights."""
    if not name.startswith("random:"):
        return syllabary.load(name)
    from syllabary.codecs.ts3.tokenizer import TS3Codec
    from syllabary.training.spectral.recipes import ts3_16k

    kind = name.removeprefix("random:")
    if kind not in ("ts3", "ts3-int8"):
        raise SystemExit(f"{name}; there are random:ts3 and random:ts3-int8")
    config = ts3_16k().model
    layers = {
        part: dataclasses.replace(getattr(config.network, part), int8=kind == "ts3-int8")
        for part in ("encoder", "decoder")
    }
    torch.manual_seed(0)
    network = dataclasses.replace(config.network, **layers)
    codec = TS3Codec(dataclasses.replace(config, network=network), kind).eval()
    with torch.no_grad():
        # Random latents are small; spread over many codes.
        codec.quantizer.project_in.weight.mul_(4)
    return codec


def our_steps(codec: Any) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """The codec's own streams, which take the last `hop` samples of a window."""
    encoder = codec.start_encoder(1, codec.spec.tokens.num_codebooks)
    decoder, hop = codec.start_decoder(1), codec.network.hop

    def encode(windows: np.ndarray) -> np.ndarray:
        return encoder.push([torch.from_numpy(windows[0, -hop:])], False)[0].numpy()

    def decode(codes: np.ndarray) -> np.ndarray:
        return decoder.push([torch.from_numpy(codes.T.copy())], False)[0].numpy()

    return {"encoder": encode, "decoder": decode}


def windows_of(codec: Any, seconds: float) -> np.ndarray:
    """All windows (frames, window) of something like speech."""
    network = codec.network
    wave = speech_like(seconds, network.sample_rate).numpy()
    padded = np.pad(wave, (network.window - network.hop, 0))
    view = np.lib.stride_tricks.sliding_window_view(padded, network.window)
    return np.ascontiguousarray(view[:: network.hop])


def turns(
    contenders: dict[str, Callable[[np.ndarray], np.ndarray]], frames: np.ndarray
) -> tuple[dict[str, list[float]], dict[str, np.ndarray]]:
    """Milliseconds of each frame and results, of contenders that take turns."""
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    results: dict[str, list[np.ndarray]] = {name: [] for name in contenders}
    for start in range(0, len(frames), _TURN):
        for name, step in contenders.items():
            for frame in frames[start : start + _TURN]:
                begin = time.thread_time()
                result = step(frame[None])
                taken[name].append(1000 * (time.thread_time() - begin))
                results[name].append(result.reshape(-1))
    # What compiles or warms up does not count.
    return (
        {name: values[_TURN:] for name, values in taken.items()},
        {name: np.concatenate(values) for name, values in results.items()},
    )


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--codec", default="rvq-16k")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of the clip")
    parser.add_argument("--graphs", type=Path, metavar="DIR")
    given = parser.parse_args()
    torch.set_num_threads(1)
    codec = codec_of(given.codec)
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.graphs or Path(temporary)
        if not (folder / DESCRIPTION_FILE).exists():
            export_onnx(codec, folder)
        sizes = [f"{(folder / name).stat().st_size / 1e6:.1f}" for name in GRAPH_FILES]
        theirs = {part: OnnxSteps(folder, part) for part in ("encoder", "decoder")}
    if theirs["encoder"].description["digest"] != codec.spec.tokens.digest:
        raise SystemExit(f"{folder} has graphs of other weights than {given.codec}")
    ours = our_steps(codec)
    frames = {"encoder": windows_of(codec, given.seconds)}
    print(f"{machine()}; graphs of {' and '.join(sizes)} MB\n")
    print("| part | runs in | p50 ms | p99 ms |\n| --- | --- | --- | --- |")
    found = {}
    for part in ours:
        contenders = {"compiled": ours[part], "ONNX Runtime": theirs[part]}
        taken, found[part] = turns(contenders, frames[part])
        frames["decoder"] = found["encoder"]["compiled"].reshape(len(frames["encoder"]), -1)
        for name, values in taken.items():
            p99 = np.percentile(values, 99)
            print(f"| {part} | {name} | {statistics.median(values):.2f} | {p99:.2f} |")
    codes, samples = found["encoder"], found["decoder"]
    differ = int((codes["compiled"] != codes["ONNX Runtime"]).sum())
    used = len(np.unique(codes["compiled"]))
    # Streams drop what their delay puts before the first sample.
    delayed = samples["ONNX Runtime"][codec.network.delay :]
    apart = np.abs(samples["compiled"][: len(delayed)] - delayed).max()
    loudest = np.abs(samples["compiled"]).max()
    print(f"\n{differ} of {codes['compiled'].size} codes differ ({used} different ones)")
    print(f"samples differ by {apart:.2g} at most, the largest is {loudest:.2g}")


if __name__ == "__main__":
    main()

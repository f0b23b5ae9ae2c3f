"""Do levels fitted to data pay? Fits on the train split, scores on another, beside uniform ones.

    SYLLABARY_SPEECH=… python benchmarks/dmel_levels.py [--clips N] [--split valid] [--save DIR]

"fitted" is `DMel.fit` (Lloyd, channel by channel); "narrow" keeps uniform levels but on the range
between the 0.1 % and 99.9 % quantiles of the train split.
"""

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch

import syllabary
from syllabary.audio.files import read
from syllabary.audio.mel import log_mel
from syllabary.codecs.dmel.config import DMelConfig
from syllabary.codecs.dmel.tokenizer import DMel
from syllabary.eval.metrics.intelligibility import stoi
from syllabary.eval.metrics.interface import Clip, MetricError
from syllabary.eval.metrics.pesq import pesq_wb

sys.path.insert(0, __file__.rpartition("/")[0])
from timing import machine, speech_manifest


def score(job: tuple[str, Path]) -> tuple[float, float, float] | None:
    """Entropy of the codes, PESQ, STOI; None where a metric refuses."""
    folder, path = job
    torch.set_num_threads(1)
    tokenizer = syllabary.load(folder)
    wave, rate = read(path)
    tokens = tokenizer.encode(wave, rate)
    clip = Clip(wave, tokenizer.decode(tokens)[0].numpy(), rate)
    try:
        return entropy(tokens.codes[0]), pesq_wb(clip), stoi(clip)
    except MetricError:
        return None


def entropy(codes: torch.Tensor) -> float:
    """Bits per code, each clip by itself, channels pooled."""
    shares = torch.bincount(codes.flatten()).double() / codes.numel()
    return float(-(shares * shares.clamp_min(1e-12).log2()).sum())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--clips", type=int, default=40)
    parser.add_argument("--split", default="valid")
    parser.add_argument("--train-clips", type=int, default=800)
    parser.add_argument("--save", type=Path, default=Path("/tmp/dmel-levels"))
    options = parser.parse_args()
    paths = speech_manifest(options.split)
    paths = paths[:: max(1, len(paths) // options.clips)][: options.clips]
    train = speech_manifest("train")
    train = train[:: max(1, len(train) // options.train_clips)]
    waves = [read(path, 16000, "mix")[0] for path in train]
    print(f"fitted on {len(waves)} files of train, {sum(map(len, waves)) / 57.6e6:.2f} h")
    print(f"scored on {len(paths)} clips of {options.split}; {machine()}\n")
    print("| levels | hop ms | codes | clips | entropy, bits a code | PESQ-wb | STOI |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    with ProcessPoolExecutor(2) as pool:
        for hop in (400, 200):
            mel = DMel(DMelConfig(hop_length=hop)).mel
            values = torch.cat([log_mel(mel(torch.from_numpy(w))) for w in waves[::4]], -1)
            low, high = np.quantile(values.clamp_min(-7).numpy(), [0.001, 0.999])
            for size in (16, 8, 32):
                config = DMelConfig(hop_length=hop, num_levels=size)
                narrow = DMelConfig(
                    hop_length=hop, num_levels=size, minimum=float(low), maximum=float(high)
                )
                contenders = {
                    "uniform, [-7, 2]": DMel(config),
                    f"narrow, [{low:.2f}, {high:.2f}]": DMel(narrow),
                    "fitted": DMel.fit(waves, config),
                }
                for name, tokenizer in contenders.items():
                    folder = options.save / f"{name.split(',')[0]}-{hop}-{size}"
                    tokenizer.save_pretrained(folder)
                    results = pool.map(score, [(str(folder), path) for path in paths])
                    rows = np.array([result for result in results if result])
                    means = " | ".join(f"{mean:.3f}" for mean in rows.mean(0))
                    print(f"| {name} | {hop / 16:g} | {size} | {len(rows)} | {means} |", flush=True)


if __name__ == "__main__":
    main()

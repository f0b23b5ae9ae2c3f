"""dMel's training-free vocoder beside Griffin–Lim on the same mels: PESQ-wb, STOI and speed.

    SYLLABARY_SPEECH=… python benchmarks/dmel_vocoder.py [--clips N] [--split test] [--workers 2]

Every vocoder gets the levels of the same codes. Griffin–Lim is `librosa.griffinlim` with 32 rounds
on magnitudes by non-negative least squares (`librosa.feature.inverse.mel_to_stft`), with librosa's
default momentum (0.99, "fast") and without ("plain"). Clips that a metric refuses are counted, not
imputed: a row is over the clips that every vocoder was scored on.
"""

import argparse
import sys
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import librosa
import numpy as np
import torch

import syllabary
from syllabary.audio.files import read
from syllabary.eval.metrics.intelligibility import stoi
from syllabary.eval.metrics.interface import Clip, MetricError
from syllabary.eval.metrics.pesq import pesq_wb

sys.path.insert(0, __file__.rpartition("/")[0])
from timing import machine, speech_manifest


def griffin_lim(codec: str, codes: np.ndarray, num_samples: int, momentum: float) -> np.ndarray:
    tokenizer = syllabary.load(codec, vocoder=None)
    config = tokenizer.config
    levels = tokenizer.levels.numpy()
    # librosa centres frame 0 on sample 0, dMel on the middle of the first hop: a silent frame on
    # either side lets both see every sample.
    codes = np.pad(codes, ((0, 0), (1, 1)))
    mel = 10 ** np.take_along_axis(levels, codes, axis=1)
    magnitudes = librosa.feature.inverse.mel_to_stft(
        mel,
        sr=config.sample_rate,
        n_fft=config.n_fft,
        power=1,
        fmin=config.fmin,
        fmax=config.fmax,
    )
    wave = librosa.griffinlim(
        magnitudes,
        n_iter=32,
        hop_length=config.hop_length,
        win_length=config.window_length,
        n_fft=config.n_fft,
        momentum=momentum,
        random_state=0,
    )
    return wave[config.hop_length // 2 :][:num_samples].astype(np.float32)


VOCODERS = {
    "Griffin–Lim, 32 rounds, plain": lambda *given: griffin_lim(*given, momentum=0.0),
    "Griffin–Lim, 32 rounds, fast (0.99)": lambda *given: griffin_lim(*given, momentum=0.99),
}


def score(job: tuple[str, Path]) -> dict[str, tuple[float, float, float]] | str:
    """By vocoder: PESQ, STOI and seconds taken; or why the clip is left out."""
    codec, path = job
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", UserWarning)
    tokenizer = syllabary.load(codec, vocoder=None)
    wave, rate = read(path)
    tokens = tokenizer.encode(wave, rate)
    codes = tokens.codes[0].numpy()
    results = {}
    for name in (*VOCODERS, "shipped"):
        start = time.perf_counter()
        if name == "shipped":
            decoded = tokenizer.decode(tokens)[0].numpy()
        else:
            decoded = VOCODERS[name](codec, codes, len(wave))
        took = time.perf_counter() - start
        clip = Clip(wave, decoded, rate)
        try:
            scores = pesq_wb(clip), stoi(clip)
        except MetricError as error:
            return f"{path.name}: {name}: {error}"
        results[name] = (*scores, took)
    return results


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--clips", type=int, help="so many, evenly spread; default: all")
    parser.add_argument("--split", default="test")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--codecs", default="dmel,dmel-fine")
    options = parser.parse_args()
    paths = speech_manifest(options.split)
    if options.clips:
        paths = paths[:: max(1, len(paths) // options.clips)][: options.clips]
    seconds = {path: len(read(path)[0]) / 16000 for path in paths}
    print(f"{len(paths)} clips of the {options.split} split; {machine()}\n")
    print("| codec | vocoder | clips | PESQ-wb | STOI | × real time |")
    print("| --- | --- | --- | --- | --- | --- |")
    failures = []
    with ProcessPoolExecutor(options.workers) as pool:
        for codec in options.codecs.split(","):
            results = list(pool.map(score, [(codec, path) for path in paths]))
            failures += [f"{codec}: {result}" for result in results if isinstance(result, str)]
            scored = [
                (path, result)
                for path, result in zip(paths, results, strict=True)
                if isinstance(result, dict)
            ]
            for name in (*VOCODERS, "shipped"):
                rows = np.array([result[name] for _, result in scored])
                speed = sum(seconds[path] for path, _ in scored) / rows[:, 2].sum()
                means = f"{rows[:, 0].mean():.3f} | {rows[:, 1].mean():.4f} | {speed:.0f}"
                print(f"| {codec} | {name} | {len(rows)} | {means} |", flush=True)
    print(f"\n{len(failures)} left out:", *failures[:20], sep="\n- ")


if __name__ == "__main__":
    main()

"""Speech with lost frames, concealed and not, beside Opus with its own concealment.

    SYLLABARY_SPEECH=… python benchmarks/lost_frames.py rvq-16k ts3-16k --asr base

Frames of a codec are lost at random, each with the same probability, or in bursts of 60 ms.
"Silence" decodes the codes of silence in their place, "concealed" is `decode(tokens, lost=…)`.
Opus loses packets of 20 ms at random, as its decoder simulates them (`opusdec --packet-loss`).
Scores are means over LibriSpeech sentences of the test split; dWER is against the words that the
recogniser finds in the original.
"""

import argparse
import os
import sys
from pathlib import Path

import numpy as np
import torch

import syllabary
from syllabary.audio.manifests import Utterance, collect
from syllabary.codecs.interface import AudioTokenizer
from syllabary.codecs.streaming.concealment import silence_of
from syllabary.eval.metrics.intelligibility import stoi
from syllabary.eval.metrics.interface import Clip
from syllabary.eval.metrics.pesq import pesq_wb
from syllabary.eval.recognition import SpeechRecognizer, WordErrors, open_recognizer, word_errors
from syllabary.eval.systems.opus import Opus

sys.path.insert(0, __file__.rpartition("/")[0])
from timing import machine

RATE = 16_000
BURST_SECONDS = 0.06
LOSSES = (("random", 0.0), ("random", 0.01), ("random", 0.03), ("random", 0.1), ("random", 0.3))
LOSSES += (("burst", 0.1), ("burst", 0.3))


def lost_frames(kind: str, share: float, frames: int, rate: float, seed: int) -> torch.Tensor:
    """(1, frames) bool."""
    generator = np.random.default_rng(seed)
    if kind == "random":
        return torch.from_numpy(generator.random((1, frames)) < share)
    length = round(BURST_SECONDS * rate)
    lost = np.zeros((1, frames), bool)
    # Bursts overlap: so many begin that the share of frames outside of all is right.
    for start in np.flatnonzero(generator.random(frames) < 1 - (1 - share) ** (1 / length)):
        lost[0, start : start + length] = True
    return torch.from_numpy(lost)


def decoded(
    codec: AudioTokenizer, wave: np.ndarray, kind: str, share: float, seed: int
) -> dict[str, np.ndarray]:
    """The speech with losses, by what was done about them."""
    tokens = codec.encode(wave, RATE)
    rate = float(tokens.spec.frame_rate)
    lost = lost_frames(kind, share, tokens.codes.shape[2], rate, seed)
    codes = torch.where(lost[:, None], silence_of(codec)[None, :, None], tokens.codes)
    silent = syllabary.Tokens(codes, tokens.lengths, tokens.num_samples, tokens.spec)
    waves = {"silence": codec.decode(silent), "concealed": codec.decode(tokens, lost=lost)}
    return {name: found[0].numpy() for name, found in waves.items()}


class Scores:
    """Of one row of the table."""

    def __init__(self) -> None:
        self.pesq: list[float] = []
        self.stoi: list[float] = []
        self.words = WordErrors()

    def add(self, wave: np.ndarray, estimate: np.ndarray, words: tuple[list[str], ...]) -> None:
        clip = Clip(wave, estimate, RATE)
        self.pesq.append(float(pesq_wb(clip)))
        self.stoi.append(float(stoi(clip)))
        if words:
            self.words += word_errors(*words)

    def row(self, *names: str) -> str:
        rate = f"{self.words.rate:.3f}" if self.words.words else ""
        cells = (*names, f"{np.mean(self.pesq):.3f}", f"{np.mean(self.stoi):.3f}", rate)
        return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="TOKENIZER")
    parser.add_argument("--opus", metavar="KBPS", help="also Opus, at this target rate")
    parser.add_argument("--asr", metavar="MODEL", help="for dWER; see `syllabary eval --asr`")
    parser.add_argument("--limit", type=int, default=35, help="sentences")
    options = parser.parse_args()
    torch.set_num_threads(1)
    recognizer = open_recognizer(options.asr) if options.asr else None
    manifest = str(Path(os.environ["SYLLABARY_SPEECH"]) / "manifest.jsonl")
    items = [item for item in collect([manifest], "test") if "librispeech" in str(item.path)]
    items = items[:: max(1, len(items) // options.limit)][: options.limit]
    waves = [np.asarray(item.read(RATE, "mix")[0]) for item in items]
    print(f"{len(items)} sentences; {machine()}\n")
    print("| system | lost | | PESQ-wb | STOI | dWER |\n| --- | --- | --- | --- | --- | --- |")
    for name in options.names:
        codec = syllabary.load(name)
        for kind, share in LOSSES:
            scores = {"silence": Scores(), "concealed": Scores()}
            for seed, (item, wave) in enumerate(zip(items, waves, strict=True)):
                for how, estimate in decoded(codec, wave, kind, share, seed).items():
                    scores[how].add(wave, estimate, words_of(recognizer, item, wave, estimate))
            for how, found in scores.items():
                print(found.row(name, f"{share:.0%} {kind}", how), flush=True)
    for kind, share in LOSSES if options.opus else ():
        if kind == "random":
            found, system = Scores(), Opus(options.opus, packet_loss=round(100 * share))
            for item, wave in zip(items, waves, strict=True):
                estimate = system.reconstruct(wave).wave
                found.add(wave, estimate, words_of(recognizer, item, wave, estimate))
            print(found.row(f"Opus {options.opus}", f"{share:.0%} {kind}", "its own"), flush=True)


def words_of(
    recognizer: SpeechRecognizer | None, item: Utterance, wave: np.ndarray, estimate: np.ndarray
) -> tuple[list[str], ...]:
    """Words of the original and of the estimate; none without a recogniser."""
    if recognizer is None:
        return ()
    return tuple(recognizer.words(each, RATE, item.language or "en") for each in (wave, estimate))


if __name__ == "__main__":
    main()

"""Where codecs are weak: scores by condition of the speech, for the model cards.

    SYLLABARY_SPEECH=… python benchmarks/conditions.py --codec rvq-16k rvq-16k:2 ts3-16k --asr base

A condition is a change of the recording, or a selection of voices; the codec gets what the
condition gives, and that is also what its output is compared with. The sentences are the hard ones
of `codec_quality.py`, 35 of LibriSpeech's test-other. `lower` and `higher voices` are the 12
sentences with the lowest and the highest median pitch; the room and the noise are those of
`syllabary.eval.unit_measures.perturbations`, the second voice another of the sentences, 10 dB below
the first. `learners` are 40 sentences of speechocean762, read by learners of English, `Arabic` 40
commands of a second. A cell is PESQ-wb / STOI / dWER; words are not counted in Arabic. What can't
be scored is counted.
"""

import argparse
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from codec_quality import RATE, sentences, sixteen_bit_reconstruction
from lost_words import WORDS

from syllabary.audio.files import read
from syllabary.audio.manifests import read_manifest
from syllabary.errors import SyllabaryError
from syllabary.eval.metrics.interface import Clip
from syllabary.eval.metrics.pitch import pitch_track
from syllabary.eval.metrics.scoring import score
from syllabary.eval.recognition import (
    ASR,
    SpeechRecognizer,
    in_a_loop,
    open_recognizer,
    word_errors,
)
from syllabary.eval.systems.tokenizers import TokenizerSystem
from syllabary.eval.unit_measures.perturbations import (
    add_noise,
    pitch_shift,
    reverberate,
    time_stretch,
)

SCORES = ("pesq-wb", "stoi")
OTHER_SENTENCES = 40
_VOICES = 12


@dataclass(frozen=True)
class Condition:
    """Recordings (samples,) float32 at 16 kHz.

    Attributes:
        language: of the words; None: they are not counted.
    """

    name: str
    waves: list[np.ndarray]
    language: str | None = "en"


def conditions(folder: Path) -> Iterator[Condition]:
    hard = sentences(folder, which="hard")
    waves = [read(item.path, RATE, "mix")[0] for item in hard]
    yield Condition("as recorded", waves)
    for sex, name in (("f", "women"), ("m", "men")):
        chosen = [w for w, item in zip(waves, hard, strict=True) if item.extra["gender"] == sex]
        yield Condition(name, chosen)
    by_pitch = sorted(waves, key=_pitch)
    yield Condition("lower voices", by_pitch[:_VOICES])
    yield Condition("higher voices", by_pitch[-_VOICES:])
    for name, change in CHANGES.items():
        yield Condition(name, [change(wave) for wave in waves])
    quieter = [_second_voice(wave, waves[number - 1]) for number, wave in enumerate(waves)]
    yield Condition("a second voice, −10 dB", quieter)
    for source, name, language in (
        ("speechocean762", "learners", "en"),
        ("arabic_commands", "Arabic", None),
    ):
        items = [
            item
            for item in read_manifest(folder / "manifest.jsonl")
            if item.split == "test" and item.extra["source"] == source
        ]
        items = items[:: max(1, len(items) // OTHER_SENTENCES)][:OTHER_SENTENCES]
        yield Condition(name, [read(item.path, RATE, "mix")[0] for item in items], language)


CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "1.3 × as fast": lambda wave: time_stretch(wave, RATE, 1.3),
    "1.6 × as fast": lambda wave: time_stretch(wave, RATE, 1.6),
    "4 semitones lower": lambda wave: pitch_shift(wave, RATE, -4),
    "4 semitones higher": lambda wave: pitch_shift(wave, RATE, 4),
    "room of 0.5 s": lambda wave: reverberate(wave, RATE, 0.5),
    "pink noise, 20 dB": lambda wave: add_noise(wave, RATE, 20),
    "pink noise, 10 dB": lambda wave: add_noise(wave, RATE, 10),
}


def _pitch(wave: np.ndarray) -> float:
    track = pitch_track(wave, RATE)
    return float(np.median(track[track > 0]))


def _second_voice(wave: np.ndarray, other: np.ndarray) -> np.ndarray:
    other = np.resize(other, len(wave))
    gain = np.sqrt((wave**2).mean() / (other**2).mean()) * 10 ** (-10 / 20)
    return wave + np.float32(gain) * other


class Words:
    """Errors of the words recognised in reconstructions, against those in what was encoded."""

    def __init__(self, recognizer: SpeechRecognizer, waves: list[np.ndarray]) -> None:
        self.recognizer = recognizer
        self.expected = [recognizer.words(wave, RATE, "en") for wave in waves]

    def cell(self, decoded: list[np.ndarray | None]) -> str:
        found = [
            word_errors(expected, self.recognizer.words(wave, RATE, "en"))
            for expected, wave in zip(self.expected, decoded, strict=True)
            if wave is not None and expected and not in_a_loop(expected)
        ]
        return f"{sum(found[1:], found[0]).rate:.3f}" if found else "–"


def cell(codec: TokenizerSystem, condition: Condition, words: Words | None) -> str:
    values: dict[str, list[float]] = {name: [] for name in SCORES}
    decoded: list[np.ndarray | None] = []
    for wave in condition.waves:
        try:
            decoded.append(sixteen_bit_reconstruction(codec, wave)[0])
        except (ValueError, RuntimeError) as error:
            print(f"{codec.name} failed: {error}")
            decoded.append(None)
            continue
        found, _ = score(Clip(wave, decoded[-1], RATE, None, condition.language), SCORES)
        for name, value in found.items():
            values[name].append(float(value))
    parts = [
        (f"{np.mean(scores):.3f}" if scores else "–")
        + (f" ({len(scores)})" if len(scores) < len(condition.waves) else "")
        for scores in values.values()
    ]
    return " / ".join([*parts, *([words.cell(decoded)] if words else [])])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--codec", nargs="+", required=True, metavar="NAME[:CODEBOOKS]")
    parser.add_argument("--asr", default=os.environ.get(ASR, ""), metavar="MODEL")
    options = parser.parse_args()
    speech = os.environ.get("SYLLABARY_SPEECH")
    if not speech:
        raise SystemExit("set SYLLABARY_SPEECH to a folder of real speech with a manifest.jsonl")
    torch.set_num_threads(1)
    try:
        codecs = [TokenizerSystem(name) for name in options.codec]
        recognizer = open_recognizer(options.asr)
    except SyllabaryError as error:
        raise SystemExit(str(error)) from None
    print(f"PESQ-wb / STOI / {WORDS} by {recognizer.name}\n")
    print(f"| condition | clips | {' | '.join(options.codec)} |")
    print("| --- " * (2 + len(codecs)) + "|", flush=True)
    for condition in conditions(Path(speech)):
        words = Words(recognizer, condition.waves) if condition.language else None
        cells = [cell(codec, condition, words) for codec in codecs]
        print(f"| {condition.name} | {len(condition.waves)} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()

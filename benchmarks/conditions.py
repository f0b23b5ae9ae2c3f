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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from codec_quality import RATE, score_cells, scored, sentences, sixteen_bit_reconstruction
from lost_words import WORDS, Originals, Row, errors_of

from syllabary.audio.files import read
from syllabary.errors import SyllabaryError
from syllabary.eval.metrics.interface import Clip
from syllabary.eval.metrics.pitch import pitch_track
from syllabary.eval.recognition import ASR, SpeechRecognizer, open_recognizer
from syllabary.eval.systems import catalogue
from syllabary.eval.systems.interface import System
from syllabary.eval.systems.tokenizers import TokenizerSystem
from syllabary.eval.unit_measures.perturbations import (
    add_noise,
    pitch_shift,
    reverberate,
    time_stretch,
)

SCORES = ("pesq-wb", "stoi")
_OTHERS = 40
_VOICES = 12


@dataclass(frozen=True)
class Recordings:
    """Recordings (samples,) float32 at 16 kHz, each measured once.

    Attributes:
        conditions: by name, the numbers of those that a row of the table is about.
        language: of the words; None: they are not counted.
    """

    waves: list[np.ndarray]
    conditions: dict[str, list[int]]
    language: str | None = "en"


def recordings(folder: Path) -> Iterator[Recordings]:
    hard = sentences(folder, which="hard")
    waves = [read(item.path, RATE, "mix")[0] for item in hard]
    everything = list(range(len(waves)))
    by_pitch = sorted(everything, key=lambda number: _pitch(waves[number]))
    of_sex = {
        sex: [number for number in everything if hard[number].extra["gender"] == sex]
        for sex in ("f", "m")
    }
    voices = {
        "as recorded": everything,
        "women": of_sex["f"],
        "men": of_sex["m"],
        "lower voices": by_pitch[:_VOICES],
        "higher voices": by_pitch[-_VOICES:],
    }
    yield Recordings(waves, voices)
    for name, change in CHANGES.items():
        yield Recordings([change(wave) for wave in waves], {name: everything})
    mixed = [_second_voice(wave, waves[number - 1]) for number, wave in enumerate(waves)]
    yield Recordings(mixed, {"a second voice, −10 dB": everything})
    for which, name, language in (("learners", "learners", "en"), ("arabic", "Arabic", None)):
        items = sentences(folder, _OTHERS, which)
        others = [read(item.path, RATE, "mix")[0] for item in items]
        yield Recordings(others, {name: list(range(len(others)))}, language)


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


def measured(codec: System, given: Recordings, recognizer: SpeechRecognizer) -> list[Row]:
    """A row for each recording; one that the codec fails on has no scores and no words."""
    rows = []
    for number, wave in enumerate(given.waves):
        row = Row(codec.name, str(number), len(wave) / RATE, 0.0, 0)
        rows.append(row)
        try:
            decoded, _ = sixteen_bit_reconstruction(codec, wave)
        except (ValueError, RuntimeError, OSError) as error:
            print(f"{codec.name} failed: {error}")
            continue
        row.scores, row.missing = scored(Clip(wave, decoded, RATE, None, given.language), SCORES)
        if given.language is not None:
            row.words[recognizer.name] = recognizer.words(decoded, RATE, given.language)
    return rows


def cell(rows: Sequence[Row], originals: Originals | None) -> str:
    parts = score_cells(rows, SCORES)
    if originals is not None:
        errors = errors_of(rows, originals)
        parts.append(f"{sum(errors[1:], errors[0]).rate:.3f}" if errors else "–")
    return " / ".join(parts)


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
    for given in recordings(Path(speech)):
        originals = None
        if given.language is not None:
            original = measured(catalogue.find("original"), given, recognizer)
            originals = Originals(recognizer.name, original)
        found = [measured(codec, given, recognizer) for codec in codecs]
        for name, numbers in given.conditions.items():
            cells = [cell([rows[number] for number in numbers], originals) for rows in found]
            print(f"| {name} | {len(numbers)} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()

"""dWER in `codec_quality.py`: words recognised in each sentence, against those in its original."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from syllabary.eval.bootstrap import interval
from syllabary.eval.recognition import WordErrors, in_a_loop, word_errors

WORDS = "dWER"


@dataclass
class Row:
    """One codec on one sentence.

    Attributes:
        codec, file: their names.
        seconds: of audio.
        bits: spent.
        lag: samples by which the reconstruction's envelope is still late (peak of the
            cross-correlation; a few samples are nothing, tens are a wrong delay).
        scores: by metric, those that could be computed; numerator and denominator of a ratio.
        missing: by metric, why a score is missing.
        words: that was recognised in it, by the recognizer's name, once it was asked.
    """

    codec: str
    file: str
    seconds: float
    bits: float
    lag: int
    scores: dict[str, float | list[float]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    words: dict[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Originals:
    """What a recognizer recognised in the originals: nothing, and loops, are not compared with."""

    recognizer: str
    rows: Sequence[Row]

    @property
    def words(self) -> dict[str, list[str]]:
        """By file."""
        recognised = {row.file: row.words.get(self.recognizer, []) for row in self.rows}
        return {file: words for file, words in recognised.items() if words and not in_a_loop(words)}


def errors_of(rows: Sequence[Row], originals: Originals) -> list[WordErrors]:
    """Of each sentence in which words were recognised, where the original has any."""
    expected = originals.words
    return [
        word_errors(expected[row.file], row.words[originals.recognizer])
        for row in rows
        if row.file in expected and originals.recognizer in row.words
    ]


def words_cells(rows: Sequence[Row], originals: Originals) -> list[str]:
    """dWER with its interval, the originals' words that it is over, and sentences capped.

    Total edits over the total of words; of how many sentences, if not all.
    """
    found = errors_of(rows, originals)
    if not found:
        return ["–", "–", "–"]
    errors = sum(found[1:], found[0])
    ends = interval([one.edits for one in found], [one.words for one in found])
    cell = f"{errors.rate:.3f}" + (f" [{ends[0]:.3f}–{ends[1]:.3f}]" if ends else "")
    if len(found) < len(rows):
        cell += f" ({len(found)})"
    return [cell, str(errors.words), str(errors.capped)]


def left_out(rows: Sequence[Row], originals: Originals) -> Iterator[str]:
    """Originals that no word errors are counted of, and why."""
    compared = originals.words
    for row in rows:
        if row.file not in compared and WORDS not in row.missing:
            why = "a loop" if row.words.get(originals.recognizer) else "nothing"
            yield f"original: {WORDS} not counted on {row.file}: {why} in the original"

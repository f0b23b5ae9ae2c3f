"""A file through a tokenizer and back, with its scores."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ..audio.files import Channels, read
from ..codecs.container import SylReader
from ..jobs.files import FileReport, decode_file, encode_file
from .scores import DEFAULT_SCORES, score

if TYPE_CHECKING:
    from ..codecs.interface import AudioTokenizer


@dataclass(frozen=True)
class RoundTrip:
    """What a round trip gave.

    Attributes:
        source, tokens, decoded: the files.
        encoding, decoding: what became of each step.
        scores: by heading of the score, those that could be computed.
        missing: by heading of the score, why it is missing.
    """

    source: Path
    tokens: Path
    decoded: Path
    encoding: FileReport
    decoding: FileReport
    scores: dict[str, float] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)


def round_trip(
    tokenizer: "AudioTokenizer",
    source: Path,
    target: Path,
    name: str | None = None,
    channels: Channels = "mix",
    compress: bool = False,
    num_codebooks: int | None = None,
    scores: Iterable[str] = DEFAULT_SCORES,
) -> RoundTrip:
    """Encode `source` into `target`.syl, decode that into `target`.wav, and score the result.

    The reference is the source at the tokenizer's sample rate, with `channels` applied.

    Args:
        tokenizer: any.
        source: audio file.
        target: path of the outputs, without their suffixes.
        name: of the source, for the metadata; default: its file name.
        channels: what to do with several channels.
        compress: entropy-code the tokens.
        num_codebooks: keep the first so many; default: all.
        scores: keys of `eval.scores.SCORES`.

    Raises:
        AudioFileError, WaveError, TokenError: as encoding and decoding do.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    tokens = target.with_name(target.name + ".syl")
    decoded = target.with_name(target.name + ".wav")
    encoding = encode_file(
        tokenizer,
        source,
        tokens,
        name=name,
        channels=channels,
        num_codebooks=num_codebooks,
        compress=compress,
    )
    with tokens.open("rb") as file:
        decoding = decode_file(tokenizer, SylReader(file, str(tokens)), decoded)
    reference, rate = read(source, tokenizer.spec.sample_rate, channels)
    estimate, _ = read(decoded)
    found, missing = score(reference, estimate, rate, scores)
    return RoundTrip(source, tokens, decoded, encoding, decoding, found, missing)

"""Encode and decode a file, and score the result."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from ..audio.files import Channels, read
from ..audio.manifests import Utterance
from ..codecs.container import SylReader
from ..filesystem import printable
from ..jobs.one_file import FileReport, decode_file, encode_file, readable
from .metrics.interface import Clip, Ratio
from .metrics.scoring import score

if TYPE_CHECKING:
    from ..codecs.interface import AudioTokenizer

DEFAULT_SCORES = ("pesq-wb", "stoi")


@dataclass(frozen=True)
class RoundTrip:
    """The result of a round trip.

    Attributes:
        source, tokens, decoded: the files.
        encoding, decoding: reports of both steps.
        scores: by name of the metric, those that could be computed.
        missing: by name of the metric, why it is missing.
    """

    source: Path
    tokens: Path
    decoded: Path
    encoding: FileReport
    decoding: FileReport
    scores: dict[str, float | Ratio] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)


def round_trip(
    tokenizer: "AudioTokenizer",
    source: Path | Utterance,
    target: Path,
    name: str | None = None,
    channels: Channels = "mix",
    compress: bool = False,
    num_codebooks: int | None = None,
    scores: Iterable[str] = DEFAULT_SCORES,
    text: str | None = None,
    language: str | None = None,
) -> RoundTrip:
    """Encode `source` into `target`.syl, decode that into `target`.wav, and score the result.

    The reference is the source at the tokenizer's sample rate, with `channels` applied.

    Args:
        tokenizer: any.
        source: audio file, or an utterance, which may be a segment of one.
        target: path of the outputs, without their suffixes.
        name: of the source, for the metadata; default: its file name.
        channels: what to do with several channels.
        compress: entropy-code the tokens.
        num_codebooks: keep the first so many; default: all.
        scores: names of metrics.
        text, language: what was said, for metrics that compare words.

    Raises:
        AudioFileError, WaveError, TokenError: as encoding and decoding do.
        UnknownMetricError: a metric that there is not.
    """
    item = source
    if isinstance(item, Path):
        item = Utterance(item, PurePosixPath(item.name), stream=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    tokens = target.with_name(target.name + ".syl")
    decoded = target.with_name(target.name + ".wav")
    with readable(item) as again:  # a pipe can be read only once
        encoding = encode_file(
            tokenizer,
            again,
            tokens,
            name=name or printable(item.path.name),
            channels=channels,
            num_codebooks=num_codebooks,
            compress=compress,
        )
        with tokens.open("rb") as file:
            decoding = decode_file(tokenizer, SylReader(file, str(tokens)), decoded)
        reference, rate = again.read(tokenizer.spec.sample_rate, channels)
    estimate, _ = read(decoded)
    found, missing = score(Clip(reference, estimate, rate, text, language), scores)
    return RoundTrip(item.path, tokens, decoded, encoding, decoding, found, missing)

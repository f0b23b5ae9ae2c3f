"""A file through a tokenizer and back, with its scores."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..audio.files import Channels, read
from ..codecs.container import SylReader
from ..jobs.files import FileReport, decode_file, encode_file
from .reconstruction import MetricError, pesq_wb, stoi

if TYPE_CHECKING:
    from ..codecs.interface import AudioTokenizer

METRICS: dict[str, Callable[[np.ndarray, np.ndarray, int], float]] = {
    "PESQ-wb": pesq_wb,
    "STOI": stoi,
}


@dataclass(frozen=True)
class RoundTrip:
    """What a round trip gave.

    Attributes:
        source, tokens, decoded: the files.
        encoding, decoding: what became of each step.
        scores: by metric, those that could be computed.
        missing: by metric, why a score is missing.
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
) -> RoundTrip:
    """Encode `source` into `target`.syl, decode that into `target`.wav, and score the result.

    The reference is the source at the tokenizer's sample rate, with `channels` applied.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    tokens = target.with_name(target.name + ".syl")
    decoded = target.with_name(target.name + ".wav")
    encoding = encode_file(
        tokenizer, source, tokens, name=name, channels=channels, compress=compress
    )
    with tokens.open("rb") as file:
        decoding = decode_file(tokenizer, SylReader(file, str(tokens)), decoded)
    reference, rate = read(source, tokenizer.spec.sample_rate, channels)
    estimate, _ = read(decoded)
    result = RoundTrip(source, tokens, decoded, encoding, decoding)
    for metric, compute in METRICS.items():
        try:
            result.scores[metric] = compute(reference, estimate, rate)
        except MetricError as error:
            result.missing[metric] = str(error)
    return result

"""`System`: the common interface of tokenizers and other codecs under test."""

from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from ...codecs.interface import AudioTokenizer
from ...codecs.tokens import Tokens
from ...errors import SyllabaryError


class MissingSystemError(SyllabaryError):
    """A system is not installed; the message says how to install it."""


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """The output of a system.

    Attributes:
        wave: (samples,) float32, exactly as many as in the input.
        bits: without containers; None for a reference.
        tokens: of a tokenizer, batch of one.
    """

    wave: np.ndarray
    bits: float | None
    tokens: Tokens | None = None


class System(Protocol):
    """A codec, a tokenizer or a reference, as the harness uses it.

    Attributes:
        name: in tables, and for finding it again: ``rvq-16k:4``, ``opus-6``.
        kind: ``tokenizer``; ``codec``, a program or model that gives no tokens; ``reference``, a
            reference point of every metric.
        setting: how it is run, in a line.
        digest: SHA-256 (hex) of everything that determines its output, programs included.
        sample_rate: of input and output, Hz.
        delay: delay of the codec in samples at that rate, which are removed from the start of its
            output (fixed, never estimated from a clip).
        tokenizer: behind it, if there is one.
        num_codebooks: used; None where there is no tokenizer.
        license, source: of the weights or program.
        versions: of the programs and packages behind it, by name.
    """

    name: str
    kind: Literal["tokenizer", "codec", "reference"]
    setting: str
    digest: str
    sample_rate: int
    delay: int
    tokenizer: AudioTokenizer | None
    num_codebooks: int | None
    license: str
    source: str
    versions: dict[str, str]

    def reconstruct(self, wave: np.ndarray) -> Reconstruction:
        """Encode and decode.

        Args:
            wave: (samples,) float32 at `sample_rate`, full scale at 1.

        Raises:
            SyllabaryError, RuntimeError, OSError: it failed on this wave.
        """

    def to_json(self) -> dict[str, Any]:
        """Describe the system as JSON values, a tokenizer's spec included."""

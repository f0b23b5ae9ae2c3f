"""`System`: anything that turns speech into bits and back, ours or not, to be measured alike."""

from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from ...codecs.interface import AudioTokenizer
from ...codecs.tokens import Tokens
from ...errors import SyllabaryError


class MissingSystemError(SyllabaryError):
    """A system that this machine does not have, and what would bring it."""


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """What came back.

    Attributes:
        wave: (samples,) float32, exactly as many as went in.
        bits: spent, without containers; None for a reference, which spends none that matter.
        tokens: of a tokenizer, batch of one.
    """

    wave: np.ndarray
    bits: float | None
    tokens: Tokens | None = None


class System(Protocol):
    """A codec, a tokenizer or a reference, as the harness sees it.

    Attributes:
        name: what tables call it, and what finds it again: ``rvq-16k:4``, ``opus-6``.
        kind: ``tokenizer``; ``codec``, a program or model that gives no tokens; ``reference``, a
            known point of every scale.
        setting: how it is run, in a line.
        digest: SHA-256 (hex) of everything that decides what it gives, programs included.
        sample_rate: that it takes and gives, Hz.
        delay: samples at that rate that are taken off the front of its output, because the codec
            is late by so much (stated, never searched for in a clip).
        tokenizer: behind it, if it is one of ours or wrapped by us.
        num_codebooks: kept; None where there is no tokenizer.
        license, source: of the weights or program, and where it is from.
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
        """There and back.

        Args:
            wave: (samples,) float32 at `sample_rate`, full scale at 1.

        Raises:
            SyllabaryError, RuntimeError, OSError: it failed on this one.
        """

    def to_json(self) -> dict[str, Any]:
        """What to know of it, as JSON values, a tokenizer's spec included."""

"""A base class with the common attributes of systems."""

from abc import ABC, abstractmethod
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

import numpy as np

from ...codecs.interface import AudioTokenizer
from .interface import Reconstruction

Kind = Literal["tokenizer", "codec", "reference"]


class BaseSystem(ABC):
    """Base of the systems here: the attributes of `System`, with defaults.

    A subclass sets `name`, `kind`, `setting`, `digest` and `reconstruct`, and overrides other
    defaults.

    Attributes:
        in_process: it runs within this process, so that its memory can be measured here.
    """

    name: str
    kind: Kind = "codec"
    setting: str
    digest: str
    sample_rate: int = 16000
    delay: int = 0
    tokenizer: AudioTokenizer | None = None
    num_codebooks: int | None = None
    license: str = ""
    source: str = ""
    versions: dict[str, str]
    in_process: bool = True

    @abstractmethod
    def reconstruct(self, wave: np.ndarray) -> Reconstruction:
        """See `System`."""

    def to_json(self) -> dict[str, Any]:
        """Describe the system as JSON values; ``tokenizer`` is a `TokenizerSpec`, or None."""
        spec = None if self.tokenizer is None else self.tokenizer.spec.to_json()
        return {
            "name": self.name,
            "kind": self.kind,
            "setting": self.setting,
            "digest": self.digest,
            "sample_rate": self.sample_rate,
            "delay": self.delay,
            "delay_ms": 1000 * self.delay / self.sample_rate,
            "license": self.license,
            "source": self.source,
            "versions": dict(self.versions),
            "num_codebooks": self.num_codebooks,
            "tokenizer": spec,
        }


def package_versions(*names: str) -> dict[str, str]:
    """Return the versions of installed distributions by name; others are left out."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found

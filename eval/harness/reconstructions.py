"""A system's reconstructions, cached on disk, each computed once."""

import hashlib
from pathlib import Path

import numpy as np
import soundfile

from ...audio.manifests import Utterance
from ...codecs.container import read_tokens, write_tokens
from ...codecs.tokens import Tokens
from ...errors import SyllabaryError
from ...filesystem import replacing
from ..systems.interface import Reconstruction, System
from ..systems.samples import to_int16

_FULL_SCALE = 32768


class ReconstructionError(SyllabaryError):
    """A system's output can't be measured."""


class Reconstructions:
    """A system's output, read from a cache folder or computed.

    Args:
        system: see `System`.
        folder: contains a .flac and, for tokenizers, a .syl for each item.
    """

    def __init__(self, system: System, folder: Path) -> None:
        self.system = system
        self.folder = folder

    def wave(self, item: Utterance) -> np.ndarray:
        """Read (samples,) float32 of an item at the system's rate, with several channels
        averaged.
        """
        return item.read(self.system.sample_rate, "mix")[0]

    def path(self, item: Utterance, suffix: str = ".flac") -> Path:
        return kept_at(self.folder, item, suffix)

    def make(self, item: Utterance) -> Reconstruction:
        """Reconstruct an item, and cache the result.

        Raises:
            ReconstructionError: a different number of samples than the input, or NaN or infinity.
            SyllabaryError, RuntimeError, OSError: as the system does.
        """
        wave = self.wave(item)
        made = self.system.reconstruct(wave)
        if made.wave.shape != wave.shape:
            raise ReconstructionError(
                f"{made.wave.shape} samples came back of {wave.shape}: the scores would compare "
                "other sounds"
            )
        if not np.isfinite(made.wave).all():
            raise ReconstructionError("NaN or infinity came back")
        rounded = to_int16(made.wave)
        self.folder.mkdir(parents=True, exist_ok=True)
        if made.tokens is not None:
            write_tokens(self.path(item, ".syl"), made.tokens)
        with replacing(self.path(item)) as temporary:
            if len(rounded):
                rate = self.system.sample_rate
                soundfile.write(temporary, rounded, rate, "PCM_16", format="FLAC")
            else:
                temporary.touch()  # FLAC can't store zero samples
        return Reconstruction(as_float(rounded), made.bits, made.tokens)

    def reconstruction(self, item: Utterance) -> np.ndarray:
        """Return (samples,) float32, rounded to 16 bits."""
        path = self.path(item)
        if not path.exists():
            return self.make(item).wave
        if not path.stat().st_size:
            return np.zeros(0, np.float32)
        return as_float(soundfile.read(path, dtype="int16")[0])

    def tokens(self, item: Utterance) -> Tokens:
        """Return the tokens of an item.

        Raises:
            SyllabaryError: the system has none.
        """
        tokenizer = self.system.tokenizer
        if tokenizer is None:
            raise SyllabaryError(f"{self.system.name} gives no tokens")
        path = self.path(item, ".syl")
        if path.exists():
            return read_tokens(path)
        tokens = tokenizer.encode(
            self.wave(item), tokenizer.spec.sample_rate, num_codebooks=self.system.num_codebooks
        )
        self.folder.mkdir(parents=True, exist_ok=True)
        write_tokens(path, tokens)
        return tokens


def kept_at(folder: Path, item: Utterance, suffix: str = ".flac") -> Path:
    """Return the cache path of an item's file."""
    # A digest, as the name may have any length and any characters.
    name = hashlib.sha256(str(item.name).encode(errors="surrogateescape")).hexdigest()[:24]
    return folder / (name + suffix)


def as_float(samples: np.ndarray) -> np.ndarray:
    return samples.astype(np.float32) / _FULL_SCALE

"""Tokenizers as systems, with all of their codebooks or the first few."""

import hashlib
import os
from pathlib import Path

import numpy as np

from ...codecs.batches import check_codebooks
from ...codecs.interface import AudioTokenizer
from ...codecs.registry import load
from ...codecs.spec import bits_for
from ...codecs.tokens import Tokens
from .base import BaseSystem, Kind, package_versions
from .interface import Reconstruction


class TokenizerSystem(BaseSystem):
    """A tokenizer at its own sample rate.

    Args:
        given: `NAME` or `NAME:CODEBOOKS`, where NAME is what `syllabary.load` takes: a registered
            name, a directory (called by its path), or a published model's id.
        tokenizer: that goes by that name, if it is at hand; default: loaded.

    Attributes:
        given: what finds it again.

    Raises:
        SyllabaryError: there is no such tokenizer, or not so many codebooks.
    """

    kind: Kind = "tokenizer"

    def __init__(self, given: str, tokenizer: AudioTokenizer | None = None) -> None:
        name, colon, count = given.rpartition(":")
        if not (colon and count.isascii() and count.isdigit()) or Path(given).is_dir():
            name, count = given, ""
        self.given = given
        self._tokenizer = load(name) if tokenizer is None else tokenizer
        spec = self._tokenizer.spec
        kept = check_codebooks(int(count) if count else None, spec)
        self.tokenizer = self._tokenizer
        self.num_codebooks = kept
        # By its path, since many runs have a folder `best`.
        known = os.path.normpath(name) if Path(name).is_dir() else name
        self.name = known + (f":{count}" if count else "")
        self.sample_rate = spec.sample_rate
        rate = spec.tokens.bitrate(kept) / 1000
        books = "1 codebook" if kept == 1 else f"{kept} codebooks"
        self.setting = f"{books}, {float(spec.frame_rate):g} Hz, {rate:g} kbit/s"
        # Not the token digest: a vocoder changes the samples but not the codes.
        whole = f"{self._tokenizer.full_digest} {kept}"
        self.digest = hashlib.sha256(whole.encode()).hexdigest()
        self.license = spec.license
        self.source = spec.source
        self.versions = package_versions("syllabary", "torch")
        if spec.family == "transformers":
            self.versions |= package_versions("transformers")

    def encode(self, wave: np.ndarray) -> Tokens:
        """Encode (samples,) float32 to tokens, batch of one."""
        wave = np.asarray(wave, np.float32)
        return self._tokenizer.encode(wave, self.sample_rate, num_codebooks=self.num_codebooks)

    def reconstruct(self, wave: np.ndarray) -> Reconstruction:
        tokens = self.encode(wave)
        spec = tokens.spec
        bits = int(tokens.lengths.sum()) * spec.bits_per_frame(tokens.num_codebooks)
        bits += sum(map(bits_for, spec.global_codebook_sizes))
        decoded = self._tokenizer.decode(tokens)[0].cpu().numpy()
        if decoded.shape != (len(wave),):
            raise RuntimeError(f"{self.name} gave {decoded.shape} samples for {len(wave)}")
        return Reconstruction(decoded, float(bits), tokens)

"""A tokenizer's latents as a system: what is lost without the step of quantization."""

import hashlib

import numpy as np

from syllabary.eval.systems.base import BaseSystem, Kind
from syllabary.eval.systems.interface import Reconstruction
from syllabary.eval.systems.tokenizers import TokenizerSystem


class LatentsSystem(BaseSystem):
    """`decode(latents)` of a tokenizer, beside `decode(encode)`, which `TokenizerSystem` is.

    Bits are those of the vectors as they are, 32 for each channel.

    Raises:
        LatentsError: its decoder takes codes only.
    """

    kind: Kind = "codec"

    def __init__(self, codes: TokenizerSystem) -> None:
        self._tokenizer = codes.tokenizer
        spec = self._tokenizer.spec
        self.name, self.given = f"{codes.name} latents", f"{codes.given} latents"
        self.sample_rate = spec.sample_rate
        self.setting = f"latents of {spec.latent_channels} channels, {float(spec.frame_rate):g} Hz"
        self.digest = hashlib.sha256(f"{codes.digest} latents".encode()).hexdigest()
        self.license, self.source, self.versions = codes.license, codes.source, codes.versions
        # Fails here if it can't decode them.
        self.reconstruct(np.zeros(0, np.float32))

    def reconstruct(self, wave: np.ndarray) -> Reconstruction:
        latents = self._tokenizer.latents(wave.astype(np.float32), self.sample_rate)
        bits = 32.0 * int(latents.lengths.sum()) * latents.num_channels
        return Reconstruction(self._tokenizer.decode(latents)[0].cpu().numpy(), bits)

"""`Adapter`: what is different about a published architecture, and nothing else.

Batches, padding, streams, files and checks are `PublishedCodec`'s. An adapter says how one
utterance of one model is encoded and decoded, with the arguments that the model's own library
would be given.
"""

from abc import ABC, abstractmethod
from functools import reduce
from typing import Any, ClassVar

import torch
from torch import Tensor

from ...errors import LatentsError


class Adapter(ABC):
    """One architecture: its rates and codebooks, and how an utterance is encoded and decoded.

    An adapter is made anew for each tokenizer and holds no weights: the model is an argument.

    Args:
        settings: the model's configuration, as its library has it.

    Raises:
        CheckpointError: the model is of a kind that can't be a tokenizer.

    Attributes:
        sample_rate: of the samples that `encode` takes and `decode` gives, in Hz.
        hop: samples of a frame.
        codebook_sizes: of each codebook.
        native_rate: of the samples that `decode_natively` gives, in Hz.
        min_codebooks: the first so many codebooks can be decoded without the others.
        causal: whether no code depends on later samples.
        whole_frames: `encode` takes whole frames only; the last one is padded with zeros.
        latent_channels: of the vectors that are quantized; None if they have no such form. A model
            without codebooks has these only.
    """

    min_codebooks = 1
    causal = False
    latent_channels: int | None = None
    whole_frames: ClassVar[bool] = True

    def __init__(self, settings: Any) -> None:
        self.settings = settings
        self.sample_rate: int = self.find_sample_rate()
        self.hop: int = self.find_hop()
        self.codebook_sizes: list[int] = self.find_codebook_sizes()
        self.native_rate: int = self.sample_rate

    def find_sample_rate(self) -> int:
        """Return the rate of the encoder's input, in Hz."""
        rate: int = getattr(self.settings, "sampling_rate", None) or self.settings.sample_rate
        return rate

    def find_hop(self) -> int:
        """Return the samples of a frame."""
        return int(self.settings.hop_length)

    def find_codebook_sizes(self) -> list[int]:
        """Return the number of codes in each codebook."""
        return [self.settings.codebook_size] * self.settings.num_quantizers

    @abstractmethod
    def encode(self, model: Any, wave: Tensor) -> Tensor:
        """Encode an utterance (samples,), at least one, to codes (codebooks, frames).

        There are at least ceil(samples / hop) frames; those beyond are dropped.
        """

    @abstractmethod
    def decode(self, model: Any, codes: Tensor) -> Tensor:
        """Decode codes (codebooks, frames), at least one frame, to samples, frames × hop or so."""

    def decode_natively(self, model: Any, codes: Tensor) -> Tensor:
        """Decode as `decode` does, to samples at `native_rate`."""
        return self.decode(model, codes)

    # --- where `latent_channels` is set ----------------------------------------------------------

    def latents(self, model: Any, wave: Tensor) -> Tensor:
        """Encode as `encode` does, to vectors (frames, channels) without rounding to codes.

        They are in the decoder's space: `decode_latents` takes them.
        """
        raise NotImplementedError

    def embed(self, model: Any, codes: Tensor) -> list[Tensor]:
        """Return the vectors (frames, channels) of codes (codebooks, frames), by codebook.

        Raises:
            LatentsError: there are none.
        """
        raise LatentsError(f"{type(self).__name__} has no latents here")

    def embed_all(self, model: Any, codes: Tensor) -> Tensor:
        """Return the vectors (frames, channels) of codes, summed as the decoder sums them."""
        return reduce(torch.add, self.embed(model, codes))

    def decode_latents(self, model: Any, vectors: Tensor) -> Tensor:
        """Decode vectors (frames, channels) as `decode` decodes the codes that have them."""
        raise NotImplementedError


class ContinuousAdapter(Adapter):
    """A model that has latents and no codes."""

    def find_codebook_sizes(self) -> list[int]:
        return []

    def encode(self, model: Any, wave: Tensor) -> Tensor:
        raise LatentsError("a continuous model has latents and no codes")

    def decode(self, model: Any, codes: Tensor) -> Tensor:
        raise LatentsError("a continuous model has latents and no codes")


def fit(wave: Tensor, num_samples: int) -> Tensor:
    """Cut a wave (…, samples) to `num_samples`, or pad it with zeros."""
    return torch.nn.functional.pad(wave, (0, num_samples - wave.shape[-1]))

"""What streaming needs of a tokenizer; every `AudioTokenizer` has it."""

from typing import Protocol

import torch
from torch import Tensor

from ..identity import Identity
from ..spec import TokenizerSpec
from .protocol import DecoderStream, EncoderStream


class StreamingTokenizer(Protocol):
    """A tokenizer as a session sees it: two kinds of streams, and the identity of its weights."""

    name: str

    @property
    def spec(self) -> TokenizerSpec:
        """See `AudioTokenizer.spec`."""

    @property
    def full_digest(self) -> str:
        """See `AudioTokenizer.full_digest`."""

    @property
    def device(self) -> torch.device:
        """The device of the weights."""

    def identity(self, sampled: bool = True) -> Identity:
        """See `AudioTokenizer.identity`: another object after the weights have changed."""

    def start_encoder(self, batch_size: int, num_codebooks: int) -> EncoderStream:
        """See `AudioTokenizer.start_encoder`."""

    def start_decoder(self, batch_size: int) -> DecoderStream:
        """See `AudioTokenizer.start_decoder`."""

    def embed_codes(self, codes: Tensor, differentiable: bool) -> Tensor:
        """See `AudioTokenizer.embed_codes`."""

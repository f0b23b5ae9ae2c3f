"""`PublishedCodec`: a model of another library, with the interface and the promises of this one.

Such models run as published, on whole utterances one by one, since batching and padding would
change their codes.
"""

from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from ...plain_torch import plainly
from ..batches import code_rows
from ..interface import AudioTokenizer
from ..latents import Latents
from ..spec import TokenizerSpec
from ..streaming import DecoderStream, EncoderStream
from ..tokens import Tokens
from .adapter import Adapter, fit
from .architectures import Architecture
from .whole import WholeDecoder, WholeEncoder, Work

BROKEN_PROMISES = {
    "constant-memory": "runs over whole utterances",
    "migration": "a row's state is all of its audio, which can be sent again",
    "determinism": "convolutions round differently on other numbers of threads, which can change "
    "a code",
    "processors": "convolutions round differently on other processors, which can change a code",
    "processors-samples": "convolutions round differently on other processors",
}


class PublishedCodec(AudioTokenizer):
    """A published model as a tokenizer.

    A subclass makes these in its constructor.

    Attributes:
        model: the published model, in eval mode.
        adapter: what is different about its architecture.
        architecture: its entry in the table.
        library: the library that runs the model.
    """

    model: nn.Module
    adapter: Adapter
    architecture: Architecture
    library: str

    def train(self, mode: bool = True) -> Self:
        """Keep the model in eval mode, without dropout."""
        super().train(mode)
        self.model.eval()
        return self

    def describe(self) -> TokenizerSpec:
        adapter, architecture = self.adapter, self.architecture
        return TokenizerSpec(
            tokens=self.token_spec(adapter.hop, adapter.codebook_sizes, adapter.sample_rate),
            family=self.family,
            causal=adapter.causal,
            encoder_latency=None,
            decoder_latency=None,
            min_codebooks=adapter.min_codebooks,
            parameters=sum(weight.numel() for weight in self.model.parameters()),
            macs_per_second=None,
            license=architecture.license_of(self.name),
            source=architecture.source,
            description=f"{architecture.name} through {self.library}",
            latent_channels=adapter.latent_channels,
            decodes_latents=adapter.latent_channels is not None,
            broken_promises=dict(BROKEN_PROMISES),
        )

    def start_encoder(self, batch_size: int, num_codebooks: int) -> EncoderStream:
        return WholeEncoder(self._work(num_codebooks), batch_size)

    def start_decoder(self, batch_size: int) -> DecoderStream:
        return WholeDecoder(self._work(len(self.adapter.codebook_sizes)), batch_size)

    def codebook_vectors(self, codes: Tensor, differentiable: bool) -> list[Tensor]:
        if not len(codes):  # some layers can't do with no frame
            channels = self.adapter.latent_channels or 0
            return [torch.zeros(0, channels, device=self.device) for _ in range(codes.shape[1])]
        return self.adapter.embed(self.model, codes.T)

    def embed_codes(self, codes: Tensor, differentiable: bool) -> Tensor:
        if not len(codes):
            return super().embed_codes(codes, differentiable)
        return self.adapter.embed_all(self.model, codes.T)

    def _work(self, num_codebooks: int) -> Work:
        adapter, model = self.adapter, self.model

        def frames(wave: Tensor) -> int:
            return -(-len(wave) // adapter.hop)

        def filled(wave: Tensor) -> Tensor:
            return fit(wave, frames(wave) * adapter.hop) if adapter.whole_frames else wave

        def encode(wave: Tensor) -> Tensor:
            return adapter.encode(model, filled(wave))[:num_codebooks, : frames(wave)].long()

        def latents(wave: Tensor) -> Tensor:
            return adapter.latents(model, filled(wave))[: frames(wave)].float()

        def decode(codes: Tensor) -> Tensor:
            return fit(adapter.decode(model, codes), codes.shape[1] * adapter.hop)

        def decode_latents(vectors: Tensor) -> Tensor:
            return fit(adapter.decode_latents(model, vectors), len(vectors) * adapter.hop)

        def embed(codes: Tensor) -> Tensor:
            return self.embed_codes(codes.T, differentiable=False)

        return Work(
            encode, latents, decode, embed, decode_latents,
            num_codebooks, adapter.latent_channels or 0, self.device,
        )  # fmt: skip

    @property
    def native_rate(self) -> int:
        """The sample rate that the model itself decodes to, in Hz; see `decode_natively`."""
        return self.adapter.native_rate

    def decode(
        self,
        tokens: Tokens | Latents,
        sample_rate: int | None = None,
        lost: Tensor | np.ndarray | None = None,
    ) -> Tensor:
        """Turn tokens, or latents, into speech; see `AudioTokenizer.decode`.

        Tokens at `native_rate` are as the model decodes them, without a conversion.
        """
        own, native = self.adapter.sample_rate, self.native_rate
        if isinstance(tokens, Tokens) and lost is None and sample_rate == native != own:
            return torch.nn.utils.rnn.pad_sequence(self.decode_natively(tokens), batch_first=True)
        return super().decode(tokens, sample_rate, lost)

    @plainly
    def decode_natively(self, tokens: Tokens) -> list[Tensor]:
        """Decode to the sample rate that the model itself gives, `native_rate`.

        `decode` returns the rate of the tokens, which is the encoder's; the two rates differ for
        NeuCodec (16 and 24 kHz).

        Args:
            tokens: from this tokenizer.

        Returns:
            (samples,) float32 for each row, as long as the audio was.

        Raises:
            TokenMismatchError, TokenError: as for `decode`.
        """
        rows = code_rows(tokens, self.spec, self.device)
        waves = []
        with torch.autocast(self.device.type, enabled=False):
            for codes, samples in zip(rows, tokens.num_samples.tolist(), strict=True):
                count = -(-samples * self.native_rate // self.adapter.sample_rate)
                made = codes.new_zeros(0, dtype=torch.float32)
                if count:
                    made = self.adapter.decode_natively(self.model, codes)
                waves.append(fit(made, count))
        return waves

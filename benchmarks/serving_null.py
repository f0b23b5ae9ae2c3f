"""A tokenizer that computes nothing, to measure what the server itself costs."""

from dataclasses import dataclass

import syllabary
from syllabary.codecs import StatelessDecoder, WindowEncoder

HOP = 320


@dataclass(frozen=True)
class NullConfig:
    """Nothing to choose."""


class Null(syllabary.AudioTokenizer):
    """One codebook: whether the first sample of a frame is negative."""

    family = "null"
    Config = NullConfig

    def describe(self):
        return syllabary.TokenizerSpec(
            tokens=self.token_spec(HOP, [2], 16000),
            family=self.family,
            causal=True,
            encoder_latency=HOP,
            decoder_latency=0,
            min_codebooks=1,
            parameters=0,
            macs_per_second=0,
            license="Apache-2.0",
            source="benchmarks/serving_null.py",
            description="no codec",
        )

    def start_encoder(self, batch_size, num_codebooks):
        return WindowEncoder(
            lambda windows: (windows[:, :1] < 0).long(),
            batch_size=batch_size,
            hop=HOP,
            window=HOP,
            before=0,
            tile=16,
            num_codebooks=1,
            device=self.device,
        )

    def start_decoder(self, batch_size):
        return StatelessDecoder(
            lambda codes: codes.float().expand(-1, HOP) / 2,
            num_codebooks=1,
            hop=HOP,
            tile=16,
            device=self.device,
        )


def null():
    return Null(NullConfig(), name="null")

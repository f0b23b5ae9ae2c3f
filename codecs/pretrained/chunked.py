"""EnCodec at 48 kHz: overlapping chunks of a second, each with its own loudness, in two channels.

A. Défossez et al., "High Fidelity Neural Audio Compression", arXiv 2210.13438.

Chunks overlap by 1 %, so their codes have no common rate: 150 frames for every 148.5 frames' worth
of samples. A chunk therefore is one frame of this tokenizer, whose hop is the stride of the chunks.
First come the four bytes of its scale (a float32, exact, the lowest byte first), then the codes of
its first codebook, of its second, and so on. So the first so many codebooks are still the first
codes, and the number of chunks is the library's, ceil(samples / stride).

A tokenizer is mono: both channels are given the same samples, and decoded channels are averaged.
"""

from typing import Any

import torch
from torch import Tensor

from ...errors import CheckpointError, TokenError
from .adapter import Adapter, fit
from .residual import Encodec

_SCALE_BYTES = 4


def encodec(settings: Any) -> Adapter:
    """The adapter of an EnCodec: with chunks or without."""
    if settings.chunk_length_s is None:
        return Encodec(settings)
    return ChunkedEncodec(settings)


class ChunkedEncodec(Adapter):
    """See the module; `pack` and `unpack` convert between frames and the library's codes."""

    whole_frames = False

    def __init__(self, settings: Any) -> None:
        if settings.chunk_length is None or not settings.normalize or settings.overlap is None:
            raise CheckpointError(
                "EnCodec with chunks has chunk_length_s, overlap and normalize, all three"
            )
        self.frames = -(-settings.chunk_length // settings.hop_length)
        super().__init__(settings)
        self.min_codebooks = _SCALE_BYTES + self.frames

    def find_hop(self) -> int:
        return int(self.settings.chunk_stride)

    def find_codebook_sizes(self) -> list[int]:
        codes = self.settings.num_quantizers * self.frames
        return [256] * _SCALE_BYTES + [self.settings.codebook_size] * codes

    def encode(self, model: Any, wave: Tensor) -> Tensor:
        chunks = -(-len(wave) // self.hop)
        # As the library's feature extractor pads; the library adds one chunk of padding only.
        padded = fit(wave, (chunks - 1) * self.hop + self.settings.chunk_length)
        both = padded.expand(1, self.settings.audio_channels, -1)
        rate = self.settings.target_bandwidths[-1]
        codes, scales, _ = model.encode(both, bandwidth=rate, return_dict=False)
        return self.pack(codes[:chunks], torch.cat(scales[:chunks]).flatten())

    def decode(self, model: Any, codes: Tensor) -> Tensor:
        chunks, scales = self.unpack(codes)
        wave: Tensor = model.decode(chunks, list(scales[:, None, None]), return_dict=False)[0]
        return wave[0].mean(0)

    def pack(self, codes: Tensor, scales: Tensor) -> Tensor:
        """Turn the library's codes (chunks, 1, codebooks, frames) and scales (chunks,) into the
        codes (codes of a chunk, chunks) of this tokenizer.
        """
        loudness = scales.float().contiguous().view(torch.uint8).reshape(-1, _SCALE_BYTES)
        return torch.cat([loudness.long(), codes.flatten(1).long()], 1).T

    def unpack(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Turn codes (codes of a chunk, chunks) back into codes and scales; see `pack`.

        Codes of a codebook that is not there as a whole are left out.

        Raises:
            TokenError: the first four codes of a chunk are no loudness.
        """
        scales = codes[:_SCALE_BYTES].T.reshape(-1).to(torch.uint8).view(torch.float32)
        if not bool((scales.isfinite() & (scales > 0)).all()):
            raise TokenError(
                "the first four codes of each frame are the bytes of its loudness, a positive "
                f"float32; got {scales.tolist()}"
            )
        count = (len(codes) - _SCALE_BYTES) // self.frames
        kept = codes[_SCALE_BYTES : _SCALE_BYTES + count * self.frames].T
        return kept.reshape(len(kept), 1, count, self.frames), scales

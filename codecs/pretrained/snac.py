"""SNAC, through its authors' package: codebooks at several rates, the coarsest first.

H. Siuzdak et al., "SNAC: Multi-Scale Neural Audio Codec", arXiv 2410.14411.

A level's codes come at its own rate: at 12, 23 and 47 Hz in the model for speech. A frame of this
tokenizer is the shortest stretch that the model encodes by itself, with all codes of each level
within it, level after level: 1 + 2 + 4 codes for speech. So `tokens.codes` are flattened frame by
frame, and a smaller `num_codebooks` leaves out the finest levels. `Snac.levels` gives the codes of
each level in a row of its own, as the package does. Where the model attends within windows (the
models for music), the window is the frame.
"""

from collections.abc import Sequence
from math import lcm
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .adapter import Adapter


class Snac(Adapter):
    """See the module. `settings` is the model itself, which has its configuration.

    The decoder adds noise. It is drawn as the package draws it after ``torch.manual_seed(0)``, for
    each utterance anew, so that decoding is repeatable.
    """

    def __init__(self, settings: Any) -> None:
        super().__init__(settings)
        self.min_codebooks = self.per_frame[0]

    @staticmethod
    def make(fields: dict[str, Any]) -> nn.Module:
        """Make the model, untrained, of the fields of its `config.json`."""
        from snac import SNAC

        made: nn.Module = SNAC(**fields)
        return made

    def find_hop(self) -> int:
        window = lcm(self.settings.vq_strides[0], self.settings.attn_window_size or 1)
        self.per_frame = [window // stride for stride in self.settings.vq_strides]
        return int(self.settings.hop_length) * window

    def find_codebook_sizes(self) -> list[int]:
        return [self.settings.codebook_size] * sum(self.per_frame)

    def encode(self, model: Any, wave: Tensor) -> Tensor:
        return self.flattened([level[0] for level in model.encode(wave[None, None])])

    def decode(self, model: Any, codes: Tensor) -> Tensor:
        latents: Any = 0.0
        # A level that is not there as a whole is left out.
        for quantizer, level in zip(model.quantizer.quantizers, self.levels(codes), strict=False):
            part = quantizer.out_proj(quantizer.decode_code(level[None]))
            latents = latents + part.repeat_interleave(quantizer.stride, dim=-1)
        with _SeededNoise():
            wave: Tensor = model.decoder(latents)
        return wave.flatten()

    def flattened(self, levels: Sequence[Tensor]) -> Tensor:
        """Turn the codes of each level (frames × its codes of a frame,) into (codes, frames)."""
        frames = [
            level.view(-1, count) for level, count in zip(levels, self.per_frame, strict=True)
        ]
        return torch.cat(frames, 1).T

    def levels(self, codes: Tensor) -> list[Tensor]:
        """Turn codes (codes, frames) into those of each level, (frames × its codes of a frame,).

        They may be the first so many: a level that is not whole is left out.
        """
        found, start = [], 0
        for count in self.per_frame:
            if start + count > len(codes):
                break
            found.append(codes[start : start + count].T.reshape(-1))
            start += count
        return found


class _SeededNoise(TorchFunctionMode):
    """Draws what `torch.randn` draws, in this thread, from a generator that begins at seed 0."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(0)

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        if func is not torch.randn:
            return func(*args, **given)
        device = given.pop("device", None)
        return func(*args, generator=self.generator, device="cpu", **given).to(device)

"""A decoder at work: compiled where it can be, and in tiles elsewhere."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .compiled import Compiled, is_compilable
from .tiles import TileDecoder

#: Frames in one call of a network of PyTorch's. A stream of single frames computes a whole tile for
#: each. Compiled networks take frames as they come.
TILE = 16


def start_decoding(
    decoder: nn.Module,
    compiled: Compiled[Any, Any] | None,
    latents_of: Callable[[Tensor], Tensor],
    *,
    batch_size: int,
    num_codebooks: int,
    hop: int,
    delay: int,
    device: torch.device,
) -> TileDecoder:
    """A stream that turns codes into latents, and those into samples within full scale.

    Args:
        decoder: with `init_state` and `wave`.
        compiled: its compiled form, for a spectral one on a CPU; None for tiles everywhere.
        latents_of: maps codes (1, frames, codebooks), of which -1 are none, to latents
            (1, frames, channels).
        batch_size, num_codebooks, hop, delay, device: see `TileDecoder`.
    """
    running: Any = decoder
    tile: int | None = TILE
    if compiled and is_compilable(decoder) and device.type == "cpu":
        running, tile = compiled(decoder), None

    def decode_tile(codes: Tensor, state: Any) -> tuple[Tensor, Any]:
        wave, after = running.wave(latents_of(codes), state)
        # Codes that no speech has may ask for any gain.
        return wave.clamp(-1, 1).unflatten(1, (-1, hop)), after

    return TileDecoder(
        decode_tile,
        running.init_state,
        batch_size=batch_size,
        num_codebooks=num_codebooks,
        hop=hop,
        delay=delay,
        tile=tile,
        device=device,
    )

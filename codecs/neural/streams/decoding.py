"""A decoder at work: compiled where it can be, and in tiles elsewhere."""

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from ..compiled.cache import is_compilable
from .tiles import RowsFunction, TileDecoder

S = TypeVar("S")

#: Frames in one call of a network of PyTorch's. A stream of single frames computes a whole tile for
#: each. Compiled networks take frames as they come.
TILE = 16


def in_tiles(function: Callable[[Tensor, S], tuple[Tensor, S]]) -> RowsFunction[S]:
    """What a stream takes, of a module's function of one row.

    Args:
        function: maps (1, frames, …) and a state to (1, frames, …) and the state after, and does
            not change the state that it is given.
    """

    def run(frames: Tensor, edges: Any, states: list[S]) -> tuple[Tensor, list[S]]:
        results, after = function(frames[None], states[0])
        return results[0], [after]

    return run


def together(
    function: Callable[[Tensor, np.ndarray[Any, Any], list[S]], Tensor],
) -> RowsFunction[S]:
    """What a stream takes, of a compiled function that moves on the states it is given."""

    def run(frames: Tensor, edges: np.ndarray[Any, Any], states: list[S]) -> tuple[Tensor, list[S]]:
        return function(frames, edges, states), states

    return run


def start_decoding(
    decoder: nn.Module,
    compiled: Callable[[Any], Any] | None,
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
        compiled: gives its compiled form, for a CPU; None for tiles everywhere.
        latents_of: maps codes (1, frames, codebooks), of which -1 are none, to latents
            (1, frames, channels), each frame by itself.
        batch_size, num_codebooks, hop, delay, device: see `TileDecoder`.
    """

    def module_wave(latents: Tensor, state: Any) -> tuple[Tensor, Any]:
        wave, after = module.wave(latents, state)
        return wave.unflatten(1, (-1, hop)), after

    module: Any = decoder
    running: Any = decoder
    tile: int | None = TILE
    wave_of: RowsFunction[Any] = in_tiles(module_wave)
    if compiled and is_compilable(decoder) and device.type == "cpu":
        running, tile = compiled(decoder), None
        wave_of = together(running.wave)

    def decode(codes: Tensor, edges: Any, states: list[Any]) -> tuple[Tensor, list[Any]]:
        wave, after = wave_of(latents_of(codes[None])[0], edges, states)
        # Codes that no speech has may ask for any gain.
        return wave.clamp(-1, 1), after

    return TileDecoder(
        decode,
        running.init_state,
        batch_size=batch_size,
        num_codebooks=num_codebooks,
        hop=hop,
        delay=delay,
        tile=tile,
        device=device,
    )

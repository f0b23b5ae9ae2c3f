"""Create the decoder stream of a neural codec: compiled on a CPU, else in tiles."""

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from ..compiled.cache import is_compilable
from .tiles import RowsFunction, TileDecoder

S = TypeVar("S")
Array = np.ndarray[Any, Any]

#: Frames per call of a PyTorch network. Streaming single frames computes a whole tile for each.
#: Compiled networks take any number of frames.
TILE = 16


def in_tiles(function: Callable[[Tensor, S], tuple[Tensor, S]]) -> RowsFunction[S]:
    """Adapt a module's function on one row to a `RowsFunction`.

    Args:
        function: maps (1, frames, …) and a state to (1, frames, …) and the new state, without
            changing the given state.
    """

    def run(frames: Tensor, edges: Any, states: list[S]) -> tuple[Tensor, list[S]]:
        results, after = function(frames[None], states[0])
        return results[0], [after]

    return run


def together(
    function: Callable[[Tensor, Array, list[S]], Tensor],
) -> RowsFunction[S]:
    """Adapt a compiled function, which updates states in place, to a `RowsFunction`."""

    def run(frames: Tensor, edges: np.ndarray[Any, Any], states: list[S]) -> tuple[Tensor, list[S]]:
        return function(frames, edges, states), states

    return run


def start_decoding(
    decoder: nn.Module,
    compiled: Callable[[Any], Any] | None,
    inputs: Callable[[Tensor], Tensor],
    inputs_of_latents: Callable[[Tensor], Tensor] | None,
    *,
    input_arrays: Callable[[Array], Array] | None = None,
    batch_size: int,
    num_codebooks: int,
    in_features: int,
    hop: int,
    delay: int,
    device: torch.device,
) -> TileDecoder:
    """Create a stream from codes, or latents, to samples, which are clamped to full scale.

    Args:
        decoder: with `init_state` and `wave`.
        compiled: returns the decoder's compiled form, for a CPU; None: use tiles everywhere.
        inputs, inputs_of_latents: see `TileDecoder`.
        input_arrays: `inputs` on arrays, in compiled code; None: there is none.
        batch_size, num_codebooks, in_features, hop, delay, device: see `TileDecoder`.
    """

    def module_wave(latents: Tensor, state: Any) -> tuple[Tensor, Any]:
        wave, after = module.wave(latents, state)
        return wave.unflatten(1, (-1, hop)), after

    settings: dict[str, Any] = {
        "inputs": inputs,
        "inputs_of_latents": inputs_of_latents,
        "batch_size": batch_size,
        "num_codebooks": num_codebooks,
        "in_features": in_features,
        "hop": hop,
        "delay": delay,
        "device": device,
    }
    module: Any = decoder
    running: Any = decoder
    tile: int | None = TILE
    wave_of: RowsFunction[Any] = in_tiles(module_wave)
    if compiled and is_compilable(decoder) and device.type == "cpu":
        running, tile = compiled(decoder), None
        if hasattr(running, "init_states"):
            from .rows import RowDecoder  # imported here, since numba takes a while to import

            return RowDecoder(running, input_arrays, tile=None, **settings)
        wave_of = together(running.wave)

    def decode(frames: Tensor, edges: Any, states: list[Any]) -> tuple[Tensor, list[Any]]:
        wave, after = wave_of(frames, edges, states)
        # Codes that do not come from speech may give any gain.
        return wave.clamp(-1, 1), after

    return TileDecoder(decode, running.init_state, tile=tile, **settings)

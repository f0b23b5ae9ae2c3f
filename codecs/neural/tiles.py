"""Streams for codecs with a memory, in which a frame's codes depend on all frames before it.

Equality by construction: frames fill tiles of one fixed shape in order, and a network is only ever
run on whole tiles, from the state that the tile before left. A stream that has but one new frame
runs the unfinished tile again, the rest of it empty; the state moves on when the tile is full. So
each frame is computed by the same arithmetic, in the same place of the same shape, however the
audio came.

A compiled network promises by itself that a frame's results do not depend on how many frames come
with it. It needs no tiles, and nothing is computed twice.
"""

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import torch
from torch import Tensor
from torch.nn import functional

from ..streaming import DecoderStream, EncoderStream

S = TypeVar("S")

# Frames for which weights are read once, and which bound the memory, where the function takes any.
_BLOCK = 64


class _Tile(Generic[S]):
    """Runs a causal function over frames that come in any pieces.

    Args:
        function: maps a tile (1, frames, …) and a state to results (1, frames, …) and the state
            after the tile. Frame n's results must not depend on later frames.
        state: before the first frame.
        empty: (frames, …) what stands in the places without a frame.
    """

    def __init__(
        self, function: Callable[[Tensor, S], tuple[Tensor, S]], state: S, empty: Tensor
    ) -> None:
        self.function, self.state = function, state
        self.empty, self.frames = empty, empty.clone()
        self.filled = 0

    def push(self, frames: Tensor) -> list[Tensor]:
        """Results (new frames, …) of frames (new frames, …), in pieces."""
        size, results = self.empty.shape[0], []
        while frames.shape[0]:
            start = self.filled
            taken = min(size - start, frames.shape[0])
            self.frames[start : start + taken] = frames[:taken]
            frames = frames[taken:]
            result, after = self.function(self.frames[None], self.state)
            results.append(result[0, start : start + taken])
            self.filled = start + taken
            if self.filled == size:
                self.state, self.filled = after, 0
                self.frames.copy_(self.empty)
        return results


class _Frames(Generic[S]):
    """Runs a causal function whose results do not depend on how many frames it gets at once.

    Args:
        function, state: see `_Tile`.
    """

    def __init__(self, function: Callable[[Tensor, S], tuple[Tensor, S]], state: S) -> None:
        self.function, self.state = function, state

    def push(self, frames: Tensor) -> list[Tensor]:
        """Results (new frames, …) of frames (new frames, …), in pieces."""
        results = []
        for piece in frames.split(_BLOCK) if frames.shape[0] else ():
            result, self.state = self.function(piece[None], self.state)
            results.append(result[0])
        return results


class TileEncoder(EncoderStream):
    """Windows of samples to codes, row by row.

    Args:
        encode_tile: maps windows (1, tile, window) and a state to codes (1, tile, codebooks) int64
            and the next state.
        init_state: makes the state of one row.
        batch_size: rows.
        hop: samples per frame.
        window: samples that a frame's window has; it ends where the frame ends. Zeros stand for
            those before the start and after the end of the audio.
        look_ahead: frames by which the codes lag: frame n's are those that `encode_tile` gives for
            frame n + look_ahead.
        tile: frames in one call; None: the function gives the same results for any number.
        num_codebooks: what `encode_tile` gives.
        device: where the samples are.
    """

    def __init__(
        self,
        encode_tile: Callable[[Tensor, S], tuple[Tensor, S]],
        init_state: Callable[[], S],
        *,
        batch_size: int,
        hop: int,
        window: int,
        look_ahead: int,
        tile: int | None,
        num_codebooks: int,
        device: torch.device,
    ) -> None:
        self.hop, self.window, self.num_codebooks = hop, window, num_codebooks
        self.look_ahead, self.device = look_ahead, device
        empty = torch.zeros(window, dtype=torch.float32, device=device)
        self.tiles = [_runner(encode_tile, init_state(), empty, tile) for _ in range(batch_size)]
        self.held = [empty[hop:] for _ in range(batch_size)]
        self.taken = [0] * batch_size  # samples
        self.pushed = [0] * batch_size  # frames

    def push(self, rows: Sequence[Tensor], final: bool) -> list[Tensor]:
        return [self._push_row(index, row, final) for index, row in enumerate(rows)]

    def _push_row(self, index: int, row: Tensor, final: bool) -> Tensor:
        hop = self.hop
        self.taken[index] += row.shape[0]
        frames = self.taken[index] // hop
        if final and self.taken[index]:
            frames = -(-self.taken[index] // hop) + self.look_ahead
        frames -= self.pushed[index]
        samples = torch.cat([self.held[index], row])
        if frames:
            size = (frames - 1) * hop + self.window
            samples = functional.pad(samples, (0, max(0, size - samples.shape[0])))
        parts = [torch.zeros(0, self.num_codebooks, dtype=torch.long, device=self.device)]
        if frames:
            parts += self.tiles[index].push(samples.unfold(0, self.window, hop)[:frames])
        # A copy, so that the tail does not keep the whole chunk alive.
        self.held[index] = samples[frames * hop :].clone()
        dropped = max(0, min(frames, self.look_ahead - self.pushed[index]))
        self.pushed[index] += frames
        return torch.cat(parts)[dropped:].T


class TileDecoder(DecoderStream):
    """Codes to samples, row by row.

    Args:
        decode_tile: maps codes (1, tile, codebooks) and a state to samples (1, tile, hop) float32
            and the next state. Codes of -1 are no frame: what follows the end of the audio, of
            which `delay` samples are needed.
        init_state: makes the state of one row.
        batch_size: rows.
        num_codebooks: of the codes.
        hop: samples per frame.
        delay: samples that the output of `decode_tile` lags behind.
        tile: frames in one call; None: the function gives the same results for any number.
        device: where the codes are.
    """

    def __init__(
        self,
        decode_tile: Callable[[Tensor, S], tuple[Tensor, S]],
        init_state: Callable[[], S],
        *,
        batch_size: int,
        num_codebooks: int,
        hop: int,
        delay: int,
        tile: int | None,
        device: torch.device,
    ) -> None:
        self.hop, self.delay = hop, delay
        self.num_codebooks = num_codebooks
        empty = torch.full((num_codebooks,), -1, dtype=torch.long, device=device)
        self.tiles = [_runner(decode_tile, init_state(), empty, tile) for _ in range(batch_size)]
        self.taken = [0] * batch_size  # frames
        self.given = [-delay] * batch_size  # samples, those to be dropped counted as negative

    def push(self, rows: Sequence[Tensor], final: bool) -> list[Tensor]:
        return [self._push_row(index, row.T, final) for index, row in enumerate(rows)]

    def _push_row(self, index: int, frames: Tensor, final: bool) -> Tensor:
        self.taken[index] += frames.shape[0]
        frames = functional.pad(frames, (0, self.num_codebooks - frames.shape[1]), value=-1)
        if final and self.taken[index]:
            frames = functional.pad(frames, (0, 0, 0, -(-self.delay // self.hop)), value=-1)
        parts = [torch.zeros(0, self.hop, dtype=torch.float32, device=frames.device)]
        samples = torch.cat(parts + self.tiles[index].push(frames)).flatten()
        start = max(0, -self.given[index])
        end = self.taken[index] * self.hop - self.given[index]
        self.given[index] += min(samples.shape[0], end)
        return samples[min(start, samples.shape[0]) : end]


def _runner(
    function: Callable[[Tensor, S], tuple[Tensor, S]], state: S, empty: Tensor, tile: int | None
) -> _Tile[S] | _Frames[S]:
    """What runs the function on frames that are like `empty`."""
    if tile is None:
        return _Frames(function, state)
    return _Tile(function, state, empty.expand(tile, *empty.shape).clone())

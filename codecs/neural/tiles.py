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
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor
from torch.nn import functional

from ...errors import StateError
from ..streaming import DecoderStream, EncoderStream, row_flags

S = TypeVar("S")

# Frames for which weights are read once, and which bound the memory, where the function takes any.
_BLOCK = 64


@dataclass
class TileState(Generic[S]):
    """What a row carries from one call of a network to the next.

    Attributes:
        network: after the last whole tile; where there are no tiles, after the last frame.
        frames: (tile, …) the tile that is not full yet, or None where there are no tiles.
        filled: how many frames of it are there.
    """

    network: S
    frames: Tensor | None
    filled: int = 0


class _Runner(Generic[S]):
    """Runs a causal function over frames that come in any pieces.

    Args:
        function: maps frames (1, frames, …) and a state to results (1, frames, …) and the state
            after them. Frame n's results must not depend on later frames.
        init_state: makes the state before the first frame.
        empty: what stands in a place of a tile without a frame.
        tile: frames in one call; None: results do not depend on how many the function gets at once.
    """

    def __init__(
        self,
        function: Callable[[Tensor, S], tuple[Tensor, S]],
        init_state: Callable[[], S],
        empty: Tensor,
        tile: int | None,
    ) -> None:
        self.function, self.init_state = function, init_state
        self.empty = None if tile is None else empty.expand(tile, *empty.shape)

    def init_row(self) -> TileState[S]:
        """The state of a row that has had no frame."""
        return TileState(self.init_state(), None if self.empty is None else self.empty.clone())

    def check(self, state: TileState[S]) -> None:
        """Look at the count in a state.

        Raises:
            StateError: it can't be.
        """
        most = 0 if self.empty is None else len(self.empty) - 1
        if not 0 <= state.filled <= most:
            raise StateError(f"{state.filled} frames in an unfinished tile, at most {most}")

    def push(self, frames: Tensor, state: TileState[S]) -> list[Tensor]:
        """Results (new frames, …) of frames (new frames, …), in pieces; changes the state."""
        results = []
        if state.frames is None or self.empty is None:
            for piece in frames.split(_BLOCK) if frames.shape[0] else ():
                result, state.network = self.function(piece[None], state.network)
                results.append(result[0])
            return results
        size = len(self.empty)
        while frames.shape[0]:
            start = state.filled
            taken = min(size - start, frames.shape[0])
            state.frames[start : start + taken] = frames[:taken]
            frames = frames[taken:]
            result, after = self.function(state.frames[None], state.network)
            results.append(result[0, start : start + taken])
            state.filled = start + taken
            if state.filled == size:
                state.network, state.filled = after, 0
                state.frames.copy_(self.empty)
        return results


@dataclass
class EncoderRow(Generic[S]):
    """The state of a row of `TileEncoder`.

    Attributes:
        tile: of the network.
        samples: (window - 1,) the last ones; those that windows to come have a part in come first.
        taken: samples so far.
        pushed: frames so far.
    """

    tile: TileState[S]
    samples: Tensor
    taken: int = 0
    pushed: int = 0


@dataclass
class DecoderRow(Generic[S]):
    """The state of a row of `TileDecoder`.

    Attributes:
        tile: of the network.
        given: samples so far, those that the delay drops counted as negative.
        taken: frames so far.
    """

    tile: TileState[S]
    given: int
    taken: int = 0


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
        self.empty = torch.zeros(window, dtype=torch.float32, device=device)
        self.runner = _Runner(encode_tile, init_state, self.empty, tile)
        self.states = [self.init_row() for _ in range(batch_size)]

    def init_row(self) -> EncoderRow[Any]:
        return EncoderRow(self.runner.init_row(), self.empty[1:].clone())

    def check_row(self, state: EncoderRow[Any]) -> None:
        self.runner.check(state.tile)
        if state.taken < 0 or state.pushed != state.taken // self.hop:
            raise StateError(f"{state.pushed} frames of {state.taken} samples")

    def push(self, rows: Sequence[Tensor], final: bool | Sequence[bool]) -> list[Tensor]:
        flags = row_flags(final, len(rows))
        return [self._push_row(*each) for each in zip(range(len(rows)), rows, flags, strict=True)]

    def _push_row(self, index: int, row: Tensor, final: bool) -> Tensor:
        hop, state = self.hop, self.states[index]
        held = self.window - hop + state.taken - state.pushed * hop
        state.taken += row.shape[0]
        frames = state.taken // hop - state.pushed
        if final and state.taken:
            frames = -(-state.taken // hop) + self.look_ahead - state.pushed
        samples = torch.cat([state.samples[:held], row])
        parts = [torch.zeros(0, self.num_codebooks, dtype=torch.long, device=self.device)]
        if frames:
            size = (frames - 1) * hop + self.window
            windows = functional.pad(samples, (0, max(0, size - samples.shape[0])))
            parts += self.runner.push(windows.unfold(0, self.window, hop)[:frames], state.tile)
        dropped = max(0, min(frames, self.look_ahead - state.pushed))
        state.pushed += frames
        if final:
            self.reset(index)
        else:
            rest = samples[frames * hop :]
            state.samples[: rest.shape[0]] = rest
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
        self.runner = _Runner(decode_tile, init_state, empty, tile)
        self.states = [self.init_row() for _ in range(batch_size)]

    def init_row(self) -> DecoderRow[Any]:
        return DecoderRow(self.runner.init_row(), -self.delay)

    def check_row(self, state: DecoderRow[Any]) -> None:
        self.runner.check(state.tile)
        if state.taken < 0 or state.given != state.taken * self.hop - self.delay:
            raise StateError(f"{state.given} samples of {state.taken} frames")

    def push(self, rows: Sequence[Tensor], final: bool | Sequence[bool]) -> list[Tensor]:
        flags = row_flags(final, len(rows))
        return [self._push_row(*each) for each in zip(range(len(rows)), rows, flags, strict=True)]

    def _push_row(self, index: int, codes: Tensor, final: bool) -> Tensor:
        state, frames = self.states[index], codes.T
        state.taken += frames.shape[0]
        frames = functional.pad(frames, (0, self.num_codebooks - frames.shape[1]), value=-1)
        if final and state.taken:
            frames = functional.pad(frames, (0, 0, 0, -(-self.delay // self.hop)), value=-1)
        parts = [torch.zeros(0, self.hop, dtype=torch.float32, device=frames.device)]
        samples = torch.cat(parts + self.runner.push(frames, state.tile)).flatten()
        start = max(0, -state.given)
        end = state.taken * self.hop - state.given
        state.given += min(samples.shape[0], end)
        if final:
            self.reset(index)
        return samples[min(start, samples.shape[0]) : end]

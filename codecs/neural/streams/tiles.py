"""Streams for stateful networks, whose output for a frame depends on all frames before it.

Streaming equals offline by construction: frames fill tiles of one fixed shape in order, and a
network only ever runs on whole tiles, starting from the state after the previous tile. For a single
new frame, the stream runs the unfinished tile again, with the rest of it empty, and advances the
state only when the tile is full. So each frame is always computed at the same position of the same
shape, however the audio is split.

Compiled networks guarantee that a frame's results do not depend on the number of frames in a call,
nor on other rows. They need no tiles, nothing is computed twice, and the new frames of all rows are
processed together.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ....errors import StateError
from ...streaming import DecoderStream, EncoderStream, LatentStream, row_flags
from .tile_batches import TileBatches, TilesFunction, places_for
from .tile_state import TileState

S = TypeVar("S")

#: Maps the concatenated frames of rows (frames, …), the rows' boundaries (rows + 1,) and their
#: states to results (frames, …) and new states.
RowsFunction = Callable[[Tensor, np.ndarray[Any, Any], list[S]], tuple[Tensor, list[S]]]

#: Frames per call where any number is allowed: they share each read of the weights, in bounded
#: memory.
BLOCK = 256


class _Runner(Generic[S]):
    """Run a causal function over the frames of rows, which arrive in chunks of any size.

    Args:
        function: frame n's results must not depend on later frames, nor on other rows. With tiles,
            it is called with one tile of one row and must not change the given state, since an
            unfinished tile is run again. Without, it may.
        init_state: creates the state before the first frame.
        empty: fills positions of a tile that have no frame.
        tile: frames per call; None: results do not depend on the number of frames per call.
    """

    def __init__(
        self,
        function: RowsFunction[S],
        init_state: Callable[[], S],
        empty: Tensor,
        tile: int | None,
    ) -> None:
        self.function, self.init_state = function, init_state
        self.empty = None if tile is None else empty.expand(tile, *empty.shape)

    def init_row(self) -> TileState[S]:
        """Create the initial state of a row."""
        return TileState(self.init_state(), None if self.empty is None else self.empty.clone())

    def check(self, state: TileState[S]) -> None:
        """Check the count in a state, and the network's own state if it has a check.

        Raises:
            StateError: they are impossible.
        """
        if hasattr(state.network, "check"):
            state.network.check()
        most = 0 if self.empty is None else len(self.empty) - 1
        if not 0 <= state.filled <= most:
            raise StateError(f"{state.filled} frames in an unfinished tile, at most {most}")

    def push(
        self,
        rows: Sequence[Tensor],
        states: Sequence[TileState[S]],
        after: Callable[[Tensor], Tensor] | None = None,
    ) -> list[list[Tensor]]:
        """Process new frames (new frames, …) of each row; return its results as a list of pieces.

        The states are updated.

        Args:
            after: maps results (frames, …) to other results, each frame on its own.
        """
        if self.empty is None:
            return self._push_together(rows, states, after)
        return [self._push_tiles(*each, after) for each in zip(rows, states, strict=True)]

    def _push_together(
        self,
        rows: Sequence[Tensor],
        states: Sequence[TileState[S]],
        after: Callable[[Tensor], Tensor] | None,
    ) -> list[list[Tensor]]:
        results: list[list[Tensor]] = [[] for _ in rows]
        for block in blocks_of([frames.shape[0] for frames in rows], BLOCK):
            members = [states[row] for row, _, _ in block]
            counts = [stop - start for _, start, stop in block]
            edges = np.array([0, *accumulate(counts)])
            pieces = [rows[row][start:stop] for row, start, stop in block]
            frames = pieces[0] if len(pieces) == 1 else torch.cat(pieces)
            result, states_after = self.function(frames, edges, [each.network for each in members])
            if after is not None:
                result = after(result)
            parts = result.split(counts) if len(counts) > 1 else (result,)
            for (row, _, _), state, network, part in zip(
                block, members, states_after, parts, strict=True
            ):
                state.network = network
                results[row].append(part)
        return results

    def _push_tiles(
        self,
        frames: Tensor,
        state: TileState[S],
        after: Callable[[Tensor], Tensor] | None,
    ) -> list[Tensor]:
        assert self.empty is not None and state.frames is not None
        results, size = [], len(self.empty)
        edges = np.array([0, size])
        while frames.shape[0]:
            start = state.filled
            taken = min(size - start, frames.shape[0])
            state.frames[start : start + taken] = frames[:taken]
            frames = frames[taken:]
            result, (network,) = self.function(state.frames, edges, [state.network])
            if after is not None:
                result = after(result)
            results.append(result[start : start + taken])
            state.filled = start + taken
            if state.filled == size:
                state.network, state.filled = network, 0
                state.frames.copy_(self.empty)
        return results


def blocks_of(counts: Sequence[int], size: int) -> list[list[tuple[int, int, int]]]:
    """Group frames of rows into blocks of at most `size`, as triples (row, start, end).

    Args:
        counts: number of frames, or samples, of each row.
    """
    blocks: list[list[tuple[int, int, int]]] = []
    room = 0
    for row, count in enumerate(counts):
        start = 0
        while start < count:
            if not room:
                blocks.append([])
                room = size
            stop = min(count, start + room)
            blocks[-1].append((row, start, stop))
            room -= stop - start
            start = stop
    return blocks


@dataclass
class EncoderRow(Generic[S]):
    """State of one row of a `TileLatents`.

    Attributes:
        tile: of the network.
        samples: (window - 1,) the latest samples; the first of them are those that future windows
            include.
        taken: samples so far.
        pushed: frames so far.
    """

    tile: TileState[S]
    samples: Tensor
    taken: int = 0
    pushed: int = 0


@dataclass
class DecoderRow(Generic[S]):
    """State of one row of a `TileDecoder`.

    Attributes:
        tile: of the network.
        given: samples so far, starting at minus the delay, which is dropped.
        taken: frames so far.
    """

    tile: TileState[S]
    given: int
    taken: int = 0


class TileLatents(LatentStream):
    """Map windows of samples to latents with a stateful network.

    Args:
        outputs: the network: maps concatenated windows (frames, window) of rows to (frames,
            channels) float32; see `_Runner`.
        init_state: creates the state of one row.
        batch_size: rows.
        hop: samples per frame.
        window: samples per window, which ends where its frame ends. Zeros are used before the
            start and after the end of the audio.
        look_ahead: frames that the network lags behind: frame n's latents are of its output for
            frame n + look_ahead.
        tile: frames per call; None: results do not depend on the number of frames per call.
        channels: of the latents.
        device: of the samples.
        unrounded: maps the network's output (frames, channels) to latents of the same shape, each
            frame on its own; None: they are its output.
    """

    def __init__(
        self,
        outputs: RowsFunction[S],
        init_state: Callable[[], S],
        *,
        batch_size: int,
        hop: int,
        window: int,
        look_ahead: int,
        tile: int | None,
        channels: int,
        device: torch.device,
        unrounded: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.hop, self.window, self.channels = hop, window, channels
        self.unrounded = unrounded
        self.look_ahead, self.device = look_ahead, device
        self.empty = torch.zeros(window, dtype=torch.float32, device=device)
        self.runner = _Runner(outputs, init_state, self.empty, tile)
        self.states = [self.init_row() for _ in range(batch_size)]

    def init_row(self) -> EncoderRow[Any]:
        return EncoderRow(self.runner.init_row(), self.empty[1:].clone())

    def check_row(self, state: EncoderRow[Any]) -> None:
        self.runner.check(state.tile)
        if state.taken < 0 or state.pushed != state.taken // self.hop:
            raise StateError(f"{state.pushed} frames of {state.taken} samples")

    def count_given(self, state: EncoderRow[Any], taken: int) -> int:
        if state.taken != taken:
            raise StateError(f"a state of {state.taken} samples, the row took {taken}")
        return max(0, state.pushed - self.look_ahead)

    def push_latents(self, rows: Sequence[Tensor], final: bool | Sequence[bool]) -> list[Tensor]:
        nothing = torch.zeros(0, self.channels, dtype=torch.float32, device=self.device)
        return self.advance(rows, final, self.unrounded, nothing)

    def advance(
        self,
        rows: Sequence[Tensor],
        final: bool | Sequence[bool],
        after: Callable[[Tensor], Tensor] | None,
        nothing: Tensor,
    ) -> list[Tensor]:
        """Take more samples; return what `after` makes of the network's output, for each row.

        Args:
            rows, final: see `EncoderStream.push`.
            after: maps the output (frames, channels) to (frames, …), each frame on its own.
            nothing: (0, …) the result of no frames.
        """
        flags = row_flags(final, len(rows))
        results = [nothing] * len(rows)
        # A server's sessions have many rows, of which few have samples.
        busy = [index for index, row in enumerate(rows) if flags[index] or row.shape[0]]
        states = [self.states[index] for index in busy]
        cut = self._windows if self.device.type == "cpu" else self._windows_elsewhere
        windows = [
            cut(state, rows[index], flags[index]) for state, index in zip(states, busy, strict=True)
        ]
        parts = self.runner_for(after).push(windows, [state.tile for state in states], after)
        for index, found in zip(busy, parts, strict=True):
            whole = found[0] if len(found) == 1 else torch.cat(found) if found else nothing
            results[index] = self._settled(index, whole, flags[index])
        return results

    def runner_for(self, after: Callable[[Tensor], Tensor] | None) -> "_Runner[Any] | TileBatches":
        """Who runs the network where `after` maps its output."""
        return self.runner

    def _count(self, state: EncoderRow[Any], new: int, final: bool) -> tuple[int, int]:
        """Count new samples; return the number of those that are held, and of whole frames."""
        held = self.window - self.hop + state.taken - state.pushed * self.hop
        state.taken += new
        frames = state.taken // self.hop - state.pushed
        if final and state.taken:
            frames = -(-state.taken // self.hop) + self.look_ahead - state.pushed
        return held, frames

    def _windows(self, state: EncoderRow[Any], row: Tensor, final: bool) -> Tensor:
        """Return the windows (frames, window) that new samples complete; update the state.

        In NumPy, whose operations on a frame take a fraction of torch's.
        """
        held, frames = self._count(state, row.shape[0], final)
        size, step = held + row.shape[0], frames * self.hop
        samples = np.empty(max(size, step - self.hop + self.window), np.float32)
        kept = state.samples.numpy()
        samples[:held] = kept[:held]
        samples[held:size] = row.numpy()
        samples[size:] = 0
        if not final:
            kept[: max(0, size - step)] = samples[step:size]
        shape, strides = (frames, self.window), (4 * self.hop, 4)
        return torch.from_numpy(np.ndarray(shape, np.float32, samples, strides=strides))

    def _windows_elsewhere(self, state: EncoderRow[Any], row: Tensor, final: bool) -> Tensor:
        """`_windows` on another device than the CPU."""
        held, frames = self._count(state, row.shape[0], final)
        samples = torch.cat([state.samples[:held], row])
        rest = samples[frames * self.hop :]
        if not final:
            state.samples[: rest.shape[0]] = rest
        if not frames:
            return self.empty.expand(0, -1)
        missing = (frames - 1) * self.hop + self.window - samples.shape[0]
        if missing > 0:
            samples = functional.pad(samples, (0, missing))
        return samples.unfold(0, self.window, self.hop)[:frames]

    def _settled(self, index: int, found: Tensor, final: bool) -> Tensor:
        """Return the frames (frames, …) of (windows, …), without the look-ahead."""
        state = self.states[index]
        frames = found.shape[0]
        given = found[max(0, min(frames, self.look_ahead - state.pushed)) :]
        state.pushed += frames
        if final:
            self.reset(index)
        return given


class TileEncoder(TileLatents, EncoderStream):
    """Encode windows of samples with a stateful network and a quantizer.

    Args:
        outputs: see `TileLatents`.
        quantize: maps the network's output (frames, channels) to codes (frames, codebooks) int64,
            each frame on its own.
        init_state: see `TileLatents`.
        num_codebooks: of the codes.
        tiles: the network as a function of the tiles of many rows, which then go through it
            together; None: row by row. Latents are always computed row by row: their last bits
            would tell.
        settings: the other arguments of `TileLatents`.
    """

    def __init__(
        self,
        outputs: RowsFunction[S],
        quantize: Callable[[Tensor], Tensor],
        init_state: Callable[[], S],
        *,
        num_codebooks: int,
        tiles: TilesFunction | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(outputs, init_state, **settings)
        self.quantize, self.num_codebooks = quantize, num_codebooks
        self.batches = None
        if tiles is not None and self.runner.empty is not None:
            places = places_for(len(self.states))
            self.batches = TileBatches(tiles, init_state, self.runner.empty, places)

    def push(self, rows: Sequence[Tensor], final: bool | Sequence[bool]) -> list[Tensor]:
        nothing = torch.zeros(0, self.num_codebooks, dtype=torch.long, device=self.device)
        return [codes.T for codes in self.advance(rows, final, self.quantize, nothing)]

    def runner_for(self, after: Callable[[Tensor], Tensor] | None) -> "_Runner[Any] | TileBatches":
        return self.batches if self.batches and after is self.quantize else self.runner


class TileDecoder(DecoderStream):
    """Decode codes, or latents, to samples with a stateful network.

    Args:
        decode: maps the network's concatenated inputs (frames, in_features) of rows to samples
            (frames, hop) float32; see `_Runner`. Inputs of 0 mean no frame: after the end of the
            audio, they flush the last `delay` samples.
        init_state: creates the state of one row.
        inputs: maps codes (frames, codebooks), where -1 means none, to the network's inputs
            (frames, in_features) float32, each frame on its own.
        inputs_of_latents: the same of latents (frames, channels); None: takes no latents.
        batch_size: rows.
        num_codebooks: of the codes.
        in_features: of the network's inputs.
        hop: samples per frame.
        delay: samples that the output of `decode` lags behind.
        tile: frames per call; None: results do not depend on the number of frames per call.
        device: of the codes.
    """

    def __init__(
        self,
        decode: RowsFunction[S],
        init_state: Callable[[], S],
        *,
        inputs: Callable[[Tensor], Tensor],
        inputs_of_latents: Callable[[Tensor], Tensor] | None,
        batch_size: int,
        num_codebooks: int,
        in_features: int,
        hop: int,
        delay: int,
        tile: int | None,
        device: torch.device,
    ) -> None:
        self.hop, self.delay = hop, delay
        self.num_codebooks = num_codebooks
        self.inputs, self.inputs_of_latents = inputs, inputs_of_latents
        empty = torch.zeros(in_features, dtype=torch.float32, device=device)
        self.nothing = torch.zeros(0, dtype=torch.float32, device=device)
        self.runner = _Runner(decode, init_state, empty, tile)
        self.states = [self.init_row() for _ in range(batch_size)]

    def init_row(self) -> DecoderRow[Any]:
        return DecoderRow(self.runner.init_row(), -self.delay)

    def check_row(self, state: DecoderRow[Any]) -> None:
        self.runner.check(state.tile)
        if state.taken < 0 or state.given != state.taken * self.hop - self.delay:
            raise StateError(f"{state.given} samples of {state.taken} frames")

    def count_given(self, state: DecoderRow[Any], taken: int) -> int:
        if state.taken != taken:
            raise StateError(f"a state of {state.taken} frames, the row took {taken}")
        return max(0, state.given)

    def push(self, rows: Sequence[Tensor], final: bool | Sequence[bool]) -> list[Tensor]:
        return self._push([self.filled(codes.T) for codes in rows], final, self.inputs)

    def filled(self, codes: Tensor) -> Tensor:
        """Return codes (frames, num_codebooks) of (frames, codebooks): -1 where there are none."""
        missing = self.num_codebooks - codes.shape[1]
        return functional.pad(codes, (0, missing), value=-1) if missing else codes

    def push_latents(self, rows: Sequence[Tensor], final: bool | Sequence[bool]) -> list[Tensor]:
        if self.inputs_of_latents is None:
            return super().push_latents(rows, final)
        return self._push(rows, final, self.inputs_of_latents)

    def _push(
        self,
        rows: Sequence[Tensor],
        final: bool | Sequence[bool],
        inputs: Callable[[Tensor], Tensor],
    ) -> list[Tensor]:
        """Decode new frames (frames, …) of each row, after `inputs` has made inputs of all."""
        flags = row_flags(final, len(rows))
        results = [self.nothing] * len(rows)
        busy = [index for index, row in enumerate(rows) if flags[index] or row.shape[0]]
        if not busy:
            return results
        chosen = [rows[index] for index in busy]
        states = [self.states[index] for index in busy]
        whole = inputs(chosen[0] if len(busy) == 1 else torch.cat(chosen))
        pieces = whole.split([row.shape[0] for row in chosen])
        frames = [
            self._flushed(state, piece, flags[index])
            for state, piece, index in zip(states, pieces, busy, strict=True)
        ]
        parts = self._run(busy, frames)
        for index, wave in zip(busy, parts, strict=True):
            samples = torch.cat(wave).flatten() if wave else self.nothing
            results[index] = self._settled(index, samples, flags[index])
        return results

    def _run(self, busy: Sequence[int], frames: Sequence[Tensor]) -> list[list[Tensor]]:
        """Return the network's samples, in pieces (frames, hop), of some rows' new frames."""
        return self.runner.push(frames, [self.states[index].tile for index in busy])

    def _flushed(self, state: DecoderRow[Any], frames: Tensor, final: bool) -> Tensor:
        """Count a row's new inputs; at the end, append what flushes the delayed samples."""
        state.taken += frames.shape[0]
        after = -(-self.delay // self.hop) if final and state.taken else 0
        return functional.pad(frames, (0, 0, 0, after)) if after else frames

    def _settled(self, index: int, samples: Tensor, final: bool) -> Tensor:
        """Return the row's part of the network's samples, with the delay dropped."""
        state = self.states[index]
        start = max(0, -state.given)
        end = state.taken * self.hop - state.given
        state.given += min(samples.shape[0], end)
        if final:
            self.reset(index)
        return samples[min(start, samples.shape[0]) : end]

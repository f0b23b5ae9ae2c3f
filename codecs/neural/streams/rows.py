"""Streams of compiled networks, which keep the states of all rows in the same arrays.

They do what the streams of tiles do where a network takes any number of frames, and export the
same states. A frame of any number of rows takes the same few calls of compiled code, from samples
to codes and from codes to samples: the states of rows are not taken apart in Python.
"""

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ...streaming import row_flags
from ...streaming.protocol import Rest
from ..compiled.windows import HeldSamples, Windows
from .tile_state import TileState
from .tiles import BLOCK, DecoderRow, EncoderRow, TileDecoder, TileEncoder, blocks_of

Array = np.ndarray[Any, Any]


class RowStates(Protocol):
    """The states of a network, of all rows of a stream."""

    def row(self, row: int) -> Any:
        """Return the state of a row; its arrays are views."""

    def put(self, row: int, state: Any) -> None:
        """Copy a state into a row; None: the initial state."""


class RowNetwork(Protocol):
    """A compiled network."""

    def init_states(self, rows: int) -> Any:
        """Return the initial `RowStates`."""


class RowEncoder(TileEncoder):
    """Encode windows of samples with a compiled network and a quantizer.

    Args:
        network: with a method `latents(windows, edges, rows, states)`.
        quantize: see `TileEncoder`.
        quantize_array: the same on arrays, in compiled code; None: as `quantize`.
        batch_size: rows.
        settings: the other arguments of `TileEncoder`; `tile` must be None.
    """

    def __init__(
        self,
        network: Any,
        quantize: Callable[[Tensor], Tensor],
        quantize_array: Callable[[Array], Array] | None,
        *,
        batch_size: int,
        **settings: Any,
    ) -> None:
        def one_state() -> Any:
            return network.init_states(1).row(0)

        super().__init__(_unused, quantize, one_state, batch_size=0, **settings)
        self.network, self.compiled = network, quantize_array is not None
        self.quantize_array = quantize_array or self._quantize_array
        self.networks: RowStates = network.init_states(batch_size)
        self.held = HeldSamples(batch_size, self.hop, self.window, self.look_ahead)
        self.rows = np.arange(batch_size)

    # --- states ----------------------------------------------------------------------------------

    def export_row(self, row: int) -> EncoderRow[Any]:
        held = self.held
        return EncoderRow(
            TileState(self.networks.row(row), None),
            torch.from_numpy(held.samples[row]),
            int(held.taken[row]),
            int(held.pushed[row]),
        )

    def import_row(self, row: int, state: EncoderRow[Any]) -> None:
        self.networks.put(row, state.tile.network)
        self.held.samples[row] = state.samples.numpy()
        self.held.taken[row], self.held.pushed[row] = state.taken, state.pushed

    def reset(self, row: int) -> None:
        if self.held.taken[row]:  # else it is as new, and takes no memory
            self.networks.put(row, None)
            self.held.reset(row)

    # --- samples to frames -----------------------------------------------------------------------

    def start_batch(
        self, samples: Tensor, counts: Sequence[int], final: Sequence[bool], as_latents: bool
    ) -> tuple[Tensor, list[int], Rest]:
        if sum(counts) > BLOCK * self.hop:
            return super().start_batch(samples, counts, final, as_latents)
        flat = np.ascontiguousarray(samples.detach().numpy())
        starts, ending = self.rows * flat.shape[1], np.array(final)
        windows = self.held.push(flat.ravel(), starts, np.array(counts, np.int64), ending)
        places = list(zip(*(part.tolist() for part in windows.places()), strict=True))
        frames = [0] * len(counts)
        for row, start, stop in places:
            frames[row] = stop - start
        most = max(frames)
        wide, kind = (self.channels, np.float32) if as_latents else (self.num_codebooks, np.int64)
        batch = np.zeros((len(frames), most, wide), kind)

        def rest() -> None:
            if places:
                found = self._latents(windows)
                found = self._unrounded_array(found) if as_latents else self.quantize_array(found)
                if len(found) == min(frames) * len(frames):  # as many of each row, none left out
                    batch.reshape(found.shape)[...] = found
                else:
                    for row, start, stop in places:
                        batch[row, : stop - start] = found[start:stop]
            self._end(ending)

        return torch.from_numpy(batch if as_latents else batch.swapaxes(1, 2)), frames, rest

    def _quantize_array(self, latents: Array) -> Array:
        codes: Array = self.quantize(torch.from_numpy(latents)).numpy()
        return codes

    def _unrounded_array(self, latents: Array) -> Array:
        if self.unrounded is None:
            return latents
        found: Array = self.unrounded(torch.from_numpy(latents)).numpy()
        return found

    def advance(
        self,
        rows: Sequence[Tensor],
        final: bool | Sequence[bool],
        after: Callable[[Tensor], Tensor] | None,
        nothing: Tensor,
    ) -> list[Tensor]:
        flags = row_flags(final, len(rows))
        arrays = [row.numpy() for row in rows]
        sizes = [len(row) for row in arrays]
        pieces = blocks_of(sizes, BLOCK * self.hop)
        parts: list[list[Tensor]] = [[] for _ in rows]
        # Rows that end without new samples.
        ended = [(row, 0, 0) for row, size in enumerate(sizes) if flags[row] and not size]
        for block in [*pieces, ended] if ended else pieces:
            starts, counts = np.zeros((2, len(rows)), np.int64)
            ending, at = np.zeros(len(rows), bool), 0
            for row, start, stop in block:
                starts[row], counts[row] = at, stop - start
                ending[row] = flags[row] and stop == sizes[row]
                at += stop - start
            chosen = [arrays[row][start:stop] for row, start, stop in block]
            flat = np.concatenate(chosen)
            windows = self.held.push(flat, starts, counts, ending)
            if len(windows.rows):
                found = torch.from_numpy(self._latents(windows))
                if after is not None:
                    found = after(found)
                for row, first, stop in zip(*windows.places(), strict=True):
                    parts[row].append(found[first:stop])
            self._end(ending)
        return [
            part[0] if len(part) == 1 else torch.cat(part) if part else nothing for part in parts
        ]

    def _latents(self, windows: Windows) -> Array:
        """Return the network's output (windows, channels) float32; the states are updated."""
        found: Array = self.network.latents(
            windows.samples, windows.edges, windows.rows, self.networks
        )
        return found

    def _end(self, final: Array) -> None:
        """Reset the rows that have ended."""
        if True in final:
            for row in np.flatnonzero(final).tolist():
                self.reset(row)


class RowDecoder(TileDecoder):
    """Decode codes, or latents, to samples with a compiled network.

    Args:
        network: with a method `wave(latents, edges, rows, states, out)`.
        input_arrays: `inputs` of `TileDecoder` on arrays; None: as `inputs`.
        batch_size: rows.
        settings: the other arguments of `TileDecoder`; `tile` must be None.
    """

    def __init__(
        self,
        network: Any,
        input_arrays: Callable[[Array], Array] | None,
        *,
        batch_size: int,
        **settings: Any,
    ) -> None:
        def one_state() -> Any:
            return network.init_states(1).row(0)

        super().__init__(_unused, one_state, batch_size=0, **settings)
        self.network, self.input_arrays = network, input_arrays
        self.compiled = input_arrays is not None
        self.networks: RowStates = network.init_states(batch_size)
        # Their networks' states are in `networks`.
        self.states = [self._as_new() for _ in range(batch_size)]

    def _as_new(self) -> DecoderRow[Any]:
        return DecoderRow(TileState(None, None), -self.delay)

    # --- states ----------------------------------------------------------------------------------

    def export_row(self, row: int) -> DecoderRow[Any]:
        state = self.states[row]
        return DecoderRow(TileState(self.networks.row(row), None), state.given, state.taken)

    def import_row(self, row: int, state: DecoderRow[Any]) -> None:
        self.networks.put(row, state.tile.network)
        self.states[row] = DecoderRow(TileState(None, None), state.given, state.taken)

    def reset(self, row: int) -> None:
        if self.states[row].taken:  # else it is as new, and takes no memory
            self.networks.put(row, None)
            self.states[row] = self._as_new()

    # --- frames to samples -----------------------------------------------------------------------

    def start_batch(
        self, frames: Tensor, counts: Sequence[int], final: Sequence[bool], as_latents: bool
    ) -> tuple[Tensor, list[int], Rest]:
        busy = [row for row, count in enumerate(counts) if count]
        if not busy or any(final) or sum(counts) > BLOCK:
            return super().start_batch(frames, counts, final, as_latents)
        if as_latents and self.inputs_of_latents is None:
            return super().start_batch(frames, counts, final, as_latents)
        values = frames.numpy() if as_latents else frames.numpy().swapaxes(1, 2)
        new = [counts[row] for row in busy]
        if len(busy) == len(counts) and min(new) == values.shape[1]:
            flat = values.reshape(-1, values.shape[2])
        else:
            flat = np.concatenate([values[row, : counts[row]] for row in busy])
        hop, starts, lengths = self.hop, [], [0] * len(counts)
        for row, count in zip(busy, new, strict=True):
            state = self.states[row]
            start = min(max(0, -state.given), count * hop)
            starts.append(start)
            lengths[row] = count * hop - start
            state.taken += count
            state.given += count * hop
        inputs, wave = self._inputs(flat, as_latents), np.empty((sum(new), hop), np.float32)
        edges, rows, samples = np.array([0, *accumulate(new)]), np.array(busy), wave.reshape(-1)
        if len(counts) == 1:
            out, whole = samples[None, starts[0] :], True
        elif min(lengths) * len(counts) == samples.size:
            out, whole = samples.reshape(len(counts), -1), True
        else:
            out, whole = np.zeros((len(counts), max(lengths)), np.float32), False

        def rest() -> None:
            self._wave(inputs, edges, rows, wave)
            if not whole:
                at = 0
                for row, count, start in zip(busy, new, starts, strict=True):
                    out[row, : lengths[row]] = samples[at + start : at + count * hop]
                    at += count * hop

        return torch.from_numpy(out), lengths.copy(), rest

    def _inputs(self, values: Array, as_latents: bool) -> Array:
        """Return the network's inputs (frames, in_features) of codes or latents of frames."""
        if as_latents or self.input_arrays is None:
            tensor = torch.from_numpy(values)
            if as_latents:
                assert self.inputs_of_latents is not None
                found: Array = self.inputs_of_latents(tensor).numpy()
            else:
                found = self.inputs(self.filled(tensor)).numpy()
            return found
        missing = self.num_codebooks - values.shape[1]
        if missing:
            values = np.pad(values, ((0, 0), (0, missing)), constant_values=-1)
        return self.input_arrays(values)

    def _run(self, busy: Sequence[int], frames: Sequence[Tensor]) -> list[list[Tensor]]:
        parts: list[list[Tensor]] = [[] for _ in busy]
        for block in blocks_of([len(row) for row in frames], BLOCK):
            counts = [stop - start for _, start, stop in block]
            pieces = [frames[row][start:stop] for row, start, stop in block]
            rows = np.array([busy[row] for row, _, _ in block])
            wave = np.empty((sum(counts), self.hop), np.float32)
            edges = np.array([0, *accumulate(counts)])
            self._wave(torch.cat(pieces).numpy(), edges, rows, wave)
            for (row, _, _), part in zip(block, torch.from_numpy(wave).split(counts), strict=True):
                parts[row].append(part)
        return parts

    def _wave(self, frames: Array, edges: Array, rows: Array, out: Array) -> None:
        """Decode inputs (frames, in_features) of some rows to samples (frames, hop)."""
        inputs = np.ascontiguousarray(frames, np.float32)
        self.network.wave(inputs, edges, rows, self.networks, out)


def _unused(*_: Any) -> Any:
    raise AssertionError("compiled networks run on all rows at once")

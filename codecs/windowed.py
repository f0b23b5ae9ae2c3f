"""Streams for codecs whose frames depend on one window of samples only, without further state.

Streaming equals offline by construction: whatever the chunks and the batch size, windows are packed
into tiles of one fixed shape, and one function encodes each tile. Libraries only see that shape,
and so can't choose another algorithm for another shape.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import StateError
from .streaming import DecoderStream, EncoderStream, row_flags


@dataclass
class WindowState:
    """State of one row of a `WindowEncoder` between two pushes.

    Attributes:
        samples: (window - 1,) past samples that future windows need; only the last `before` and
            `missing` ones are used.
        missing: samples received, minus hop × frames produced.
    """

    samples: Tensor
    missing: int = 0


class WindowEncoder(EncoderStream):
    """Encode windows of samples, for all rows of a batch.

    Args:
        encode_tile: maps windows (tile, window) float32 to codes (tile, codebooks) int64, each
            window on its own.
        latents_tile: maps the same windows to latents (tile, channels) float32; None: has none.
        batch_size: rows.
        hop: samples per frame.
        window: samples that a frame depends on.
        before: how many of them precede the frame's first sample; zeros are used before the start
            and after the end of the audio.
        tile: windows in one call of `encode_tile`.
        num_codebooks: of the codes from `encode_tile`.
        channels: of the latents.
        device: of the samples.
    """

    def __init__(
        self,
        encode_tile: Callable[[Tensor], Tensor],
        *,
        batch_size: int,
        hop: int,
        window: int,
        before: int,
        tile: int,
        num_codebooks: int,
        device: torch.device,
        latents_tile: Callable[[Tensor], Tensor] | None = None,
        channels: int = 0,
    ) -> None:
        if before < 0 or window - before < hop:
            raise ValueError("a window must cover its own frame")
        self.encode_tile = encode_tile
        self.latents_tile, self.channels = latents_tile, channels
        self.hop, self.window, self.num_codebooks = hop, window, num_codebooks
        self.before = before
        self.tile = torch.zeros(tile, window, dtype=torch.float32, device=device)
        self.states = [self.init_row() for _ in range(batch_size)]

    def init_row(self) -> WindowState:
        return WindowState(self.tile.new_zeros(self.window - 1))

    def check_row(self, state: WindowState) -> None:
        most = len(state.samples) - self.before
        if not 0 <= state.missing <= most:
            raise StateError(f"{state.missing} samples without a frame, expected 0 to {most}")

    def count_given(self, state: WindowState, taken: int) -> int:
        frames, rest = divmod(taken - state.missing, self.hop)
        if frames < 0 or rest:
            raise StateError(f"{state.missing} of {taken} samples without a frame")
        return frames

    def push(self, rows: Sequence[Tensor], final: bool | Sequence[bool]) -> list[Tensor]:
        windows = self.windows(rows, final)
        codes = in_window_tiles(
            self.encode_tile, self.tile, windows, self.num_codebooks, torch.long
        )
        return [row.T for row in codes]

    def push_latents(self, rows: Sequence[Tensor], final: bool | Sequence[bool]) -> list[Tensor]:
        if self.latents_tile is None:
            return super().push_latents(rows, final)
        windows = self.windows(rows, final)
        return in_window_tiles(self.latents_tile, self.tile, windows, self.channels, torch.float32)

    def windows(self, rows: Sequence[Tensor], final: bool | Sequence[bool]) -> list[Tensor]:
        """Take more samples; return the windows (frames, window) of each row that they complete."""
        flags = row_flags(final, len(rows))
        return [self._windows(*each) for each in zip(range(len(rows)), rows, flags, strict=True)]

    def _windows(self, index: int, row: Tensor, final: bool) -> Tensor:
        """Return the windows (frames, window) of a row that its new samples complete."""
        state = self.states[index]
        held = self.before + state.missing
        taken, missing = held + row.shape[0], state.missing + row.shape[0]
        size, frames = taken, max(0, (taken - self.window) // self.hop + 1)
        if final:
            frames = -(-missing // self.hop)
            size = max(size, (frames - 1) * self.hop + self.window)
        samples = row.new_zeros(size)
        samples[:held] = state.samples[:held]
        samples[held:taken] = row
        if final:
            self.reset(index)
        else:
            state.missing = missing - frames * self.hop
            rest = samples[frames * self.hop :]
            state.samples[: len(rest)] = rest
        if not frames:
            return samples.new_zeros(0, self.window)
        return samples.unfold(0, self.window, self.hop)[:frames]


class StatelessDecoder(DecoderStream):
    """Decode each frame's codes to that frame's samples, without state or delay.

    Args:
        decode_tile: maps codes (tile, codebooks) int64 to samples (tile, hop) float32, each frame
            on its own.
        num_codebooks: of the codes.
        hop: samples per frame.
        tile: frames in one call of `decode_tile`.
        device: of the codes.
    """

    def __init__(
        self,
        decode_tile: Callable[[Tensor], Tensor],
        *,
        num_codebooks: int,
        hop: int,
        tile: int,
        device: torch.device,
    ) -> None:
        self.decode_tile, self.hop = decode_tile, hop
        self.tile = torch.zeros(tile, num_codebooks, dtype=torch.long, device=device)

    # Rows have no state, and their number is not fixed.

    def init_row(self) -> None:
        return None

    def reset(self, row: int) -> None:
        pass

    def export_row(self, row: int) -> None:
        return None

    def count_given(self, state: None, taken: int) -> int:
        return taken * self.hop

    def import_row(self, row: int, state: None) -> None:
        pass

    def push(self, rows: Sequence[Tensor], final: bool | Sequence[bool]) -> list[Tensor]:
        codes = [row.T for row in rows]
        samples = in_window_tiles(self.decode_tile, self.tile, codes, self.hop, torch.float32)
        return [row.flatten() for row in samples]


def in_window_tiles(
    function: Callable[[Tensor], Tensor],
    tile: Tensor,
    rows: Sequence[Tensor],
    width: int,
    dtype: torch.dtype,
) -> list[Tensor]:
    """Apply `function` to the frames of all rows, packed into tiles of one shape.

    Args:
        function: maps (tile, …) to (tile, width).
        tile: a buffer for one tile, used again for each.
        rows: (frames, …) each.
        width, dtype: of the results.
    """
    size = tile.shape[0]
    counts = [row.shape[0] for row in rows]
    results = torch.empty(sum(counts), width, dtype=dtype, device=tile.device)
    filled = done = 0
    for row in rows:
        at = 0
        while at < row.shape[0]:
            taken = min(size - filled, row.shape[0] - at)
            tile[filled : filled + taken] = row[at : at + taken]
            filled, at = filled + taken, at + taken
            if filled == size:
                results[done : done + size] = function(tile)
                filled, done = 0, done + size
    if filled:
        tile[filled:] = 0
        results[done:] = function(tile)[:filled]
    return list(results.split(counts))

"""Streams for codecs without memory: each frame depends on one window of samples, or of one frame.

Equality by construction: whatever the chunks and the batch, the windows are packed into tiles of
one fixed shape, and the same function turns each tile into codes. No library ever sees another
shape, so none can choose another algorithm for it.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .streaming import DecoderStream, EncoderStream


class WindowEncoder(EncoderStream):
    """Runs a function of windows over the rows of a batch.

    Args:
        encode_tile: maps windows (tile, window) float32 to codes (tile, codebooks) int64, each row
            by itself.
        batch_size: rows.
        hop: samples per frame.
        window: samples that a frame depends on.
        before: how many of them lie before the frame's first sample; zeros stand for those before
            the start and after the end of the audio.
        tile: windows in one call of `encode_tile`.
        num_codebooks: what `encode_tile` gives.
        device: where the samples are.
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
    ) -> None:
        if before < 0 or window - before < hop:
            raise ValueError("a window must cover its own frame")
        self.encode_tile = encode_tile
        self.hop, self.window, self.num_codebooks = hop, window, num_codebooks
        self.tile = torch.zeros(tile, window, dtype=torch.float32, device=device)
        self.held = [self.tile.new_zeros(before) for _ in range(batch_size)]
        self.missing = [0] * batch_size  # samples taken, less hop × frames given

    def push(self, rows: Sequence[Tensor], final: bool) -> list[Tensor]:
        windows = []
        for index, row in enumerate(rows):
            held = self.held[index]
            self.missing[index] += row.shape[0]
            size = held.shape[0] + row.shape[0]
            if final:
                frames = -(-self.missing[index] // self.hop)
                size = max(size, (frames - 1) * self.hop + self.window)
            else:
                frames = max(0, (size - self.window) // self.hop + 1)
            samples = row.new_zeros(size)
            samples[: held.shape[0]] = held
            samples[held.shape[0] : held.shape[0] + row.shape[0]] = row
            if frames:
                windows.append(samples.unfold(0, self.window, self.hop)[:frames])
            else:
                windows.append(samples.new_zeros(0, self.window))
            self.missing[index] -= frames * self.hop
            # A copy, so that the tail does not keep the whole chunk alive.
            self.held[index] = samples[frames * self.hop :].clone()
        codes = _in_tiles(self.encode_tile, self.tile, windows, self.num_codebooks, torch.long)
        return [row.T for row in codes]


class FrameDecoder(DecoderStream):
    """Runs a function that turns each frame's codes into that frame's samples, without delay.

    Args:
        decode_tile: maps codes (tile, codebooks) int64 to samples (tile, hop) float32, each row by
            itself.
        num_codebooks: of the codes.
        hop: samples per frame.
        tile: frames in one call of `decode_tile`.
        device: where the codes are.
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

    def push(self, rows: Sequence[Tensor], final: bool) -> list[Tensor]:
        codes = [row.T for row in rows]
        samples = _in_tiles(self.decode_tile, self.tile, codes, self.hop, torch.float32)
        return [row.flatten() for row in samples]


def _in_tiles(
    function: Callable[[Tensor], Tensor],
    tile: Tensor,
    rows: Sequence[Tensor],
    width: int,
    dtype: torch.dtype,
) -> list[Tensor]:
    """Apply `function` to the frames of all rows, packed into tiles of one shape.

    Args:
        function: maps (tile, …) to (tile, width).
        tile: a buffer to pack into.
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

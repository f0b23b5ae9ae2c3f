"""The interface of vocoders for dMel, and the stream that runs one."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...errors import StateError
from ...quantizers.levels import inner_edges
from ..streaming import DecoderStream, row_flags
from ..streaming.vocoder import Vocoder

#: log10 mel amplitude that bounds the outermost quantization cells.
UNBOUNDED = 1000.0


class MelVocoder(Vocoder):
    """Turn levels of log-mel channels into speech."""

    @abstractmethod
    def start(self, levels: Tensor, batch_size: int) -> DecoderStream:
        """Create a decoder stream of `batch_size` rows.

        Args:
            levels: (channels, levels) log10 mel amplitudes, ascending.
            batch_size: rows.
        """


class BlockVocoder(MelVocoder):
    """A vocoder that processes blocks of one fixed size.

    Attributes:
        block_frames: frames per `step`.
        delay_frames: frames that the output lags behind the input.
    """

    block_frames: int
    delay_frames: int

    @property
    def latency(self) -> int:
        """Samples that the streamed output lags behind the codes, with the wait for a block."""
        return (self.delay_frames + self.block_frames - 1) * self.hop

    def start(self, levels: Tensor, batch_size: int) -> DecoderStream:
        return BlockStream(self, levels, batch_size)

    @abstractmethod
    def init_state(self, batch: int) -> Any:
        """Create the initial state of `batch` streams."""

    @abstractmethod
    def step(self, state: Any, low: Tensor, high: Tensor, centre: Tensor) -> Tensor:
        """Process the next block; the returned samples lag by `delay_frames`.

        Args:
            state: changed in place.
            low, high: (batch, channels, block_frames) bounds of each frame's quantization cell, in
                log10 mel amplitude; far below and above any for the outermost cells.
            centre: the same shape; the level of each code, or latents.

        Returns:
            (batch, block_frames × hop) float32.
        """


@dataclass
class BlockState:
    """State of one row of `BlockStream` between two pushes.

    Attributes:
        vocoder: from its `init_state`.
        cells: (3, channels, block_frames) float32: low, high and centre, as `step` takes them; the
            first `held` frames are filled.
        delay: samples still to be dropped.
        held: frames in the incomplete block.
        owed: samples of the frames so far that were not output yet.
    """

    vocoder: Any
    cells: Tensor
    delay: int
    held: int = 0
    owed: int = 0


class BlockStream(DecoderStream):
    """Feed each row's codes, or latents, to the vocoder in blocks, and drop the delay from its
    output.

    Each row is processed on its own, in calls of one fixed shape, because phase retrieval is
    chaotic: with another shape, different last bits would grow into another waveform.

    Args:
        vocoder: the vocoder.
        levels: (channels, levels) log10 mel amplitudes, ascending.
        batch_size: rows.
    """

    def __init__(self, vocoder: BlockVocoder, levels: Tensor, batch_size: int) -> None:
        self.vocoder = vocoder
        edges = inner_edges(levels)
        # The lowest and highest cells have no bound; these lie far beyond any level.
        outside = edges.new_full((levels.shape[0], 1), UNBOUNDED)
        low, high = torch.cat([-outside, edges], dim=1), torch.cat([edges, outside], dim=1)
        self.cells = torch.stack([low, high, levels]).float()
        self.states = [self.init_row() for _ in range(batch_size)]

    def init_row(self) -> BlockState:
        size = *self.cells.shape[:2], self.vocoder.block_frames
        return BlockState(
            vocoder=self.vocoder.init_state(1),
            cells=torch.zeros(size, dtype=torch.float32, device=self.cells.device),
            delay=self.vocoder.delay_frames * self.vocoder.hop,
        )

    def check_row(self, state: BlockState) -> None:
        vocoder = self.vocoder
        delay = vocoder.delay_frames * vocoder.hop
        held = 0 <= state.held < vocoder.block_frames
        if not held or not 0 <= state.delay <= delay or state.owed < 0:
            raise StateError(f"{state.held} frames held, {state.owed} samples owed")
        low, high, _ = state.cells
        if bool((state.cells.abs() > UNBOUNDED).any()) or bool((low > high).any()):
            raise StateError("a quantization cell is out of bounds")

    def count_given(self, state: BlockState, taken: int) -> int:
        given = taken * self.vocoder.hop - state.owed
        if given < 0 or state.held != taken % self.vocoder.block_frames:
            raise StateError(
                f"{state.held} frames held and {state.owed} samples owed of {taken} frames"
            )
        return given

    def push(self, rows: Sequence[Tensor], final: bool | Sequence[bool]) -> list[Tensor]:
        flags = row_flags(final, len(rows))
        cells = [self._cells_of(codes) for codes in rows]
        return [self._push_row(*each) for each in zip(range(len(rows)), cells, flags, strict=True)]

    def push_latents(self, rows: Sequence[Tensor], final: bool | Sequence[bool]) -> list[Tensor]:
        flags = row_flags(final, len(rows))
        cells = [self._cells_around(latents.T.contiguous()) for latents in rows]
        return [self._push_row(*each) for each in zip(range(len(rows)), cells, flags, strict=True)]

    def _cells_of(self, codes: Tensor) -> Tensor:
        """Return cells (3, channels, frames) of codes (channels, frames)."""
        return self.cells.gather(2, codes.long().expand(3, -1, -1))

    def _cells_around(self, latents: Tensor) -> Tensor:
        """Return the cells (3, channels, frames) that latents (channels, frames) lie in.

        The freedom of a quantization cell makes magnitudes consistent between frames: exact bounds
        sound worse (PESQ 2.6 instead of 3.1, over clips of the valid split).
        """
        edges = self.cells[1, :, :-1].contiguous()
        cells = self._cells_of(torch.searchsorted(edges, latents, right=True))
        cells[2] = latents
        return cells

    def _push_row(self, index: int, cells: Tensor, final: bool) -> Tensor:
        vocoder, size, state = self.vocoder, self.vocoder.block_frames, self.states[index]
        state.owed += cells.shape[2] * vocoder.hop
        cells = torch.cat([state.cells[..., : state.held], cells], dim=2)
        if final:
            # Feed silence (the lowest levels), to flush the delayed samples.
            wanted = -(-(state.owed + state.delay) // vocoder.hop) if state.owed else 0
            silent = max(0, wanted - cells.shape[2])
            silent += -(cells.shape[2] + silent) % size
            cells = torch.cat([cells, self.cells[..., :1].expand(-1, -1, silent)], dim=2)
        blocks = cells.shape[2] // size
        waves = [torch.zeros(0, dtype=torch.float32, device=cells.device)]
        for block in cells[..., : blocks * size].split(size, dim=2) if blocks else ():
            wave = vocoder.step(state.vocoder, *block[:, None])[0]
            dropped = min(state.delay, wave.shape[0])
            state.delay -= dropped
            waves.append(wave[dropped:])
        samples = torch.cat(waves)[: state.owed]
        state.owed -= samples.shape[0]
        if final:
            self.reset(index)
        else:
            state.held = cells.shape[2] - blocks * size
            state.cells[..., : state.held] = cells[..., blocks * size :]
        return samples

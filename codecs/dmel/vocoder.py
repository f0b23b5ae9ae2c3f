"""What a vocoder for dMel does, and the stream that drives one."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...quantizers.levels import inner_edges
from ..streaming import DecoderStream


class MelVocoder(nn.Module, ABC):
    """Turns levels of log-mel channels into speech.

    Attributes:
        hop: samples per frame.
        macs_per_second: multiply-accumulates per second of audio.
    """

    hop: int
    macs_per_second: float

    @property
    @abstractmethod
    def latency(self) -> int:
        """Samples that the streamed output lags behind the codes."""

    @abstractmethod
    def start(self, levels: Tensor, batch_size: int) -> DecoderStream:
        """A fresh decoder for `batch_size` rows.

        Args:
            levels: (channels, levels) log10 mel amplitudes, ascending.
            batch_size: rows.
        """


class BlockVocoder(MelVocoder):
    """A vocoder that works block by block, always of the same shape.

    Attributes:
        block_frames: frames that one `step` takes.
        delay_frames: frames that the output lags behind the input.
    """

    block_frames: int
    delay_frames: int

    @property
    def latency(self) -> int:
        """Samples that the streamed output lags behind the codes, a block's waiting included."""
        return (self.delay_frames + self.block_frames - 1) * self.hop

    def start(self, levels: Tensor, batch_size: int) -> DecoderStream:
        return BlockStream(self, levels, batch_size)

    @abstractmethod
    def init_state(self, batch: int) -> Any:
        """The state of `batch` streams that have heard nothing."""

    @abstractmethod
    def step(self, state: Any, low: Tensor, high: Tensor, centre: Tensor) -> Tensor:
        """Take the next block and give as many samples, which lag by `delay_frames`.

        Args:
            state: changed in place.
            low, high: (batch, channels, block_frames) the log10 mel amplitudes that the codes
                leave open; -inf and inf in the outermost cells.
            centre: the same shape; the level within the cell.

        Returns:
            (batch, block_frames × hop) float32.
        """


class BlockStream(DecoderStream):
    """Cuts each row's codes into the vocoder's blocks and drops the delay.

    Rows go through the vocoder one by one, in calls of one fixed shape, because phase retrieval is
    chaotic: the last bit of another shape's arithmetic would become another waveform.

    Args:
        vocoder: the vocoder.
        levels: (channels, levels) log10 mel amplitudes, ascending.
        batch_size: rows.
    """

    def __init__(self, vocoder: BlockVocoder, levels: Tensor, batch_size: int) -> None:
        self.vocoder = vocoder
        edges = inner_edges(levels)
        outside = edges.new_full((levels.shape[0], 1), float("inf"))
        self.low = torch.cat([-outside, edges], dim=1).float()
        self.high = torch.cat([edges, outside], dim=1).float()
        self.centre = levels.float()
        self.states = [vocoder.init_state(1) for _ in range(batch_size)]
        self.held = [torch.zeros(levels.shape[0], 0, dtype=torch.long) for _ in range(batch_size)]
        self.delay = [vocoder.delay_frames * vocoder.hop] * batch_size
        self.owed = [0] * batch_size  # samples

    def push(self, rows: Sequence[Tensor], final: bool) -> list[Tensor]:
        return [self._push_row(index, row, final) for index, row in enumerate(rows)]

    def _push_row(self, index: int, codes: Tensor, final: bool) -> Tensor:
        vocoder, size = self.vocoder, self.vocoder.block_frames
        self.owed[index] += codes.shape[1] * vocoder.hop
        codes = torch.cat([self.held[index].to(codes.device), codes.long()], dim=1)
        if final:
            # The lowest level everywhere: silence, to push out what the delay holds back.
            wanted = (
                -(-(self.owed[index] + self.delay[index]) // vocoder.hop) if self.owed[index] else 0
            )
            silent = max(0, wanted - codes.shape[1])
            silent += -(codes.shape[1] + silent) % size
            codes = torch.nn.functional.pad(codes, (0, silent))
        blocks = codes.shape[1] // size
        waves = []
        for block in codes[:, : blocks * size].split(size, dim=1) if blocks else ():
            cells = (table.gather(1, block)[None] for table in (self.low, self.high, self.centre))
            wave = vocoder.step(self.states[index], *cells)[0]
            dropped = min(self.delay[index], wave.shape[0])
            self.delay[index] -= dropped
            waves.append(wave[dropped:])
        self.held[index] = codes[:, blocks * size :].clone()
        samples = (
            torch.cat(waves) if waves else torch.zeros(0, dtype=torch.float32, device=codes.device)
        )
        samples = samples[: self.owed[index]]
        self.owed[index] -= samples.shape[0]
        return samples

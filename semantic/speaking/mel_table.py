"""The training-free vocoder for units.

Each unit has the mean log-mel spectrum of its frames. dMel's training-free vocoder synthesizes from
these as from dMel's levels: it treats a range around each mean as a quantization cell, and finds
pitch, gains and phases (`codecs/dmel/phase_retrieval.py`). Variation of speaker and pitch around
the mean is lost.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ...codecs.dmel.config import DMelConfig
from ...codecs.dmel.phase_retrieval import PhaseRetrievalConfig, PhaseRetrievalVocoder
from ...codecs.dmel.vocoder import UNBOUNDED, BlockStream
from ...codecs.streaming import DecoderStream
from ..encoders.log_mel import LogMel, LogMelConfig
from .interface import UnitVocoder


@dataclass(frozen=True)
class MelTableConfig:
    """Configuration of `MelTableVocoder`.

    Attributes:
        mel: the analysis behind the table's means.
        width: log10 amplitude by which a channel may deviate from its mean, in both directions.
        iterations: phase-retrieval iterations per block.
    """

    mel: LogMelConfig = field(default_factory=LogMelConfig)
    width: float = 0.3
    iterations: int = 12

    def __post_init__(self) -> None:
        if not self.width > 0 or self.iterations < 1:
            raise ValueError(
                f"width and iterations must be positive, got {self.width} and {self.iterations}"
            )


class MelTableVocoder(UnitVocoder):
    """Synthesize the mean spectra of the first codebook's units, by phase retrieval.

    Args:
        config: see `MelTableConfig`.
        num_units: number of codes of the first codebook.

    Attributes:
        table: (units, channels) float32, mean log10 mel amplitudes.
    """

    table: Tensor

    def __init__(self, config: MelTableConfig, num_units: int) -> None:
        super().__init__()
        self.config = config
        self.sample_rate, self.hop = config.mel.sample_rate, config.mel.hop
        shape = num_units, config.mel.num_mels
        self.register_buffer("table", torch.full(shape, config.mel.floor, dtype=torch.float32))
        settings = DMelConfig(
            sample_rate=config.mel.sample_rate,
            n_fft=config.mel.n_fft,
            window_length=config.mel.window_length,
            hop_length=config.mel.hop,
            num_mels=config.mel.num_mels,
            fmin=config.mel.fmin,
            fmax=config.mel.fmax,
        )
        retrieval = replace(PhaseRetrievalConfig.for_dmel(settings), iterations=config.iterations)
        self.synthesis = PhaseRetrievalVocoder(retrieval, LogMel(config.mel).mel.filters.T)
        self.macs_per_second = self.synthesis.macs_per_second
        self.broken_promises = dict(self.synthesis.broken_promises)

    @property
    def latency(self) -> int:
        return self.synthesis.latency

    def start(self, batch_size: int) -> DecoderStream:
        return _TableStream(self, batch_size)


class _TableStream(BlockStream):
    """`BlockStream` whose quantization cells come from the table, one unit for all channels."""

    def __init__(self, vocoder: MelTableVocoder, batch_size: int) -> None:
        self.vocoder = vocoder.synthesis
        floor, width = vocoder.config.mel.floor, vocoder.config.width
        # BlockStream pads a row with code 0, which must be silence, so units count from 1 here.
        silence = vocoder.table.new_full((vocoder.table.shape[1], 1), floor)
        centre = torch.cat([silence, vocoder.table.T], 1)
        # As in dMel, whose lowest cells are unbounded below: silence has no lower limit.
        low = (centre - width).masked_fill(centre <= floor + width, -UNBOUNDED)
        self.cells = torch.stack([low, centre + width, centre])
        self.states = [self.init_row() for _ in range(batch_size)]

    def push(self, rows: Sequence[Tensor], final: bool | Sequence[bool]) -> list[Tensor]:
        channels = self.cells.shape[1]
        return super().push([row[:1].expand(channels, -1) + 1 for row in rows], final)

    def push_latents(self, rows: Sequence[Tensor], final: bool | Sequence[bool]) -> list[Tensor]:
        return DecoderStream.push_latents(self, rows, final)

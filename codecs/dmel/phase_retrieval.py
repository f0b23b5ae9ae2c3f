"""dMel's training-free vocoder: a source-filter model refined by phase retrieval.

Each block goes through three stages of constant cost and memory:

1. `HarmonicSource` gives every frame a fine structure whose phases are consistent between frames.
2. Mel gains fit it to the tokens. Gains are smoothed to undo the quantization (smoothing log-mels
   would reduce the contrast of the harmonics), and clipped to the tokens' quantization cells.
3. Sliding-window Griffin–Lim (D. Griffin, J. Lim, 1984) with look-ahead (RTISI-LA: X. Zhu,
   G. Beauregard, L. Wyse, 2007) and momentum (N. Perraudin, P. Balazs, P. Søndergaard, 2013). The
   magnitudes are not fixed: the projection only moves each mel band back into its quantization
   cell, so that the fine structure can follow what overlapping frames agree on.
"""

import math
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor

from .config import DMelConfig
from .harmonic_source import HarmonicSource, SourceConfig, SourceState
from .vocoder import BlockVocoder

FLOOR, CEILING = -10.0, 6.0  # log10 amplitude; finite bounds for the outermost cells


@dataclass(frozen=True)
class PhaseRetrievalConfig:
    """Configuration of `PhaseRetrievalVocoder`; the constants were tuned on the valid split.

    Attributes:
        source: of the excitation; also sets hops, window and block length.
        solver_frames: internal frames that are solved together: the block's, and look-ahead.
            others are look-ahead.
        iterations: Griffin–Lim iterations per block.
        momentum: of fast Griffin–Lim.
        smooth_time, smooth_frequency: weights of the neighbours in the smoothing of gains.
        tolerance: log10 amplitude by which a band may deviate from its smoothed target within its
            cell.
    """

    source: SourceConfig
    solver_frames: int = 10
    iterations: int = 12
    momentum: float = 0.6
    smooth_time: float = 0.1
    smooth_frequency: float = 0.1
    tolerance: float = 0.1

    def __post_init__(self) -> None:
        source = self.source
        if source.hop % source.internal_hop or source.window % source.internal_hop:
            raise ValueError("internal_hop must divide hop and window")
        if source.block_frames % source.pitch_stride or source.pitch_delay % source.pitch_stride:
            raise ValueError("pitch_stride must divide block_frames and pitch_delay")
        if self.solver_frames < (source.block_frames + 1) * source.up:
            raise ValueError("solver_frames must exceed a block by a token frame")

    @classmethod
    def for_dmel(cls, config: DMelConfig) -> "PhaseRetrievalConfig":
        """Choose blocks of about 100 ms, with internal frames that overlap by at least 75 %.

        Raises:
            ValueError: the hop and the window have no common divisor usable as internal hop.
        """
        hop, window = config.hop_length, config.window_length
        shared = math.gcd(hop, window)
        internal = max(d for d in range(1, shared + 1) if shared % d == 0 and d <= window // 4)
        if internal < window // 20:
            raise ValueError(
                f"hop_length {hop} and window_length {window} need a common divisor between "
                f"{window // 20} and {window // 4} for the training-free vocoder"
            )
        up = hop // internal
        # Where frames are far apart, every one is a pitch point, and they are too different to be
        # smoothed over time.
        stride = 1 if up > 1 else 2
        block = max(stride, round(config.sample_rate / 10 / hop / stride) * stride)
        source = SourceConfig(
            sample_rate=config.sample_rate,
            window=window,
            n_fft=config.n_fft,
            fmax=config.fmax,
            hop=hop,
            internal_hop=internal,
            block_frames=block,
            pitch_delay=max(stride, block // 2 // stride * stride),
            pitch_stride=stride,
        )
        solver = max(block * up + 2, (block + 1) * up)
        return cls(source, solver, smooth_time=0.1 if up == 1 else 0.0)

    @property
    def raw_delay(self) -> int:
        """Samples from the start of a block's output back to the start of its newest frames."""
        source = self.source
        ahead = source.hop * (source.pitch_delay - source.block_frames)
        return ahead + self.solver_frames * source.internal_hop + (source.window - source.hop) // 2


@dataclass
class PhaseRetrievalState:
    """State of a stream between blocks; the first dimension is the batch."""

    source: SourceState
    cells: Tensor  # (b, pitch_delay + 2, 3, channels) low, high, centre of the quantization cells
    source_mel: Tensor  # (b, 2 × up, channels) log10 mel of the unfiltered source
    spectrum: Tensor  # (b, solver_frames, 2 × bins) estimate
    previous: Tensor  # the same shape: the last consistent estimate, for momentum
    lower: Tensor  # (b, solver_frames, channels) amplitude
    upper: Tensor  # the same shape
    committed: Tensor  # (b, past, window) windowed frames that still overlap the output
    pending: Tensor  # (b, < hop) samples that round the delay up to whole frames


class PhaseRetrievalVocoder(BlockVocoder):
    """Synthesize a waveform from quantized log10 mel amplitudes; see the module docstring.

    Args:
        config: see `PhaseRetrievalConfig`.
        filterbank: (channels, n_fft // 2 + 1).
    """

    broken_promises = MappingProxyType(
        {
            "processors-samples": "phase retrieval is chaotic: what other processors round "
            "differently grows into other phases of the same spectrum"
        }
    )

    analysis: Tensor
    spread: Tensor
    window: Tensor
    inverse_overlap: Tensor

    def __init__(self, config: PhaseRetrievalConfig, filterbank: Tensor) -> None:
        super().__init__()
        self.config = config
        source = config.source
        filterbank = filterbank.float()
        self.source = HarmonicSource(source, filterbank)
        self.hop, self.block_frames = source.hop, source.block_frames
        self.delay_frames = max(0, -(-config.raw_delay // source.hop))
        self.past = source.window // source.internal_hop - 1
        self.channels = filterbank.shape[0]

        # Transforms of the window's length are as good as zero-padded ones, and faster.
        bins = source.window // 2 + 1
        at = torch.arange(bins).float() * source.n_fft / source.window
        index = at.long().clamp(max=filterbank.shape[1] - 2)
        left, right = filterbank[:, index], filterbank[:, index + 1]
        bank = (left + (right - left) * (at - index)) * source.n_fft / source.window
        spread = bank / bank.sum(0).clamp_min(1e-9)  # interpolates gains between channels
        window = torch.hann_window(source.window, dtype=torch.float32)
        # Older frames always overlap the solver's; the newest have no successors yet.
        squares = (window**2).repeat(1, config.solver_frames + 2 * self.past, 1)
        squares[:, -self.past :] = 0
        for name, value in (
            ("analysis", bank.T),
            ("spread", spread.repeat_interleave(2, 1)),
            ("window", window),
            ("inverse_overlap", 1 / self._overlap_add(squares)[0].clamp_min(1e-2)),
        ):
            self.register_buffer(name, value.contiguous(), persistent=False)

        # A real FFT counts as 2.5 n log2 n operations, half of them multiply-accumulates.
        transform = 1.25 * source.window * math.log2(source.window)
        frame = 2 * transform + 3 * bins * self.channels
        blocks = source.sample_rate / (source.block_frames * source.hop)
        self.macs_per_second = blocks * config.iterations * config.solver_frames * frame

    def init_state(self, batch: int) -> PhaseRetrievalState:
        config, source = self.config, self.config.source
        solver, up = config.solver_frames, source.up

        def full(*shape: int, value: float = 0.0) -> Tensor:
            return self.window.new_full((batch, *shape), value)

        return PhaseRetrievalState(
            source=self.source.init_state(batch),
            cells=full(source.pitch_delay + 2, 3, self.channels, value=FLOOR),
            source_mel=full(2 * up, self.channels),
            spectrum=full(solver, source.window + 2),
            previous=full(solver, source.window + 2),
            lower=full(solver, self.channels, value=10**FLOOR),
            upper=full(solver, self.channels, value=10**FLOOR),
            committed=full(self.past, source.window),
            pending=full(self.delay_frames * source.hop - config.raw_delay),
        )

    def step(self, state: PhaseRetrievalState, low: Tensor, high: Tensor, centre: Tensor) -> Tensor:
        source = self.config.source
        new = source.block_frames * source.up
        cells = torch.stack([low, high, centre], 1).permute(0, 3, 1, 2).clamp(FLOOR, CEILING)
        excitation = self.source.step(state.source, cells[:, :, 2])
        cells = torch.cat([state.cells, cells], 1)
        state.cells = cells[:, -source.pitch_delay - 2 :]
        gain = self._fit(state, excitation, cells[:, : source.block_frames + 2])
        start = excitation * (10**gain @ self.spread)
        state.spectrum = torch.cat([state.spectrum[:, new:], start], 1)
        state.previous = torch.cat([state.previous[:, new:], start], 1)
        wave = torch.cat([state.pending, self._solve(state)], 1)
        given = source.block_frames * source.hop
        state.pending = wave[:, given:]
        return wave[:, :given].clamp(-1.0, 1.0)

    def _fit(self, state: PhaseRetrievalState, excitation: Tensor, cells: Tensor) -> Tensor:
        """Return log10 mel gains (b, frames, channels) of the new frames; set their bounds."""
        config = self.config
        up, new = config.source.up, excitation.shape[1]
        base = torch.log10((_magnitude(excitation) @ self.analysis).clamp_min_(1e-9))
        base = torch.cat([state.source_mel, base], 1)
        state.source_mel = base[:, -2 * up :]
        low, high, centre = cells.unbind(2)
        at = base[:, ::up]
        gain = _smooth(centre - at, config.smooth_frequency)
        gain = _smooth(gain.mT, config.smooth_time).mT
        target = torch.clamp(gain + at, low, high)
        gain = target - at
        if up > 1:  # linear between frames, constant after the newest (redone by the next block)
            slope = torch.diff(gain, dim=1, append=gain[:, -1:])[:, :, None]
            part = torch.arange(up, device=gain.device).float()[:, None] / up
            gain = (gain[:, :, None] + slope * part).flatten(1, 2)
        lower, upper = gain + base - config.tolerance, gain + base + config.tolerance
        lower[:, ::up] = torch.maximum(low, target - config.tolerance)
        upper[:, ::up] = torch.minimum(high, target + config.tolerance)
        kept = slice(new, config.solver_frames - up)
        state.lower = torch.cat([state.lower[:, kept], 10 ** lower[:, up:]], 1)
        state.upper = torch.cat([state.upper[:, kept], 10 ** upper[:, up:]], 1)
        return gain[:, 2 * up :]

    def _solve(self, state: PhaseRetrievalState) -> Tensor:
        """Run Griffin–Lim over the solver's frames; return the oldest block (b, samples)."""
        config, past, x = self.config, self.past, state.spectrum
        source = config.source
        new = source.block_frames * source.up
        frames = x.new_zeros(x.shape[0], config.solver_frames + 2 * past, source.window)
        frames[:, :past] = state.committed
        active = frames[:, past:-past]
        for _ in range(config.iterations):
            torch.mul(self._frames(x), self.window, out=active)
            wave = self._overlap_add(frames).mul_(self.inverse_overlap)
            consistent = self.source.spectra(wave)
            z = torch.lerp(state.previous, consistent, 1 + config.momentum)
            state.previous = consistent
            mel = (_magnitude(z) @ self.analysis).clamp_min_(1e-10)
            x = z.mul_(mel.clamp(state.lower, state.upper).div_(mel) @ self.spread)
        state.spectrum = x
        torch.mul(self._frames(x), self.window, out=active)
        frames[:, past + new :] = 0
        size = new * source.internal_hop
        state.committed = frames[:, new : new + past].clone()
        return self._overlap_add(frames)[:, :size] * self.inverse_overlap[:size]

    def _frames(self, spectra: Tensor) -> Tensor:
        """Transform spectra (b, frames, 2 × bins) to frames (b, frames, window)."""
        spectra = torch.view_as_complex(spectra.unflatten(2, (-1, 2)))
        frames: Tensor = torch.fft.irfft(spectra, n=self.config.source.window)
        return frames

    def _overlap_add(self, frames: Tensor) -> Tensor:
        """Overlap-add contiguous frames (b, n + past, window) to (b, n × internal_hop).

        A skewed view aligns the overlapping pieces, so that one operation adds them.
        """
        hop, window = self.config.source.internal_hop, self.config.source.window
        shape = (frames.shape[0], frames.shape[1] - self.past, self.past + 1, hop)
        pieces = frames.as_strided(
            shape, (frames.stride(0), window, window - hop, 1), self.past * hop
        )
        return pieces.sum(2).flatten(1)


def _smooth(x: Tensor, side: float) -> Tensor:
    """Convolve the last dimension with (side, 1 - 2 × side, side), repeating the edges."""
    if side == 0:
        return x
    x = torch.cat([x[..., :1], x, x[..., -1:]], -1)
    return x[..., 1:-1] * (1 - 2 * side) + (x[..., 2:] + x[..., :-2]) * side


def _magnitude(x: Tensor) -> Tensor:
    """Compute magnitudes (b, frames, bins) of spectra (b, frames, 2 × bins).

    On a CPU with NumPy, whose complex abs is vectorized and eight times as fast as torch's.
    """
    if x.device.type == "cpu":
        return torch.from_numpy(np.abs(x.numpy().view(np.complex64)))
    return torch.view_as_complex(x.unflatten(2, (-1, 2))).abs()

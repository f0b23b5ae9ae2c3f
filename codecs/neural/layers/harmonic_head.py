"""Synthesize samples from frames of features: filtered pulses and noise, with an inverse STFT.

An inverse STFT as the last layer is from Vocos (Siuzdak, arXiv 2306.00814), whose network must also
predict all phases, which takes most of its training. Here the network only filters a harmonic and a
noise source (Engel et al., "DDSP", arXiv 2001.04643), whose phases are consistent between frames
from the first training step.
"""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from .causal import CausalStack, StackConfig
from .pulses import PITCH_BINS, PITCH_MIN, PITCH_START, PulseTrain, check_source, expected_pitch

_NOISE_SECONDS = 8  # period of the stored noise
LOG_GAIN = (-12.0, 4.0)
_AUDIBLE_HZ = 500.0  # from which pulses are heard as buzz


@dataclass(frozen=True)
class HarmonicHeadConfig:
    """Configuration of a `HarmonicHead`.

    Attributes:
        sample_rate: in Hz.
        hop: samples per frame.
        rate: spectra per frame; divides `hop`.
        window: of the spectra, in samples.
        stack: the layers at the spectra's rate.
        top: upper limit of the harmonics, in Hz.
    """

    sample_rate: int = 16000
    hop: int = 320
    rate: int = 4
    window: int = 320
    stack: StackConfig = field(
        default_factory=lambda: StackConfig(width=128, blocks=2, expansion=2)
    )
    top: float = 7900.0

    def __post_init__(self) -> None:
        if self.hop % self.rate or self.window % (2 * self.step) or self.window < 4 * self.step:
            raise ValueError(
                "rate must divide hop, and hop / rate half of the window a whole number of times, "
                f"at least twice; got hop {self.hop}, rate {self.rate}, window {self.window}"
            )

    @property
    def step(self) -> int:
        """Samples between spectra."""
        return self.hop // self.rate

    @property
    def delay(self) -> int:
        """Samples that the output lags behind the frames."""
        return self.window - self.step

    @property
    def overlap_gain(self) -> float:
        """Inverse of the sum of overlapping squared Hann windows, a quarter apart or closer."""
        return 8 * self.step / (3 * self.window)


@dataclass
class HeadState:
    """State of the head between tiles; the first dimension is the batch."""

    layers: list[Tensor]
    pitch: Tensor  # (batch,) Hz at the end
    phase: Tensor  # (batch,) float64, turns
    position: int  # in the stored noise
    sources: Tensor  # (batch, 2, delay) the last samples of pulses and noise
    overlap: Tensor  # (batch, delay) samples that later windows still add to

    def check(self) -> None:
        """Raise StateError for impossible values; see `check_source`."""
        for pitch, phase in zip(self.pitch.tolist(), self.phase.tolist(), strict=True):
            check_source(pitch, phase, self.position)


@dataclass(frozen=True)
class Rendered:
    """Output of a `HarmonicHead`.

    Attributes:
        wave: (batch, frames × hop), lagging by `HarmonicHeadConfig.delay` samples.
        pitch_logits: (batch, frames × rate, PITCH_BINS).
        state: for the next frames.
        pulses, noise: the two in each spectrum, complex (batch, frames × rate, bins).
    """

    wave: Tensor
    pitch_logits: Tensor
    state: HeadState
    pulses: Tensor
    noise: Tensor


class HarmonicHead(nn.Module):
    """Synthesize samples from frames of features.

    Args:
        in_features: channels of the frames.
        config: see `HarmonicHeadConfig`.
    """

    window: Tensor
    noise: Tensor

    def __init__(self, in_features: int, config: HarmonicHeadConfig) -> None:
        super().__init__()
        self.config = config
        width, bins = config.stack.width, config.window // 2 + 1
        self.upsample = nn.Linear(in_features, config.rate * width)
        self.stack = CausalStack(None, config.stack)
        self.pitch = nn.Linear(width, PITCH_BINS)
        self.gains = nn.Linear(width, 3 * bins)
        with torch.no_grad():
            # Start with low gains, and with the source's own phases.
            self.gains.weight.mul_(0.3)
            self.gains.weight[2 * bins :].zero_()
            self.gains.bias.fill_(-3.0)
            self.gains.bias[2 * bins :].zero_()
        self.pulses = PulseTrain(config.sample_rate, config.step, config.top)
        window = torch.hann_window(config.window, dtype=torch.float64).float()
        self.register_buffer("window", window, persistent=False)
        seed = torch.Generator().manual_seed(1)
        count = _NOISE_SECONDS * config.sample_rate // config.hop * config.hop
        noise = torch.randn(count, generator=seed, dtype=torch.float32)
        self.register_buffer("noise", noise, persistent=False)

    def init_state(self, batch: int) -> HeadState:
        """Create the initial state of `batch` rows."""
        zeros = self.window.new_zeros
        delay = self.config.delay
        return HeadState(
            layers=self.stack.init_state(batch),
            pitch=zeros(batch) + PITCH_START,
            phase=zeros(batch, dtype=torch.float64),
            position=0,
            sources=zeros(batch, 2, delay),
            overlap=zeros(batch, delay),
        )

    def forward(
        self,
        x: Tensor,
        state: HeadState | None = None,
        pitch: Tensor | None = None,
        noise: Tensor | None = None,
    ) -> Rendered:
        """Synthesize frames.

        Args:
            x: (batch, frames, in_features).
            state: after the frames before; None at the start. It is not changed.
            pitch: (batch, frames × rate) in Hz, to use instead of the predicted one.
            noise: (batch, frames × hop) white noise of unit power, instead of the stored one.
        """
        state = self.init_state(x.shape[0]) if state is None else state
        y = self.upsample(x).unflatten(-1, (self.config.rate, -1)).flatten(1, 2)
        y, layers = self.stack(y, state.layers)
        logits, gains = self.pitch(y).float(), self.gains(y).float()
        with torch.autocast(x.device.type, enabled=False):
            if pitch is None:
                pitch = expected_pitch(logits.detach())
            pulses, last, phase = self.pulses(pitch, state.pitch, state.phase)
            if noise is None:
                noise = self._stored_noise(state.position, pulses)
            sources = torch.cat([state.sources, torch.stack([pulses, noise], 1)], 2)
            wave, overlap, *spectra = self._filter(sources, gains, state.overlap)
        position = (state.position + pulses.shape[1]) % self.noise.shape[0]
        tail = sources[..., sources.shape[2] - self.config.delay :]
        after = HeadState(layers, last, phase, position, tail, overlap)
        return Rendered(wave, logits, after, *spectra)

    def _stored_noise(self, position: int, like: Tensor) -> Tensor:
        index = torch.arange(position, position + like.shape[1], device=like.device)
        return self.noise[index % self.noise.shape[0]].expand_as(like)

    def _filter(
        self, sources: Tensor, gains: Tensor, overlap: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Filter the sources; return finished samples, the remaining overlap, and the spectra of
        pulses and of noise.

        Args:
            sources: (batch, 2, delay + samples).
            gains: (batch, spectra, 3 × bins): log gain of the pulses, log gain of the noise, and
                phase shift of the pulses.
            overlap: (batch, delay).
        """
        config = self.config
        spectra = torch.fft.rfft(sources.unfold(2, config.window, config.step) * self.window)
        pulse_gain, noise_gain, angle = gains.chunk(3, -1)
        turned = torch.polar(pulse_gain.clamp(*LOG_GAIN).exp(), angle)
        pulses = spectra[:, 0] * turned
        noise = spectra[:, 1] * noise_gain.clamp(*LOG_GAIN).exp()
        spectrum = pulses + noise
        pieces = torch.fft.irfft(spectrum, config.window) * self.window
        count = pieces.shape[1]
        total = functional.fold(
            pieces.transpose(1, 2),
            (1, (count - 1) * config.step + config.window),
            (1, config.window),
            stride=(1, config.step),
        )[:, 0, 0]
        total = total * config.overlap_gain
        total = torch.cat([total[:, : config.delay] + overlap, total[:, config.delay :]], 1)
        done = count * config.step
        return total[:, :done], total[:, done:], pulses, noise

    def pulse_level(self, rendered: Rendered) -> Tensor:
        """Return the energy around each spectrum over that of the noise alone, in nats (batch,
        frames × rate): 0 without pulses.

        It is a mean over bins from 500 Hz, as inaudible rumble may have most of the energy, and
        each level is over the spectra of a longest period, as single ones may lie between two
        pulses.
        """
        config = self.config
        first = round(_AUDIBLE_HZ * config.window / config.sample_rate)
        around = math.ceil(config.sample_rate / PITCH_MIN / config.step / 2)
        of_pulses, of_noise = (
            functional.avg_pool1d(
                torch.view_as_real(part[..., first:]).square().sum(-1).transpose(1, 2),
                2 * around + 1,
                1,
                around,
                count_include_pad=False,
            )
            for part in (rendered.pulses, rendered.noise)
        )
        return (of_pulses / (of_noise + 1e-8)).log1p().mean(1)

    @property
    def macs_per_frame(self) -> int:
        """Multiply-accumulates of layers and Fourier transforms per frame."""
        config = self.config
        linear = sum(layer.weight.numel() for layer in (self.pitch, self.gains))
        fourier = int(3 * 2.5 * config.window * math.log2(config.window))
        a_spectrum = linear + self.stack.macs_per_frame + fourier
        return self.upsample.weight.numel() + config.rate * a_spectrum

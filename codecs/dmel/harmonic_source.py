"""Excitation signal for the vocoder: pulses at the pitch found in the mel frames, and noise.

dMel's levels still resolve the harmonics of speech below about 1.5 kHz. Log-mel frames are matched
with harmonic combs, and the pitch is tracked by a Viterbi search with a fixed lag. The excitation
is a band-limited pulse train at that pitch, mixed with stored noise according to how well the combs
match (the channel vocoder of H. Dudley, 1939, with a pitch detector in the mel domain). Its phases
are consistent between overlapping frames, which phase retrieval alone hardly achieves.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

NOISE_FRAMES = 251  # period of the stored noise, in internal frames
PITCH_TOP = 1560.0  # Hz; 80 channels do not resolve harmonics above
FLOOR_FOR_PITCH = -3.5  # log10 amplitude; lower values are treated as background noise


@dataclass(frozen=True)
class SourceConfig:
    """Configuration of `HarmonicSource`.

    Attributes:
        sample_rate: in Hz.
        window: of the spectra, in samples.
        n_fft: FFT size of the filterbank.
        fmax: upper limit of the pulses' harmonics, in Hz.
        hop, internal_hop: samples between token frames, and between the spectra's frames.
        block_frames: token frames per step.
        pitch_delay: token frames that the pitch lags behind, as look-ahead for the Viterbi search.
        pitch_stride: token frames per point of the pitch track.
        pitch_min, pitch_max: in Hz.
        pitch_step: between candidates, in natural log.
        pitch_glide, pitch_jump: penalties for a step of pitch, and for any larger change.
        voicing_threshold, voicing_width: of the comb match, at which voiced and unvoiced are equal.
        voicing_tilt: added to the voicing logit at 0 Hz and subtracted above 3 kHz: noise is most
            audible in the resolved low harmonics, so those become voiced first.
        voiced_cutoff: in Hz; above it, the source is noise.
    """

    sample_rate: int
    window: int
    n_fft: int
    fmax: float
    hop: int
    internal_hop: int
    block_frames: int
    pitch_delay: int
    pitch_stride: int
    pitch_min: float = 65.0
    pitch_max: float = 420.0
    pitch_step: float = 0.02
    pitch_glide: float = 0.03
    pitch_jump: float = 0.5
    voicing_threshold: float = 0.7
    voicing_width: float = 0.15
    voicing_tilt: float = 8.0
    voiced_cutoff: float = 6000.0

    @property
    def up(self) -> int:
        """Internal frames per token frame."""
        return self.hop // self.internal_hop


@dataclass
class SourceState:
    """State of a stream between blocks; the first dimension is the batch."""

    score: Tensor  # (b, pitches) of the Viterbi search
    back: Tensor  # (b, lag, pitches) back pointers of the Viterbi search
    match: Tensor  # (b, lag, pitches)
    phase: Tensor  # (b,) of the pulse train, radians
    position: Tensor  # (b,) in the stored noise
    pulses: Tensor  # (b, window - internal_hop)


class HarmonicSource(nn.Module):
    """Compute the excitation's spectra from log-mel frames, block by block.

    Spectra are (batch, frames, 2 × bins) with real and imaginary parts interleaved: on a CPU, real
    products are much faster than complex ones.

    Args:
        config: see `SourceConfig`.
        filterbank: (channels, n_fft // 2 + 1).
    """

    window: Tensor
    noise: Tensor
    tilt: Tensor
    band: Tensor
    matcher: Tensor
    log_pitch: Tensor
    moves: Tensor
    around: Tensor
    sample_index: Tensor
    sample_part: Tensor
    frame_index: Tensor
    frame_part: Tensor

    def __init__(self, config: SourceConfig, filterbank: Tensor) -> None:
        super().__init__()
        self.config = config
        self.history = config.window - config.internal_hop
        self._keep("window", torch.hann_window(config.window, dtype=torch.float32))
        seed = torch.Generator().manual_seed(1)
        noise = torch.randn(NOISE_FRAMES * config.internal_hop, generator=seed, dtype=torch.float32)
        noise = torch.cat([noise, noise[: self.history]])
        self._keep("noise", self.spectra(noise[None])[0])
        bins = torch.arange(config.window // 2 + 1).repeat_interleave(2)
        frequency = bins * config.sample_rate / config.window
        self._keep("tilt", config.voicing_tilt * (1 - frequency / 1500).clamp(-1, 1))
        self._keep("band", torch.sigmoid((config.voiced_cutoff - frequency) / 800))
        self._make_combs(filterbank)
        # Interpolation: where new samples and new frames lie between points of the pitch track.
        self.points = (config.block_frames + config.pitch_delay) // config.pitch_stride
        end = (config.up - 1) / config.up + config.window / 2 / config.hop
        samples = torch.arange(config.block_frames * config.hop) / config.hop
        self._place("sample", end - 1 + samples)
        self._place("frame", torch.arange(config.block_frames * config.up) / config.up)

    def _keep(self, name: str, value: Tensor) -> None:
        # Always float32, whatever torch's default dtype is.
        value = value.float() if value.is_floating_point() else value
        self.register_buffer(name, value.contiguous(), persistent=False)

    def _make_combs(self, filterbank: Tensor) -> None:
        """Create log-mel templates of flat harmonic combs, minus their envelope (5 cosines)."""
        config = self.config
        frequency = torch.arange(filterbank.shape[1]).float() * config.sample_rate / config.n_fft
        centres = (filterbank @ frequency) / filterbank.sum(1)
        low = self.low = int((centres < PITCH_TOP).sum())
        filters = filterbank[:low]
        logs = torch.arange(
            math.log(config.pitch_min),
            math.log(config.pitch_max),
            config.pitch_step,
            dtype=torch.float32,
        )
        rows = []
        for pitch in logs.exp().tolist():
            harmonics = pitch * torch.arange(1, int(2500 / pitch) + 2).float()[:, None]
            # The main lobe of a Hann window, in bins of the window's length.
            away = (frequency - harmonics) * config.window / config.sample_rate
            lobe = torch.sinc(away).abs() / (1 - away**2).abs().clamp_min(1e-6)
            lobe = torch.where((away.abs() - 1).abs() < 1e-3, 0.5, lobe) * (away.abs() < 2)
            comb = filters @ lobe.square().sum(0).sqrt()
            rows.append(torch.log10(comb / filters.sum(1) + 0.03))
        channel = torch.arange(low).float()[:, None] + 0.5
        smooth = torch.linalg.qr(torch.cos(math.pi / low * channel * torch.arange(5).float()))[0]
        combs = torch.stack(rows) @ (torch.eye(low, dtype=torch.float32) - smooth @ smooth.T)
        # sqrt(36 / low): the thresholds were tuned with 36 channels.
        self._keep("matcher", (nn.functional.normalize(combs, dim=1) * math.sqrt(36 / low)).T)
        self._keep("log_pitch", logs)
        gap = (torch.arange(len(logs))[:, None] - torch.arange(len(logs))).abs()
        self._keep("moves", -torch.where(gap <= 6, config.pitch_glide * gap, config.pitch_jump))
        self._keep("around", torch.arange(-1, 2))

    def _place(self, name: str, frames: Tensor) -> None:
        place = (frames - (self.config.pitch_stride - 1) / 2) / self.config.pitch_stride
        place = place.clamp(0, self.points - 1)
        index = place.long().clamp(max=self.points - 2)
        self._keep(f"{name}_index", index)
        self._keep(f"{name}_part", place - index)

    def init_state(self, batch: int) -> SourceState:
        lag, pitches = self.config.pitch_delay // self.config.pitch_stride, len(self.log_pitch)
        zeros = self.window.new_zeros
        return SourceState(
            score=zeros(batch, pitches),
            back=zeros(batch, lag, pitches).long(),
            match=zeros(batch, lag, pitches),
            phase=zeros(batch),
            position=zeros(batch).long(),
            pulses=zeros(batch, self.history),
        )

    def step(self, state: SourceState, log_mel: Tensor) -> Tensor:
        """Compute spectra (b, block_frames × up, 2 × bins) from log10 mels (b, block_frames,
        channels).
        """
        pitch, strength = self._track(state, log_mel)
        pulses = self._pulses(state, pitch)
        config = self.config
        new = config.block_frames * config.up
        logit = (strength - config.voicing_threshold) / config.voicing_width
        logit = _between(logit, self.frame_index, self.frame_part)
        voiced = torch.sigmoid(logit[:, :, None] + self.tilt) * self.band
        rows = state.position[:, None] + torch.arange(new, device=pitch.device)
        state.position = (state.position + new) % NOISE_FRAMES
        noise = self.noise[rows % NOISE_FRAMES]
        return self.spectra(pulses) * voiced.sqrt() + noise * (1 - voiced).sqrt()

    def _track(self, state: SourceState, log_mel: Tensor) -> tuple[Tensor, Tensor]:
        """Track the pitch: log pitch and strength of the combs' match at (b, points)."""
        config = self.config
        low = log_mel[:, :, : self.low].clamp_min(FLOOR_FOR_PITCH)
        match = low.unflatten(1, (-1, config.pitch_stride)).mean(2) @ self.matcher
        score, backs, fresh = state.score, [state.back], match.shape[1]
        for point in range(fresh):
            score, best = (score[:, None] + self.moves).max(2)
            score += match[:, point]
            backs.append(best[:, None])
        state.score = score - score.amax(1, keepdim=True)
        back, match = torch.cat(backs, 1), torch.cat([state.match, match], 1)
        state.back, state.match = back[:, fresh:], match[:, fresh:]
        path = [score.argmax(1, keepdim=True)]
        for point in range(self.points - 1, 0, -1):
            path.append(back[:, point].gather(1, path[-1]))
        best = torch.stack(path[::-1], 1)
        near = (best + self.around).clamp_(0, len(self.log_pitch) - 1)
        left, middle, right = match.gather(2, near).unbind(2)
        shift = 0.5 * (left - right) / (left - 2 * middle + right).clamp(max=-1e-4)
        return self.log_pitch[best[..., 0]] + config.pitch_step * shift.clamp(-0.5, 0.5), middle

    def _pulses(self, state: SourceState, log_pitch: Tensor) -> Tensor:
        """Generate the pulse train (b, history + block_frames × hop), of unit power."""
        config = self.config
        pitch = torch.exp(_between(log_pitch, self.sample_index, self.sample_part))
        phase = state.phase[:, None] + torch.cumsum(pitch * (2 * math.pi / config.sample_rate), 1)
        state.phase = phase[:, -1] % (2 * math.pi)
        # The sum of cos(k × phase) for k = 1 … count, in closed form.
        count = torch.floor(config.fmax / pitch)
        half = torch.sin(0.5 * phase)
        near = half.abs() < 1e-3
        ratio = torch.sin((count + 0.5) * phase) / torch.where(near, 1.0, half)
        pulses = torch.where(near, count, 0.5 * (ratio - 1)) * torch.sqrt(2 / count)
        pulses = torch.cat([state.pulses, pulses], 1)
        state.pulses = pulses[:, -self.history :]
        return pulses

    def spectra(self, wave: Tensor) -> Tensor:
        """Transform samples (b, samples) to spectra (b, frames, 2 × bins)."""
        frames = wave.unfold(1, self.config.window, self.config.internal_hop) * self.window
        return torch.view_as_real(torch.fft.rfft(frames)).flatten(2)


def _between(values: Tensor, index: Tensor, part: Tensor) -> Tensor:
    """Interpolate (b, points) linearly at index + part."""
    return values[:, index] + (values[:, index + 1] - values[:, index]) * part

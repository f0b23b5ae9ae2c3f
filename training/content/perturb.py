"""Perturbations of speech that keep its content: tempo and voice, noise, rooms, microphones.

A network that predicts the units of clean speech from perturbed speech learns to ignore these
changes (WavLM, arXiv 2110.13900, for noise; ContentVec, arXiv 2204.09224, for voices; Gat et al.,
arXiv 2209.15483, for units).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class PerturbConfig:
    """Strengths and frequencies of the perturbations.

    Attributes:
        speed: speech is played at a speed between 1 / speed and speed, with pitch and formants.
        noise, noise_snr_db: share of rows with coloured noise, and its level.
        voices: share of rows with another row's speech, at the same levels or weaker, for a part
            of the time.
        room, room_seconds: share of rows with reverberation, and the range of RT60.
        tilt_db: maximal gain or loss of a smooth random filter at any frequency.
        gain_db: range of a row's gain.
    """

    speed: float = 1.2
    noise: float = 0.4
    noise_snr_db: tuple[float, float] = (3.0, 25.0)
    voices: float = 0.2
    room: float = 0.35
    room_seconds: tuple[float, float] = (0.1, 0.7)
    tilt_db: float = 8.0
    gain_db: tuple[float, float] = (-12.0, 6.0)


class FramePairs(NamedTuple):
    """Features of the same frames in clean and in perturbed speech.

    Attributes:
        clean, perturbed: (rows, frames, width).
        places: (rows, frames), the frames' positions in the clean features, which are interpolated
            there.
    """

    clean: Tensor
    perturbed: Tensor
    places: Tensor


def frame_pairs(
    features: Callable[[Tensor], Tensor],
    waves: Tensor,
    config: PerturbConfig,
    sample_rate: int,
    hop: int,
    look_ahead: int,
) -> FramePairs:
    """Compute features of waves, and of the same waves perturbed, at random speeds too.

    Args:
        features: of waves (batch, samples), (batch, frames, width).
        waves: (batch, samples) float32, at `sample_rate`.
        config: of the perturbations.
        sample_rate, hop: of the features.
        look_ahead: frames at the end that are left out: one version would see silence there, and
            the other speech.
    """
    speeds = random_speeds(len(waves), config.speed, waves.device)
    quick = at_speeds(waves, speeds, samples_at_any_speed(waves.shape[1], config, hop))
    changed = features(perturbed(quick, config, sample_rate))
    clean = features(waves)
    frames = changed.shape[1] - look_ahead
    places = (torch.arange(frames, device=waves.device) + 0.5) * speeds[:, None] - 0.5
    places = places.clamp(0, clean.shape[1] - look_ahead - 1)
    below = places.long()
    part = (places - below)[..., None]
    rows = torch.arange(len(waves), device=waves.device)[:, None]
    at_places = clean[rows, below] * (1 - part) + clean[rows, below + 1] * part
    return FramePairs(at_places, changed[:, :frames], places)


def samples_at_any_speed(samples: int, config: PerturbConfig, hop: int) -> int:
    """Return how many samples of a wave of so many there are at any speed, in whole frames."""
    return int(samples / config.speed) // hop * hop


def random_speeds(rows: int, most: float, device: torch.device) -> Tensor:
    """Return speeds (rows,) between 1 / most and most, log-uniform."""
    return ((2 * torch.rand(rows, device=device) - 1) * math.log(most)).exp()


def at_speeds(waves: Tensor, speeds: Tensor, samples: int) -> Tensor:
    """Play waves (batch, n) at speeds (batch,), by linear interpolation; return `samples` samples.

    Args:
        waves: at least samples × speed long each.
        speeds: of each row.
        samples: of the result.
    """
    places = torch.arange(samples, device=waves.device) * speeds[:, None]
    below = places.long().clamp_max(waves.shape[1] - 2)
    part = (places - below).clamp(0, 1)
    return waves.gather(1, below) * (1 - part) + waves.gather(1, below + 1) * part


def perturbed(waves: Tensor, config: PerturbConfig, sample_rate: int) -> Tensor:
    """Add reverberation, noise and microphone filters to waves (batch, samples).

    Random numbers are torch's.
    """
    batch, samples = waves.shape
    size = 1 << (samples + sample_rate // 2 - 1).bit_length()
    spectra = torch.fft.rfft(waves, size)
    spectra = spectra * _filters(batch, size, config.tilt_db, waves.device)
    rooms = _rooms(batch, sample_rate, config.room_seconds, waves.device)
    direct = torch.rand(batch, 1, device=waves.device) >= config.room
    spectra = torch.where(direct, spectra, spectra * torch.fft.rfft(rooms, size))
    changed = torch.fft.irfft(spectra, size)[:, :samples]
    level = changed.square().mean(1, keepdim=True).sqrt().clamp_min(1e-5)
    low, high = config.noise_snr_db

    def beside(other: Tensor, share: float, more: float) -> Tensor:
        """`other` for a share of the rows, at a random level below the speech's, else zeros."""
        snr = low + more + (high - low) * torch.rand(batch, 1, device=waves.device)
        loud = other.square().mean(1, keepdim=True).sqrt().clamp_min(1e-5)
        there = torch.rand(batch, 1, device=waves.device) < share
        return torch.where(there, other / loud * level * 10 ** (-snr / 20), 0.0)

    coloured = _coloured(batch, size, waves.device)[:, :samples]
    other = waves.roll(1, 0) * _part_of_time(batch, samples, waves.device)
    changed = changed + beside(coloured, config.noise, 0.0) + beside(other, config.voices, 3.0)
    low, high = config.gain_db
    gains = low + (high - low) * torch.rand(batch, 1, device=waves.device)
    return changed * 10 ** (gains / 20)


def _filters(batch: int, size: int, most_db: float, device: torch.device) -> Tensor:
    """Smooth gains (batch, bins): a few cosines over frequency."""
    bins = torch.linspace(0, 1, size // 2 + 1, device=device)
    waves = torch.cos(torch.pi * torch.outer(torch.arange(1, 5, device=device), bins))
    amounts = 2 * torch.rand(batch, 4, device=device) - 1
    return 10 ** (most_db / 20 * (amounts @ waves) / 2)


def _rooms(
    batch: int, sample_rate: int, seconds: tuple[float, float], device: torch.device
) -> Tensor:
    """Impulse responses (batch, half a second): direct sound, then decaying noise."""
    length = sample_rate // 2
    time = torch.arange(length, device=device) / sample_rate
    rt60 = seconds[0] + (seconds[1] - seconds[0]) * torch.rand(batch, 1, device=device)
    tail = torch.randn(batch, length, device=device) * 10 ** (-3 * time / rt60)
    # From 2 ms on, with a third to twice the direct sound's energy.
    tail = tail * (time > 0.002)
    loud = 0.33 + 1.67 * torch.rand(batch, 1, device=device)
    tail = tail * (loud / tail.square().sum(1, keepdim=True)).sqrt()
    tail[:, 0] = 1.0
    return tail


def _coloured(batch: int, size: int, device: torch.device) -> Tensor:
    """Noise (batch, size) whose power falls with frequency to a random power from 0 to 2."""
    bins = torch.arange(size // 2 + 1, device=device).clamp_min(size // 512)
    slope = 2 * torch.rand(batch, 1, device=device)
    shape = (bins, bins)
    spectra = torch.complex(*(torch.randn(batch, len(each), device=device) for each in shape))
    return torch.fft.irfft(spectra * bins ** (-slope / 2), size)


def _part_of_time(batch: int, samples: int, device: torch.device) -> Tensor:
    """A mask (batch, samples): 1 in a random interval of up to half of the time, else 0."""
    start = torch.rand(batch, 1, device=device) * samples
    place = torch.arange(samples, device=device)
    return ((place >= start) & (place < start + samples / 2)).float()

"""Augmentation: gain, polarity, noise and band limits, as functions of waves and seed paths."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy.signal
import torch

from ...errors import TrainingError
from .draws import draws
from .store import SpeechStore

#: Low-pass filter: stop-band attenuation, and width of the transition band.
STOP_DB = 70.0
EDGE_HZ = 400.0


@dataclass(frozen=True)
class AugmentConfig:
    """How crops are augmented, and how often; choices are independent for every crop.

    The order is that of a recording: noise is added to speech, the channel limits the band, and the
    level is set. Gain and polarity always change the model's input and its target together. A codec
    reproduces its input, so by default noise and band limits are in both as well.

    Attributes:
        gain_probability, gain_db: change of level, uniformly from this range of dB. It is reduced
            if a sample would exceed 1.
        polarity_probability: of inverting the sign.
        noise_probability, noise_snr_db: noise at a signal-to-noise ratio uniformly from this range
            of dB, by mean power over the crop. Silent crops get none.
        noise_in_target: false trains the model to remove noise.
        band_limit_probability, band_limit_hz: low-pass with a cut-off frequency (at −6 dB)
            log-uniformly from this range: speech from telephones and old recordings.
        band_limit_in_target: false trains the model to add the missing band.

    Raises:
        TrainingError: a probability outside [0, 1], or an invalid range.
    """

    gain_probability: float = 1.0
    gain_db: tuple[float, float] = (-12.0, 6.0)
    polarity_probability: float = 0.5
    noise_probability: float = 0.0
    noise_snr_db: tuple[float, float] = (5.0, 30.0)
    noise_in_target: bool = True
    band_limit_probability: float = 0.0
    band_limit_hz: tuple[float, float] = (3000.0, 7000.0)
    band_limit_in_target: bool = True

    def __post_init__(self) -> None:
        for name in ("gain", "polarity", "noise", "band_limit"):
            probability = getattr(self, f"{name}_probability")
            if not 0 <= probability <= 1:
                raise TrainingError(f"{name}_probability must lie in [0, 1], got {probability}")
        for name in ("gain_db", "noise_snr_db", "band_limit_hz"):
            low, high = getattr(self, name)
            if not -math.inf < low <= high < math.inf:
                raise TrainingError(f"{name} must be a range (low, high), got ({low}, {high})")
        if self.band_limit_hz[0] <= 0:
            raise TrainingError(f"band_limit_hz must be positive, got {self.band_limit_hz}")


class Augmented(NamedTuple):
    """The model's input and target: (batch, samples) float32 each."""

    inputs: torch.Tensor
    targets: torch.Tensor


def augment(
    waves: torch.Tensor,
    lengths: torch.Tensor,
    paths: Sequence[Sequence[int]],
    config: AugmentConfig,
    sample_rate: int,
    noise: SpeechStore | None = None,
) -> Augmented:
    """Augment a batch; each row depends only on itself and its path, not on other rows.

    Args:
        waves: (batch, samples) float32 on the CPU; not modified.
        lengths: (batch,) in samples; samples beyond stay zero.
        paths: one for each row, as `CropBatch.paths`.
        config: how to augment.
        sample_rate: of the waves, in Hz.
        noise: recordings of noise, chosen in proportion to their durations; one that is shorter
            than a crop is repeated.

    Returns:
        Inputs and targets, in [-1, 1], that share no memory.

    Raises:
        TrainingError: noise is required but missing, or has another sample rate; a
            band limit is not below half the sample rate; shapes do not agree.
    """
    if config.noise_probability > 0:
        if noise is None:
            raise TrainingError("noise_probability is above 0 and no store of noise was given")
        if noise.sample_rate != sample_rate:
            raise TrainingError(
                f"the noise of {noise.folder} is at {noise.sample_rate} Hz and the waves are at "
                f"{sample_rate} Hz"
            )
    if config.band_limit_probability > 0 and config.band_limit_hz[1] >= sample_rate / 2:
        raise TrainingError(
            f"band_limit_hz must stay below {sample_rate / 2} Hz, got {config.band_limit_hz}"
        )
    if waves.ndim != 2 or lengths.shape != waves.shape[:1] or len(paths) != waves.shape[0]:
        raise TrainingError(
            f"expected waves (batch, samples) and a length and a path for each, got "
            f"{tuple(waves.shape)}, {tuple(lengths.shape)} and {len(paths)} paths"
        )
    inputs = np.zeros(tuple(waves.shape), np.float32)
    targets = np.zeros_like(inputs)
    for row, (wave, length) in enumerate(zip(waves.numpy(), lengths.tolist(), strict=True)):
        augmented, wanted = _augment_row(wave[:length], paths[row], config, sample_rate, noise)
        inputs[row, :length] = augmented
        targets[row, :length] = wanted
    return Augmented(torch.from_numpy(inputs), torch.from_numpy(targets))


def _augment_row(
    wave: np.ndarray,
    path: Sequence[int],
    config: AugmentConfig,
    sample_rate: int,
    noise: SpeechStore | None,
) -> tuple[np.ndarray, np.ndarray]:
    augmented = wanted = wave
    if noise is not None and (chosen := _chance("noise", path, config.noise_probability, 3)):
        which, where, level = chosen
        snr = _between(config.noise_snr_db, level)
        augmented = mix(wave, noise_crop(noise, wave.shape[0], which, where), snr)
        wanted = augmented if config.noise_in_target else wanted
    if chosen := _chance("band limit", path, config.band_limit_probability, 1):
        low, high = (math.log(limit) for limit in config.band_limit_hz)
        cutoff = math.exp(_between((low, high), chosen[0]))
        same = wanted is augmented
        augmented = low_pass(augmented, cutoff, sample_rate)
        if config.band_limit_in_target:
            wanted = augmented if same else low_pass(wanted, cutoff, sample_rate)
    gain = 1.0
    if chosen := _chance("gain", path, config.gain_probability, 1):
        gain = 10 ** (_between(config.gain_db, chosen[0]) / 20)
    peak = max(float(np.abs(part).max(initial=0)) for part in (augmented, wanted))
    if gain * peak > 1:
        gain = 1 / peak
    if _chance("polarity", path, config.polarity_probability, 0) is not None:
        gain = -gain
    if gain == 1:
        return augmented, wanted
    scale = np.float32(gain)
    # Where the gain was reduced, rounding may exceed 1 by one step of float32.
    return np.clip(augmented * scale, -1, 1), np.clip(wanted * scale, -1, 1)


def _chance(
    purpose: str, path: Sequence[int], probability: float, count: int
) -> list[float] | None:
    """With this probability return `count` further numbers in [0, 1), else None."""
    happens, *numbers = draws(purpose, path, 1 + count).tolist()
    return numbers if happens < probability else None


def _between(limits: tuple[float, float], part: float) -> float:
    return limits[0] + (limits[1] - limits[0]) * part


def noise_crop(noise: SpeechStore, num_samples: int, which: float, where: float) -> np.ndarray:
    """Return a crop (num_samples,) float32 of noise, chosen by two numbers in [0, 1).

    Recordings are chosen in proportion to their durations; one that is too short is repeated.
    """
    ends = np.cumsum(noise.lengths)
    index = int(np.searchsorted(ends, which * ends[-1], side="right"))
    recording = noise.samples(index)
    room = recording.shape[0] - num_samples
    start = int(where * (room + 1 if room >= 0 else recording.shape[0]))
    crop = recording[start : start + num_samples]
    if room < 0:
        crop = np.resize(np.roll(recording, -start), num_samples)
    return crop * np.float32(2**-15)


def mix(wave: np.ndarray, noise: np.ndarray, snr_db: float) -> np.ndarray:
    """Add noise (samples,) to a wave (samples,) at a ratio of their mean powers; float32.

    If either is silent, the wave is returned unchanged.
    """
    speech_power = float(np.dot(wave, wave.astype(np.float64)))
    noise_power = float(np.dot(noise, noise.astype(np.float64)))
    if speech_power == 0 or noise_power == 0:
        return wave
    scale = math.sqrt(speech_power / noise_power) * 10 ** (-snr_db / 20)
    return wave + noise * np.float32(scale)


def low_pass(wave: np.ndarray, cutoff_hz: float, sample_rate: int) -> np.ndarray:
    """Remove frequencies above the cut-off from a wave (samples,), without delay; float32.

    A Kaiser-windowed sinc: −6 dB at `cutoff_hz`, `STOP_DB` from half of `EDGE_HZ` above it.
    """
    taps, beta = scipy.signal.kaiserord(STOP_DB, EDGE_HZ / (sample_rate / 2))
    window = ("kaiser", beta)
    kernel = scipy.signal.firwin(taps | 1, cutoff_hz, window=window, fs=sample_rate)
    # "full" and then cut, because "same" gives as many samples as the longer input.
    full = scipy.signal.fftconvolve(wave.astype(np.float64), kernel)
    middle = kernel.shape[0] // 2
    return full[middle : middle + wave.shape[0]].astype(np.float32)

"""Samples as other programs take them: 16 bits, another rate, and the length that went in."""

import numpy as np
import soxr


def to_int16(wave: np.ndarray) -> np.ndarray:
    """(samples,) float, full scale at 1, as little-endian 16-bit integers; beyond it is clipped."""
    return (np.clip(wave, -1, 32767 / 32768) * 32768).round().astype("<i2")


def fitted(wave: np.ndarray, length: int) -> np.ndarray:
    """Exactly `length` samples, float32: cut at the end, or zeros after it."""
    wave = np.asarray(wave[:length], np.float32)
    return np.pad(wave, (0, length - len(wave)))


def at_rate(wave: np.ndarray, source_rate: int, target_rate: int) -> np.ndarray:
    """(samples,) at another sample rate, float32, by soxr at its best quality."""
    if source_rate == target_rate or not len(wave):
        return np.asarray(wave, np.float32)
    return soxr.resample(np.asarray(wave, np.float32), source_rate, target_rate, "VHQ")

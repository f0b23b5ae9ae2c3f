"""Conversion of samples for external programs: 16 bits, sample rate, and length."""

import numpy as np
import soxr


def to_int16(wave: np.ndarray) -> np.ndarray:
    """Convert (samples,) float, full scale at 1, to little-endian 16-bit integers, with
    clipping.
    """
    return (np.clip(wave, -1, 32767 / 32768) * 32768).round().astype("<i2")


def fitted(wave: np.ndarray, length: int) -> np.ndarray:
    """Cut or zero-pad to exactly `length` samples, float32."""
    wave = np.asarray(wave[:length], np.float32)
    return np.pad(wave, (0, length - len(wave)))


def at_rate(wave: np.ndarray, source_rate: int, target_rate: int) -> np.ndarray:
    """Resample (samples,) by soxr at its best quality, float32."""
    if source_rate == target_rate or not len(wave):
        return np.asarray(wave, np.float32)
    return soxr.resample(np.asarray(wave, np.float32), source_rate, target_rate, "VHQ")

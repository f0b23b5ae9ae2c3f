"""Reference points of every metric: the speech itself, narrow-band speech, and noise."""

import hashlib

import numpy as np

from .base import BaseSystem, Kind, package_versions
from .interface import Reconstruction
from .samples import at_rate, fitted


class Original(BaseSystem):
    """The speech itself: the upper end of every metric."""

    name = "original"
    kind: Kind = "reference"
    setting = "the speech itself"
    digest = hashlib.sha256(b"original").hexdigest()
    source = "the data"

    def __init__(self) -> None:
        self.versions = {}

    def reconstruct(self, wave: np.ndarray) -> Reconstruction:
        return Reconstruction(np.asarray(wave, np.float32), None)


class Narrow(BaseSystem):
    """The speech resampled to 8 kHz and back by soxr: the best that a narrow-band codec could
    reach.
    """

    name = "original-8k"
    kind: Kind = "reference"
    setting = "the speech through 8 kHz and back (soxr VHQ)"
    source = "the data"

    def __init__(self) -> None:
        self.versions = package_versions("soxr")
        self.digest = hashlib.sha256(f"{self.setting} {self.versions}".encode()).hexdigest()

    def reconstruct(self, wave: np.ndarray) -> Reconstruction:
        narrow = at_rate(wave, self.sample_rate, 8000)
        # Each resampling rounds the number of samples.
        back = fitted(at_rate(narrow, 8000, self.sample_rate), len(wave))
        return Reconstruction(back, None)


class Noise(BaseSystem):
    """White Gaussian noise with the clip's RMS: the lower end of every metric.

    Seeded by the clip's samples, so that a clip gets the same noise in any order and process.
    """

    name = "noise"
    kind: Kind = "reference"
    setting = "white Gaussian noise of the clip's own RMS, seeded by its samples"
    source = "a random number generator (PCG64)"

    def __init__(self) -> None:
        self.versions = package_versions("numpy")
        self.digest = hashlib.sha256(self.setting.encode()).hexdigest()

    def reconstruct(self, wave: np.ndarray) -> Reconstruction:
        wave = np.ascontiguousarray(wave, "<f4")
        if not len(wave):
            return Reconstruction(wave, None)
        seed = int.from_bytes(hashlib.sha256(wave.tobytes()).digest()[:16], "little")
        noise = np.random.Generator(np.random.PCG64(seed)).standard_normal(len(wave))
        loudness = np.sqrt(np.mean(np.square(wave, dtype=np.float64)))
        # Scaled by the noise's own RMS, so that the levels are exactly equal.
        noise *= loudness / np.sqrt(np.mean(np.square(noise)))
        return Reconstruction(noise.astype(np.float32), None)

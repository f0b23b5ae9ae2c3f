"""Systems of `syllabary.eval.systems` as the benchmarks run them: all at 16 kHz."""

import numpy as np

from syllabary.eval.metrics.lag import samples_late
from syllabary.eval.systems.interface import System
from syllabary.eval.systems.samples import at_rate, fitted

RATE = 16000


def reconstruct(system: System, wave: np.ndarray) -> tuple[np.ndarray, float]:
    """There and back, at whatever rate it works: (samples,) float32 at 16 kHz, and the bits spent.

    A reference spends those of 16-bit samples.
    """
    given = at_rate(wave, RATE, system.sample_rate)
    found = system.reconstruct(given)
    bits = 16.0 * len(wave) if found.bits is None else found.bits
    if system.sample_rate == RATE:
        return found.wave, bits
    return fitted(at_rate(found.wave, system.sample_rate, RATE), len(wave)), bits


def lag(reference: np.ndarray, estimate: np.ndarray) -> int:
    """Samples by which the estimate's envelope is late, within ±800."""
    return samples_late(reference, estimate, RATE)

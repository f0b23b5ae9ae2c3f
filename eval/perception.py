"""What networks that learnt from people's ears say of a reconstruction."""

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from .reconstruction import MetricError, check_pair, package


def speaker_similarity(reference: np.ndarray, estimate: np.ndarray, sample_rate: int) -> float:
    """Whether it is the same speaker: the cosine of two voice embeddings, from 0 to 1.

    GE2E embeddings (Wan et al., arXiv 1710.10467) by the `resemblyzer` package, each signal
    prepared as the package does for its own training: raised to −30 dBFS if softer, and long
    pauses cut where webrtcvad hears no voice. So each signal's own pauses are cut; a codec that
    turns speech into noise loses it here too. Figures made without this step are higher or lower
    and don't compare.

    Args:
        reference, estimate: (samples,) of equal length, time-aligned.
        sample_rate: 16000 Hz, the only rate that the network knows.

    Raises:
        MetricError: another rate or length, no voice in one of the signals, or no `resemblyzer`
            package.
    """
    check_pair(reference, estimate)
    if sample_rate != 16000:
        raise MetricError(f"speaker similarity needs 16000 Hz, got {sample_rate}")
    resemblyzer = package("resemblyzer")
    embeddings = []
    for name, signal in (("reference", reference), ("reconstruction", estimate)):
        voiced = np.zeros(0)
        if signal.any():  # the gain that would raise digital silence is infinite
            # Samples beyond [-1, 1] would wrap around in the package's 16 bits.
            voiced = resemblyzer.preprocess_wav(np.clip(signal, -1, 1).astype(np.float32))
        if not voiced.size:
            raise MetricError(f"speaker similarity: no voice in the {name}")
        embeddings.append(_voice_encoder().embed_utterance(voiced))
    return float(np.dot(*embeddings))


@dataclass(frozen=True)
class DNSMOS:
    """Mean opinion scores that a network predicts, each from 1 to 5.

    Attributes:
        overall: OVRL.
        signal: SIG, how good the speech itself is.
        background: BAK, how little the background disturbs.
    """

    overall: float
    signal: float
    background: float


def dnsmos(estimate: np.ndarray, sample_rate: int) -> DNSMOS:
    """DNSMOS P.835 (Reddy et al., arXiv 2110.01763), without a reference, by `speechmos`.

    The network hears windows of 9.01 s, one a second; a shorter signal is repeated, as its authors
    do. Samples beyond [-1, 1] are clamped.

    Args:
        estimate: (samples,).
        sample_rate: 16000 Hz, the only rate that the network knows.

    Raises:
        MetricError: another rate, not (samples,), no samples, or no `speechmos` or `onnxruntime`
            package.
    """
    if sample_rate != 16000:
        raise MetricError(f"DNSMOS needs 16000 Hz, got {sample_rate}")
    if estimate.ndim != 1 or not estimate.size:
        raise MetricError(f"DNSMOS: shape {estimate.shape}; expected (samples,), at least one")
    module = package("speechmos.dnsmos")
    found = module.run(np.clip(estimate, -1, 1).astype(np.float32), sample_rate)
    values = (float(found[f"{name}_mos"]) for name in ("ovrl", "sig", "bak"))
    return DNSMOS(*values)


def dnsmos_overall(reference: np.ndarray, estimate: np.ndarray, sample_rate: int) -> float:
    """`dnsmos(estimate, sample_rate).overall`; the reference only has to be there.

    Raises:
        MetricError: as `dnsmos`, or the two can't be compared.
    """
    check_pair(reference, estimate)
    return dnsmos(estimate, sample_rate).overall


@cache
def _voice_encoder() -> Any:
    """One a process, on the CPU: loading it takes longer than using it."""
    return package("resemblyzer").VoiceEncoder("cpu", verbose=False)

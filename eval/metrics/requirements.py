"""Requirements of metrics, with clear errors: of the clip, and of packages."""

import numpy as np

from ..requirements import onnx_session, package
from .interface import Clip, MetricError

__all__ = ["check_pair", "check_rate", "check_sounding", "onnx_session", "package"]


def check_pair(clip: Clip) -> None:
    """Check that two signals can be compared.

    Raises:
        MetricError: not (samples,) twice with equal lengths, NaN or infinity, or the reference is
            silent.
    """
    reference, estimate = clip.reference, clip.estimate
    if reference.ndim != 1 or reference.shape != estimate.shape:
        raise MetricError(
            f"shapes {reference.shape} and {estimate.shape}; expected (samples,) twice"
        )
    for name, signal in (("reference", reference), ("reconstruction", estimate)):
        if not np.isfinite(signal).all():
            raise MetricError(f"the {name} has NaN or infinity")
    if not reference.any():
        raise MetricError("the reference is silent")


def check_rate(clip: Clip, metric: str, sample_rate: int) -> None:
    """Check that the sample rate is the metric's.

    Raises:
        MetricError: it is another.
    """
    if clip.sample_rate != sample_rate:
        raise MetricError(f"{metric}: {clip.sample_rate} Hz; expected {sample_rate}")


def check_sounding(clip: Clip) -> None:
    """Check a reconstruction for a metric without a reference.

    Raises:
        MetricError: not (samples,), empty, NaN or infinity, or digital silence.
    """
    estimate = clip.estimate
    if estimate.ndim != 1 or not estimate.size:
        raise MetricError(f"shape {estimate.shape}; expected (samples,), at least one")
    if not np.isfinite(estimate).all():
        raise MetricError("the reconstruction has NaN or infinity")
    if not estimate.any():
        raise MetricError("the reconstruction is silent")

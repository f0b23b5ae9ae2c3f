"""Requirements of metrics, with clear errors."""

import importlib
from types import ModuleType
from typing import Any

import numpy as np

from .interface import Clip, MetricError


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


def package(name: str, extra: str = "eval") -> ModuleType:
    """Import a package (or a module of it) that only a metric needs.

    Args:
        name: of the module.
        extra: of this distribution that installs it.

    Raises:
        MetricError: it, or one of its imports, is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        missing = error.name or name
        raise MetricError(f'no {missing} package; pip install "syllabary[{extra}]"') from None


def onnx_session(path: str) -> Any:
    """Load a network to run on one thread: workers would compete for the cores otherwise.

    Raises:
        MetricError: no `onnxruntime` package.
    """
    onnxruntime = package("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options)

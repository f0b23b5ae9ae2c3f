"""What a metric can't do without, and errors that say so."""

import importlib
from types import ModuleType
from typing import Any

import numpy as np

from .interface import Clip, MetricError


def check_pair(clip: Clip) -> None:
    """Refuse signals that can't be compared.

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
    """Refuse another sample rate than the one that a metric is defined at.

    Raises:
        MetricError: it is another.
    """
    if clip.sample_rate != sample_rate:
        raise MetricError(f"{metric}: {clip.sample_rate} Hz; expected {sample_rate}")


def check_sounding(clip: Clip) -> None:
    """Refuse a reconstruction that a metric without a reference has nothing to say of.

    Raises:
        MetricError: not (samples,), at least one, or NaN or infinity, or digital silence.
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
        extra: of this distribution, that brings it.

    Raises:
        MetricError: it, or what it imports itself, is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        missing = error.name or name
        raise MetricError(f'no {missing} package; pip install "syllabary[{extra}]"') from None


def onnx_session(path: str) -> Any:
    """A network to run on one thread: workers would fight for the cores otherwise.

    Raises:
        MetricError: no `onnxruntime` package.
    """
    onnxruntime = package("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options)

"""How close a reconstruction is to the original. Nothing is imputed: a failure is an error."""

import importlib
from types import ModuleType

import numpy as np

from ..errors import SyllabaryError


class MetricError(SyllabaryError):
    """A metric can't be computed, and why."""


def pesq_wb(reference: np.ndarray, estimate: np.ndarray, sample_rate: int) -> float:
    """Wide-band PESQ (ITU-T P.862.2), MOS-LQO from 1.04 to 4.64, by the `pesq` package.

    Args:
        reference, estimate: (samples,) of equal length, time-aligned.
        sample_rate: 16000 Hz, the only rate that it is defined for.

    Raises:
        MetricError: another rate or length, no speech in the reference, or no `pesq` package.
    """
    _check(reference, estimate)
    if sample_rate != 16000:
        raise MetricError(f"wide-band PESQ needs 16000 Hz, got {sample_rate}")
    module = _package("pesq")
    try:
        return float(module.pesq(sample_rate, reference, estimate, "wb"))
    except (module.PesqError, ValueError) as error:
        reason = error.args[0] if error.args else type(error).__name__
        reason = reason.decode() if isinstance(reason, bytes) else reason
        raise MetricError(f"PESQ: {' '.join(str(reason).split())}") from None


def stoi(reference: np.ndarray, estimate: np.ndarray, sample_rate: int) -> float:
    """Short-time objective intelligibility (Taal et al., 2011), up to 1, by the `pystoi` package.

    Args:
        reference, estimate: (samples,) of equal length, time-aligned.
        sample_rate: Hz.

    Raises:
        MetricError: lengths differ, less than 0.4 s of speech, or no `pystoi` package.
    """
    import warnings

    _check(reference, estimate)
    module = _package("pystoi")
    with warnings.catch_warnings():
        # pystoi warns, and returns 1e-5 for a score, where too little speech is left.
        warnings.simplefilter("error", RuntimeWarning)
        try:
            return float(module.stoi(reference, estimate, sample_rate))
        except RuntimeWarning as warning:
            raise MetricError(f"STOI: {str(warning).partition('.')[0]}") from None


def _check(reference: np.ndarray, estimate: np.ndarray) -> None:
    if reference.ndim != 1 or reference.shape != estimate.shape:
        raise MetricError(
            f"shapes {reference.shape} and {estimate.shape}; expected (samples,) twice"
        )
    if not reference.any():
        raise MetricError("the reference is silent")


def _package(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise MetricError(f'no {name} package; pip install "syllabary[eval]"') from None

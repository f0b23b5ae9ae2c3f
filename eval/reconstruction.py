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
    check_pair(reference, estimate)
    if sample_rate != 16000:
        raise MetricError(f"wide-band PESQ needs 16000 Hz, got {sample_rate}")
    module = package("pesq")
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
    return _intelligibility("STOI", reference, estimate, sample_rate, extended=False)


def estoi(reference: np.ndarray, estimate: np.ndarray, sample_rate: int) -> float:
    """Extended STOI (Jensen & Taal, 2016), up to 1, by the `pystoi` package.

    It correlates whole spectra, not bands one by one, and so hears noise that comes and goes.

    Args:
        reference, estimate: (samples,) of equal length, time-aligned.
        sample_rate: Hz.

    Raises:
        MetricError: as `stoi`.
    """
    return _intelligibility("ESTOI", reference, estimate, sample_rate, extended=True)


def log_mel_distance(reference: np.ndarray, estimate: np.ndarray, sample_rate: int) -> float:
    """Mean absolute difference of log mel spectrograms, in dB; 0 for equal signals.

    The mean over all frames and channels of |20 log10(max(R, f)) − 20 log10(max(E, f))|, where R
    and E are amplitude mel spectrograms of `audio.mel.MelSpectrogram` (80 Slaney channels from 0
    to half the sample rate, periodic Hann windows of 64 ms every 16 ms, centred, zeros outside)
    and the floor f is 1e-5, about the noise of 16-bit samples. An attenuation by x dB so has a
    distance of x, less where the floor is reached. Digital silence counts as the floor.

    Args:
        reference, estimate: (samples,) of equal length, time-aligned, full scale at 1.
        sample_rate: Hz.

    Raises:
        MetricError: lengths differ, or the reference is silent.
    """
    import torch

    from ..audio.mel import MelSpectrogram, log_mel

    check_pair(reference, estimate)
    window = round(0.064 * sample_rate / 4) * 4
    mel = MelSpectrogram(
        sample_rate, window, window, window // 4, 80, 0.0, sample_rate / 2, torch.float64
    )
    pair = torch.from_numpy(np.stack([reference, estimate]).astype(np.float64))
    first, second = 20 * log_mel(mel(pair), floor=1e-5)
    return float((first - second).abs().mean())


def _intelligibility(
    name: str, reference: np.ndarray, estimate: np.ndarray, sample_rate: int, extended: bool
) -> float:
    import warnings

    check_pair(reference, estimate)
    module = package("pystoi")
    state = np.random.get_state()  # noqa: NPY002
    with warnings.catch_warnings():
        # pystoi warns, and returns 1e-5 for a score, where too little speech is left.
        warnings.simplefilter("error", RuntimeWarning)
        try:
            # ESTOI adds a little of NumPy's global noise, which must not make a score differ.
            np.random.seed(0)  # noqa: NPY002
            return float(module.stoi(reference, estimate, sample_rate, extended=extended))
        except RuntimeWarning as warning:
            raise MetricError(f"{name}: {str(warning).partition('.')[0]}") from None
        finally:
            np.random.set_state(state)  # noqa: NPY002


def check_pair(reference: np.ndarray, estimate: np.ndarray) -> None:
    """Refuse signals that can't be compared.

    Raises:
        MetricError: not (samples,) twice with equal lengths, or the reference is silent.
    """
    if reference.ndim != 1 or reference.shape != estimate.shape:
        raise MetricError(
            f"shapes {reference.shape} and {estimate.shape}; expected (samples,) twice"
        )
    if not reference.any():
        raise MetricError("the reference is silent")


def package(name: str) -> ModuleType:
    """Import a package (or a module of it) that only a metric needs.

    Raises:
        MetricError: it, or what it imports itself, is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        missing = error.name or name
        raise MetricError(f'no {missing} package; pip install "syllabary[eval]"') from None

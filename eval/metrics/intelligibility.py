"""STOI and ESTOI: objective intelligibility.

Bands are computed by functions of the `pystoi` package, once for both scores, and scores for all
segments at once: a third of the package's time, with differences by rounding alone. (Except ESTOI
where a band is constant: there the package correlates random noise.)
"""

from dataclasses import replace
from functools import lru_cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from .interface import Clip, Metric, MetricError
from .requirements import check_pair, package


def stoi(clip: Clip) -> float:
    """Short-time objective intelligibility (Taal et al., 2011), up to 1.

    Both signals are resampled to 10 kHz as the authors do.

    Raises:
        MetricError: lengths differ, less than 0.4 s of speech, or no `pystoi` package.
    """
    reference, estimate = _segments("STOI", clip)
    # An estimate that is much louder than the reference is clipped.
    bound = 1 + 10 ** (-package("pystoi.stoi").BETA / 20)
    scaled = estimate * (_norm(reference, 1) / (_norm(estimate, 1) + _EPSILON))
    clipped = np.minimum(scaled, reference * bound)
    return float((_normalized(clipped, 1) * _normalized(reference, 1)).sum(1).mean())


def estoi(clip: Clip) -> float:
    """Extended STOI (Jensen & Taal, 2016), up to 1.

    It correlates whole spectra, not single bands, and so is sensitive to modulated noise.

    Raises:
        MetricError: as `stoi`.
    """
    first, second = (_normalized(_normalized(s, 1), 0) for s in _segments("ESTOI", clip))
    return float((first * second).sum(0).mean())


_EPSILON = np.finfo(float).eps


def _segments(name: str, clip: Clip) -> list[np.ndarray]:
    """(bands, frames, segments) of both signals: all runs of 30 frames (384 ms)."""
    check_pair(clip)
    bands = _bands(clip)
    frames = package("pystoi.stoi").N
    if bands[0].shape[1] < frames:
        raise MetricError(f"{name}: less than 0.4 s of speech")
    return [sliding_window_view(each, frames, 1).transpose(0, 2, 1) for each in bands]


@lru_cache(maxsize=1)  # the two metrics are usually computed one after the other
def _bands(clip: Clip) -> tuple[np.ndarray, np.ndarray]:
    """Third-octave magnitudes (bands, frames) of both signals, without silent frames."""
    module, tools = package("pystoi.stoi"), package("pystoi.utils")
    window, hop = module.N_FRAME, module.N_FRAME // 2
    signals = [
        tools.resample_oct(signal, module.FS, clip.sample_rate)
        if clip.sample_rate != module.FS
        else signal
        for signal in (clip.reference, clip.estimate)
    ]
    none = np.zeros((module.NUMBAND, 0))
    if signals[0].size <= window:
        return none, none
    found = []
    for signal in tools.remove_silent_frames(*signals, module.DYN_RANGE, window, hop):
        # As in the package, a frame that ends with the signal is left out.
        whole = signal[:-1] if signal.size > window else np.zeros((0, window))
        frames = sliding_window_view(whole, window, -1)[..., ::hop, :].reshape(-1, window)
        spectrum = np.fft.rfft(frames * np.hanning(window + 2)[1:-1], module.NFFT)
        found.append(np.sqrt(module.OBM @ np.square(np.abs(spectrum)).T))
    return found[0], found[1]


def _norm(values: np.ndarray, axis: int) -> np.ndarray:
    norms: np.ndarray = np.linalg.norm(values, axis=axis, keepdims=True)
    return norms


def _normalized(values: np.ndarray, axis: int) -> np.ndarray:
    """Normalise to mean 0 and norm 1 along an axis; constants become 0."""
    centred = values - values.mean(axis, keepdims=True)
    centred /= _norm(centred, axis) + _EPSILON
    return centred


STOI = Metric(
    name="stoi",
    heading="STOI",
    compute=stoi,
    description="Intelligibility: correlation of short-time envelopes in third-octave bands.",
    higher_is_better=True,
    bounds=(-1, 1),
    paper="Taal et al., 2011, doi 10.1109/TASL.2011.2114881",
    package="pystoi",
)

ESTOI = replace(
    STOI,
    name="estoi",
    heading="ESTOI",
    compute=estoi,
    description="Intelligibility: correlation of short-time spectra, hard on fluctuating noise.",
    paper="Jensen & Taal, 2016, doi 10.1109/TASLP.2016.2585878",
)

"""STOI and ESTOI: how well listeners would understand it."""

import warnings

import numpy as np

from .interface import Clip, Metric, MetricError
from .requirements import check_pair, package


def stoi(clip: Clip) -> float:
    """Short-time objective intelligibility (Taal et al., 2011), up to 1, by the `pystoi` package.

    The package resamples to 10 kHz by itself.

    Raises:
        MetricError: lengths differ, less than 0.4 s of speech, or no `pystoi` package.
    """
    return _intelligibility("STOI", clip, extended=False)


def estoi(clip: Clip) -> float:
    """Extended STOI (Jensen & Taal, 2016), up to 1, by the `pystoi` package.

    It correlates whole spectra, not bands one by one, and so hears noise that comes and goes.

    Raises:
        MetricError: as `stoi`.
    """
    return _intelligibility("ESTOI", clip, extended=True)


def _intelligibility(name: str, clip: Clip, extended: bool) -> float:
    check_pair(clip)
    module = package("pystoi")
    state = np.random.get_state()  # noqa: NPY002
    with warnings.catch_warnings():
        # pystoi warns, and returns 1e-5 for a score, where too little speech is left.
        warnings.simplefilter("error", RuntimeWarning)
        try:
            # ESTOI adds a little of NumPy's global noise, which must not make a score differ.
            np.random.seed(0)  # noqa: NPY002
            found = module.stoi(clip.reference, clip.estimate, clip.sample_rate, extended=extended)
            return float(found)
        except RuntimeWarning as warning:
            raise MetricError(f"{name}: {str(warning).partition('.')[0]}") from None
        finally:
            np.random.set_state(state)  # noqa: NPY002


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

ESTOI = Metric(
    name="estoi",
    heading="ESTOI",
    compute=estoi,
    description="Intelligibility: correlation of short-time spectra, hard on fluctuating noise.",
    higher_is_better=True,
    bounds=(-1, 1),
    paper="Jensen & Taal, 2016, doi 10.1109/TASLP.2016.2585878",
    package="pystoi",
)

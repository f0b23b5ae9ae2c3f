"""DNSMOS P.835: mean opinion scores predicted by a network, without a reference."""

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from ..analysis_cache import remembered
from .interface import Clip, Metric, MetricError
from .requirements import check_sounding, onnx_session, package

_RATE = 16000


@dataclass(frozen=True)
class DNSMOS:
    """Mean opinion scores predicted by a network, each from 1 to 5.

    Attributes:
        overall: OVRL.
        signal: SIG, the quality of the speech itself.
        background: BAK, high if the background disturbs little.
    """

    overall: float
    signal: float
    background: float


def dnsmos(clip: Clip) -> DNSMOS:
    """DNSMOS P.835 (Reddy et al., arXiv 2110.01763), by `speechmos`.

    The network processes windows of 9.01 s, one per second; a shorter signal is repeated, as by its
    authors. Samples beyond [-1, 1] are clamped. The three scores of a signal are computed once.

    Raises:
        MetricError: another rate than 16000 Hz, not (samples,), no samples, digital silence, or no
            `speechmos` or `onnxruntime` package.
    """
    check_sounding(clip)
    if clip.sample_rate != _RATE:
        raise MetricError(f"DNSMOS needs {_RATE} Hz, got {clip.sample_rate}")
    return _predict(np.clip(clip.estimate, -1, 1), clip.sample_rate)


@remembered
def _predict(wave: np.ndarray, sample_rate: int) -> DNSMOS:
    found = _network()(wave, sample_rate, False)
    values = (float(found[f"{name}_mos"]) for name in ("ovrl", "sig", "bak"))
    return DNSMOS(*values)


@cache
def _network() -> Any:
    """Return the network, one per process."""
    module = package("speechmos.dnsmos")
    from importlib.resources import files

    # Set here, as the package would load both of its networks, on all cores.
    network = object.__new__(module.DNSMOS)
    network.onnx_sess = onnx_session(str(files("speechmos") / "dnsmos_models" / "sig_bak_ovr.onnx"))
    network.p808_onnx_sess, network.audio_melspec = _UnusedNetwork(), lambda audio: audio[None]
    return network


class _UnusedNetwork:
    """A stub for the P.808 network, whose score is not used."""

    def run(self, names: None, inputs: object) -> list[list[list[float]]]:
        return [[[math.nan]]]


def _metric(name: str, heading: str, part: str, description: str) -> Metric:
    def compute(clip: Clip) -> float:
        return float(getattr(dnsmos(clip), part))

    return Metric(
        name=name,
        heading=heading,
        compute=compute,
        description=f"{description}, as a network predicts it (MOS).",
        higher_is_better=True,
        bounds=(1, 5),
        digits=2,
        needs=(),
        sample_rates=(_RATE,),
        paper="Reddy et al., arXiv 2110.01763",
        package="speechmos",
        max_items=32,
    )


OVERALL = _metric("dnsmos", "DNSMOS", "overall", "Overall quality (OVRL)")
SIGNAL = _metric("dnsmos-sig", "DNSMOS SIG", "signal", "Quality of the speech itself (SIG)")
BACKGROUND = _metric("dnsmos-bak", "DNSMOS BAK", "background", "Freedom from noise (BAK)")

"""PLCMOS: quality under packet loss predicted by a network, without a reference."""

from functools import cache
from typing import Any

import numpy as np

from .interface import Clip, Metric, MetricError
from .requirements import check_sounding, onnx_session, package

_RATE = 16000


def plcmos(clip: Clip) -> float:
    """PLCMOS v2 (Diener et al., arXiv 2305.15127), from 1 to 5, by `speechmos`.

    The mean over 15 simulated listeners, drawn with a fixed seed. Samples beyond [-1, 1] are
    clamped.

    Raises:
        MetricError: another rate than 16000 Hz, not (samples,), no samples, digital silence, or no
            `speechmos` or `onnxruntime` package.
    """
    check_sounding(clip)
    if clip.sample_rate != _RATE:
        raise MetricError(f"PLCMOS needs {_RATE} Hz, got {clip.sample_rate}")
    wave = np.clip(clip.estimate, -1, 1).astype(np.float32)
    network = _network()
    state = np.random.get_state()  # noqa: NPY002
    try:
        # The package draws listeners by NumPy's global generator.
        np.random.seed(0)  # noqa: NPY002
        return float(network(wave)["plcmos"])
    finally:
        np.random.set_state(state)  # noqa: NPY002


@cache
def _network() -> Any:
    """Return the network, one per process."""
    network = package("speechmos.plcmos").PLCMOS()
    network.session = onnx_session(network.model_path)
    return network


PLCMOS = Metric(
    name="plcmos",
    heading="PLCMOS",
    compute=plcmos,
    description="Quality of speech with gaps that were filled, as a network predicts it (MOS).",
    higher_is_better=True,
    bounds=(1, 5),
    digits=2,
    needs=(),
    sample_rates=(_RATE,),
    paper="Diener et al., arXiv 2305.15127",
    package="speechmos",
    max_items=32,
)

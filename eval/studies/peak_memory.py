"""Peak memory of a system, measured in a process of its own (Linux).

    python -m syllabary.eval.studies.peak_memory NAME WAVE.npy

prints megabytes. The baseline is what the process holds once Python, PyTorch and this package are
imported; on top of it come the weights, code that is compiled for them, and the work on the clip.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from ...cores import use_one_thread
from ..metrics.interface import MetricError

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_TIMEOUT = 120.0


def peak_memory(name: str, wave: np.ndarray) -> float:
    """Peak megabytes (10^6 bytes) above the baseline while a clip is encoded and decoded.

    Args:
        name: as `systems.catalogue.find` takes it.
        wave: (samples,) float32 at the system's sample rate.

    Raises:
        MetricError: this is no Linux, or the process failed, and what it said.
    """
    if not (_STATUS.exists() and _RESET.exists()):
        raise MetricError("needs Linux's /proc/self/status")
    with tempfile.TemporaryDirectory(prefix="syllabary-memory-") as scratch:
        path = Path(scratch, "wave.npy")
        np.save(path, np.asarray(wave, np.float32))
        # -P: names of files in the working directory must not hide modules.
        command = [sys.executable, "-P", "-m", __name__, name, str(path)]
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                timeout=_TIMEOUT,
                stdin=subprocess.DEVNULL,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
            )
        except subprocess.TimeoutExpired:
            raise MetricError(f"not done after {_TIMEOUT:g} s") from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["said nothing"])[-1]
        raise MetricError(f"a process of its own failed: {last}")
    return float(done.stdout.split()[-1])


def _megabytes(field: str) -> float:
    for line in _STATUS.read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise MetricError(f"no {field} in {_STATUS}")


def main(name: str, path: str) -> None:
    """Measure, in this process, and print."""
    from ..systems import tokenizers  # noqa: F401  imported before the baseline is taken
    from ..systems.catalogue import find

    use_one_thread()
    wave = np.load(path)
    _RESET.write_text("5")  # reset the peak, which includes the imports
    baseline = _megabytes("VmRSS")
    find(name).reconstruct(wave)
    sys.stdout.write(f"{_megabytes('VmHWM') - baseline:.3f}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])

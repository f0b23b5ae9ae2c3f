"""The benchmark of the pipe, on two seconds."""

import re
import sys

import pytest

from ..conftest import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
import stream_pipe


@pytest.mark.slow
def test_the_whole_run(capsys):
    stream_pipe.main(["--seconds", "2", "--codec", "dmel", "--piece-ms", "25"])
    out = capsys.readouterr().out
    latencies = re.findall(r"^\| (\w+) to read \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", out, re.M)
    assert [name for name, *_ in latencies] == ["written", "spoken"]
    for _, p50, p99, longest in latencies:
        # dMel's sound lags by more than this whatever the machine.
        assert 25 < float(p50) <= float(p99) <= float(longest)
    assert re.search(r"^\| encode( \| \d+){5} \|$", out, re.M)
    assert "encode: 160 frames × 80, 4.00 s" in out and "decode: 160 frames" in out
    assert max(map(len, out.splitlines())) <= 100

"""What is compiled for, and processes that are held to older processors."""

import json
import os
import subprocess
import sys

import pytest

from syllabary.errors import ProcessorError
from syllabary.kernels import processors

ASK = """
import json, numpy, torch
from syllabary.kernels import processors
from syllabary.kernels import linear, vector_ir
from syllabary.codecs.neural.compiled import int8
print(json.dumps({
    "numba": [processors.target()[1], processors.compiles_for("avx512f", "avx512vnni")],
    "kernels": [vector_ir.has_pair_products(), int8._FAST, linear._ROWS == 4],
    "torch": torch.backends.cpu.get_cpu_capability(),
    "numpy": numpy.show_config(mode="dicts")["SIMD Extensions"].get("found", []),
}))
"""
x86 = pytest.mark.skipif(processors.cannot_mask() is not None, reason=str(processors.cannot_mask()))


def ask(environment, script=ASK):
    environment = dict(environment)
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert not done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    "features, there",
    [
        ("", False),
        ("+avx512f,+avx512vnni", True),
        ("+avx512vnni", True),
        ("+avx512f", False),
        ("-avx512f,+avx512vnni", True),
        ("+avx512f,+avx512vnni,-avx512f", False),
        ("+avx512f,+avx512vnni,-avx2", False),
        ("+avx512f,+avx512vnni,-avx", False),
        ("+avx512vnni,-avx512bf16", True),
        ("+avx512f,-avx512vnni", False),
        ("+avx2,+avxvnni", False),
    ],
)
def test_of_features_the_last_word_counts(features, there):
    assert processors._enabled(features).issuperset(["avx512f", "avx512vnni"]) == there


@x86
@pytest.mark.parametrize("name, torch", [("avx2", "AVX2"), ("sse4.2", "DEFAULT")])
def test_a_mask_reaches_all_libraries(name, torch):
    found = ask(processors.masked_environment(name))
    assert found["numba"] == [processors.MASKS[name]["NUMBA_CPU_NAME"], False]
    assert found["kernels"] == [False] * 3
    assert found["torch"] == torch
    assert not [feature for feature in found["numpy"] if "512" in feature or "V4" in feature]
    assert name == "avx2" or not found["numpy"]


@x86
@pytest.mark.parametrize(
    "settings",
    [
        {"NUMBA_CPU_NAME": "generic"},
        pytest.param(
            {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx2,+fma"},
            marks=pytest.mark.slow,
        ),
        pytest.param({"NUMBA_CPU_FEATURES": "+sse4.2,-avx512f"}, marks=pytest.mark.slow),
        pytest.param({"NUMBA_ENABLE_AVX": "0"}, marks=pytest.mark.slow),
    ],
)
def test_kernels_are_for_what_numba_is_told(settings):
    """Where kernels took instructions that are not there, LLVM would end the process."""
    script = """
import json, torch
from syllabary.quantizers import nearest
g = torch.Generator().manual_seed(0)
x, c = torch.randn(500, 8, generator=g), torch.randn(5000, 8, generator=g)
answers = [nearest(x, c, backend=backend) for backend in ("torch", "panels", "cells", "products")]
print(json.dumps([torch.equal(answers[0], other) for other in answers]))
"""
    assert ask(os.environ | settings)["kernels"] == [False] * 3
    assert all(ask(os.environ | settings, script))


def test_features_are_numbas_own():
    found = ask(os.environ)
    assert found["numba"][1] == found["kernels"][0] == found["kernels"][1]


def test_unknown_processors(monkeypatch):
    with pytest.raises(ProcessorError, match=r"no processor 'avx3'.*'avx2', 'sse4\.2'"):
        processors.masked_environment("avx3")
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    with pytest.raises(ProcessorError, match="another kind, aarch64"):
        processors.masked_environment("avx2")


def test_what_numpy_is_told_to_leave_stays(monkeypatch):
    monkeypatch.setenv("NPY_DISABLE_CPU_FEATURES", "AVX512_SPR")
    if not processors.cannot_mask():
        masked = processors.masked_environment("sse4.2")["NPY_DISABLE_CPU_FEATURES"]
        assert "AVX512_SPR" in masked.split()

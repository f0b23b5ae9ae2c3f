"""The processor features that kernels may use, and processes that emulate an older processor.

Kernels ask only this module which instructions they may use. The answer is numba's, with
`NUMBA_CPU_NAME` and `NUMBA_CPU_FEATURES` taken into account; cached kernels are named by it, so
that a kernel compiled for one processor never runs on another that lacks a feature.
"""

import os
import platform
from collections.abc import Mapping
from functools import cache

from ..errors import ProcessorError

# Features that LLVM enables with a feature, among those that kernels ask for.
_IMPLIED = {
    "avx512vnni": ("avx512f",),
    "avx512f": ("avx2", "fma", "f16c"),
    "avx2": ("avx",),
    "fma": ("avx",),
    "f16c": ("avx",),
}
_SSE = "+sse2,+sse3,+ssse3,+sse4.1,+sse4.2,+popcnt"

#: Processors that a process can emulate, newest first: environment variables that keep libraries
#: (torch's own loops, oneDNN, MKL, OpenBLAS, numba) from using newer instructions.
MASKS: Mapping[str, Mapping[str, str]] = {
    "avx2": {
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "OPENBLAS_CORETYPE": "Haswell",
        "NUMBA_CPU_NAME": "haswell",
        "NUMBA_CPU_FEATURES": f"{_SSE},+avx,+avx2,+fma,+f16c,+bmi,+bmi2",
    },
    "sse4.2": {
        "ATEN_CPU_CAPABILITY": "default",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
        "OPENBLAS_CORETYPE": "Nehalem",
        "NUMBA_CPU_NAME": "nehalem",
        "NUMBA_CPU_FEATURES": _SSE,
    },
}
# numpy's names of the features to keep, in versions from 2.4 on, and before.
_NUMPY_KEEPS = {"avx2": ("X86_V2", "X86_V3", "AVX", "F16C", "FMA3", "AVX2"), "sse4.2": ("X86_V2",)}
_NUMPY_SSE = ("SSE", "SSE2", "SSE3", "SSSE3", "SSE41", "POPCNT", "SSE42")


def compiles_for(*features: str) -> bool:
    """Whether numba compiles for processors that have all of these LLVM features."""
    return _enabled(target()[2]).issuperset(features)


def target() -> tuple[str, str, str]:
    """Return numba's target: LLVM's triple, the processor's name, and its features."""
    from numba.core.registry import cpu_target

    found: tuple[str, str, str] = cpu_target.target_context.codegen().magic_tuple()
    return found


@cache
def _enabled(features: str) -> frozenset[str]:
    """Return the features enabled by a list such as ``+avx2,-avx512f``; the last mention counts.

    Features implied only by the processor's name are left out: code compiled without them is slower
    than possible, but works.
    """
    enabled: set[str] = set()
    for word in features.split(","):
        name = word[1:]
        if word.startswith("+"):
            enabled |= _with_implied(name)
        elif word.startswith("-"):
            enabled = {other for other in enabled if name not in _with_implied(other)}
    return frozenset(enabled)


def _with_implied(name: str) -> set[str]:
    found = {name}
    for other in _IMPLIED.get(name, ()):
        found |= _with_implied(other)
    return found


def cannot_mask() -> str | None:
    """Return the reason why no processor of `MASKS` can be emulated here, or None."""
    machine = platform.machine()
    if machine in ("x86_64", "AMD64"):
        return None
    return (
        f"only a processor of x86-64 can work as an older one; this is of another kind, {machine}"
    )


def masked_environment(processor: str) -> dict[str, str]:
    """Return an environment for a child process that emulates a processor of `MASKS`.

    Raises:
        ProcessorError: an unknown name, or this is not an x86-64 processor.
    """
    if processor not in MASKS:
        raise ProcessorError(f"no processor {processor!r} to work as; there are {list(MASKS)}")
    if reason := cannot_mask():
        raise ProcessorError(reason)
    masked = os.environ | MASKS[processor]
    masked.pop("OPENBLAS_L2_SIZE", None)
    kept = {*_NUMPY_SSE, *_NUMPY_KEEPS[processor]}
    left = [os.environ.get("NPY_DISABLE_CPU_FEATURES", "")]
    left += [feature for feature in _numpy_features() if feature not in kept]
    masked["NPY_DISABLE_CPU_FEATURES"] = " ".join(left).strip()
    return masked


def _numpy_features() -> list[str]:
    """Return numpy's optional features here; it warns of unknown ones in its variables."""
    import numpy as np

    config = np.show_config(mode="dicts")
    assert isinstance(config, dict)
    return list(config["SIMD Extensions"].get("found", []))

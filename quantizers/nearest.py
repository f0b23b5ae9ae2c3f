"""Exact nearest-code search: `nearest` for single calls, `NearestCode` for repeated use."""

from typing import Any, Literal, overload

import numpy as np
import torch
from torch import Tensor

from ..errors import QuantizerError
from ..kernels.threads import share_rows
from .search.reference import NotFiniteError, ReferenceSearch
from .search.scores import METRICS, Metric, distances_of

Backend = Literal["auto", "torch", "products", "panels", "cells", "triton"]
BACKENDS: dict[str, tuple[str, ...]] = {
    "cpu": ("torch", "products", "panels", "cells"),
    "cuda": ("torch", "triton"),
}

# Where the measured costs cross (benchmarks/quantizers.py): matrix products pay off from this many
# dimensions; boxes around codes from this many codes, and their set-up from this many queries per
# code.
_LONG_VECTORS = 24
_LARGE_CODEBOOK = 4096
_QUERIES_PER_CODE = 1 / 8
# Fewer rows than this are too few for a matrix product.
_FEW_ROWS = 8
# Rows to convert to float32 at once, if they have another dtype.
_BLOCK = 4096
_NO_SCORES = np.zeros(0)
# Rows per block in which undecided rows are copied at once.
_LARGE_BLOCK = 1 << 16


class NearestCode:
    """A codebook prepared for exact nearest-code search.

    The result is that of float64 arithmetic: the lowest index among the codes of the lowest score
    (`quantizers/search/scores.py`). It is independent of the backend, the batch, the number of
    torch threads, autocast and the device.

    Args:
        codebook: (K, D) floating point, finite. It is copied to float32, on the same device.
        metric: "l2" (least Euclidean distance), "cosine" (largest cosine; 0 for a zero vector), or
            "ip" (largest inner product).
        backend: "auto", or by name: "products" (bfloat16 matrix products, then an exact decision),
            "panels" (all codes in float32), "cells" (only codes that can be nearest, for short
            vectors and many codes), "triton" (CUDA), "torch" (float64, any device).

    Raises:
        QuantizerError: the codebook is empty, of a wrong shape or dtype, or not finite; the metric
            or backend is unknown, or the device or metric does not support the backend.
    """

    def __init__(self, codebook: Tensor, metric: Metric = "l2", *, backend: Backend = "auto"):
        if metric not in METRICS:
            raise QuantizerError(f"unknown metric {metric!r}; there are {', '.join(METRICS)}")
        self.codebook = checked_codebook(codebook)
        self._asked = backend
        if self.codebook.device.type == "cpu":
            # A copy for the search backends: torch frees a tensor's memory when it moves it, for
            # example to share it with another process.
            self._memory = self.codebook.numpy().copy()
            self.codebook = torch.from_numpy(self._memory)
        self.metric: Metric = metric
        device = self.codebook.device.type
        known = BACKENDS.get(device, ("torch",))
        if backend != "auto" and backend not in known:
            raise QuantizerError(
                f"unknown backend {backend!r} on {device}; there are auto, {', '.join(known)}"
            )
        if backend == "cells" and metric == "ip":
            raise QuantizerError("backend 'cells' is for l2 and cosine: boxes bound distances")
        self.backend = self._best() if backend == "auto" else backend
        self._few = "panels" if backend == "auto" and self.backend == "products" else self.backend
        self._engines: dict[str, Any] = {}
        self._engine(self.backend)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the codebook only; a copy is prepared again on the computer that loads it."""
        return _searching, (self.codebook, self.metric, self._asked)

    def _best(self) -> Backend:
        if self.codebook.device.type == "cuda":
            return "triton"
        if self.codebook.device.type != "cpu":
            return "torch"
        size, dim = self.codebook.shape
        if dim > _LONG_VECTORS:
            return "products"
        return "cells" if size >= _LARGE_CODEBOOK and self.metric != "ip" else "panels"

    def _engine(self, backend: str) -> Any:
        if backend not in self._engines:
            self._engines[backend] = _make(backend, self.codebook, self.metric)
        return self._engines[backend]

    @overload
    def __call__(self, x: Tensor, return_distances: Literal[False] = False) -> Tensor: ...
    @overload
    def __call__(self, x: Tensor, return_distances: Literal[True]) -> tuple[Tensor, Tensor]: ...
    @torch.no_grad()
    def __call__(self, x: Tensor, return_distances: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        """Find the nearest codes of vectors.

        Args:
            x: (N, D) floating point; rounded to float32 if it is wider.
            return_distances: also return squared Euclidean distances, 1 - cosine, or minus the
                inner product, depending on the metric.

        Returns:
            Codes (N,) int64 and, with `return_distances`, float32 distances (N,).

        Raises:
            QuantizerError: a wrong shape, dtype or device; NaN or infinite values.
        """
        _check(x, "x", self.codebook.shape[1])
        if x.device != self.codebook.device:
            raise QuantizerError(f"x is on {x.device}, the codebook on {self.codebook.device}")
        x = x.detach()
        if x.device.type == "cpu" and self.backend != "torch":
            codes, scores = self._search_cpu(x, return_distances)
        else:
            x = x.float().contiguous()
            if not bool(x.isfinite().all()):
                raise not_finite(x)
            engine = self._engine(self.backend)
            if self.backend == "triton" and not return_distances:
                found: Tensor = engine.codes(x)
                return found
            codes, scores = engine.search(x)
        if return_distances:
            return codes, distances_of(scores, x, self.metric)
        return codes

    def _search_cpu(self, x: Tensor, with_scores: bool) -> tuple[Tensor, Tensor]:
        codes = np.empty(x.shape[0], np.int64)
        scores = np.empty(x.shape[0] if with_scores else 0, np.float64)

        def work(start: int, stop: int) -> None:
            self.search_rows(x[start:stop], codes[start:stop], scores[start:stop])

        try:
            # A few million multiply-adds make another thread worthwhile.
            share_rows(work, x.shape[0], max(64, (1 << 22) // self.codebook.numel()))
        except NotFiniteError:
            raise not_finite(x) from None
        return torch.from_numpy(codes), torch.from_numpy(scores)

    def codes(self, rows: np.ndarray) -> np.ndarray:
        """Find the nearest codes of few rows, without the checks of `__call__` (CPU).

        Args:
            rows: (n, D) float32, contiguous.

        Returns:
            (n,) int64.

        Raises:
            QuantizerError: NaN or infinite values.
        """
        found = np.empty(len(rows), np.int64)
        try:
            engine = self._engine(self._few if len(rows) < _FEW_ROWS else self.backend)
            engine.search(rows, found, _NO_SCORES)
        except NotFiniteError:
            raise not_finite(torch.from_numpy(rows)) from None
        return found

    def search_rows(self, x: Tensor, codes: np.ndarray, scores: np.ndarray) -> None:
        """Search on this thread only, for callers that distribute rows to threads themselves (CPU).

        Args:
            x: (n, D) floating point.
            codes: (n,) int64, output.
            scores: (n,) float64, output; or empty.

        Raises:
            NotFiniteError: NaN or infinite values.
        """
        engine = self._engine(self._few if x.shape[0] < _FEW_ROWS else self.backend)
        ready = x.dtype == torch.float32 and x.is_contiguous()
        block = _LARGE_BLOCK if ready else _BLOCK
        for start in range(0, x.shape[0], block):
            part = slice(start, start + block)
            rows = x[part].float().contiguous().numpy()
            engine.search(rows, codes[part], scores[part])


def _searching(codebook: Tensor, metric: Metric, backend: Backend) -> NearestCode:
    """Prepare a copy of a codebook; another computer may lack the backend's device."""
    return NearestCode(codebook, metric, backend=backend)


def nearest(
    x: Tensor,
    codebook: Tensor,
    metric: Metric = "l2",
    return_distances: bool = False,
    *,
    backend: Backend = "auto",
) -> Tensor | tuple[Tensor, Tensor]:
    """Find the nearest code of each vector, exactly; use `NearestCode` for repeated calls.

    Args:
        x: (N, D) floating point.
        codebook: (K, D) floating point.
        metric, return_distances, backend: see `NearestCode`.

    Returns:
        Codes (N,) int64 and, with `return_distances`, float32 distances (N,).

    Raises:
        QuantizerError: as for `NearestCode`.
    """
    if backend == "auto" and isinstance(x, Tensor) and isinstance(codebook, Tensor):
        short = codebook.ndim == 2 and codebook.shape[1] <= _LONG_VECTORS
        few = x.shape[0] < _QUERIES_PER_CODE * codebook.shape[0] if x.ndim and short else False
        if codebook.device.type == "cpu" and few:
            backend = "panels"
    search = NearestCode(codebook, metric, backend=backend)
    return search(x, True) if return_distances else search(x)


def checked_codebook(codebook: Tensor) -> Tensor:
    """Return a float32 copy (K, D) of a codebook.

    Raises:
        QuantizerError: it is empty, of a wrong shape or dtype, or not finite.
    """
    _check(codebook, "codebook", None)
    copy = codebook.detach().float().clone(memory_format=torch.contiguous_format)
    if not bool(copy.isfinite().all()):
        raise QuantizerError("codebook has NaN or infinite values")
    return copy


def _make(backend: str, codebook: Tensor, metric: Metric) -> Any:
    # Imported where used: numba takes a while to import, and Triton may be missing.
    if backend == "torch":
        return ReferenceSearch(codebook, metric)
    if backend == "products":
        from .search.products import ProductSearch

        return ProductSearch(codebook, metric)
    if backend == "triton":
        from .search.cuda import TritonSearch

        return TritonSearch(codebook, metric)
    from .search.panels import CellSearch, PanelSearch

    return (CellSearch if backend == "cells" else PanelSearch)(codebook, metric)


def _check(values: Tensor, name: str, dim: int | None) -> None:
    if not isinstance(values, Tensor) or not values.is_floating_point():
        kind = values.dtype if isinstance(values, Tensor) else type(values).__name__
        raise QuantizerError(f"{name} must be a floating-point tensor, got {kind}")
    if values.ndim != 2 or (dim is not None and values.shape[1] != dim):
        expected = f"(N, {dim})" if dim is not None else "(K, D)"
        raise QuantizerError(f"{name} must have shape {expected}, got {tuple(values.shape)}")
    if dim is None and 0 in values.shape:
        raise QuantizerError(f"{name} is empty: {tuple(values.shape)}")


def not_finite(x: Tensor) -> QuantizerError:
    """Create the error that names the first row of x (N, D) with NaN or infinite values."""
    for start in range(0, x.shape[0], _BLOCK):
        bad = (~x[start : start + _BLOCK].float().isfinite()).any(1).nonzero()
        if len(bad):
            row = start + int(bad[0])
            return QuantizerError(f"x has NaN or infinite values in row {row} of {tuple(x.shape)}")
    return QuantizerError("a residual is beyond float32")

"""Nearest codes of long vectors, by bfloat16 matrix products with a proven error bound.

With centre m (the codebook's mean; shifting both sides by m changes no distance), x' = x - m, c' =
c - m, the score of a code is s = |c'|²/2 - x'·c'. The screening rounds x' and c' to bfloat16, and
the matrix library multiplies them (oneDNN: AMX or AVX-512 BF16, 2 to 10 times as fast as float32)
to products p in bfloat16, summed in float32. By Cauchy and Schwarz,

    |s - (|c'|²/2 - p)| <= |x' - bf(x')| |c'| + |bf(x')| |c' - bf(c')| + D u |x'| |c'| + v |p|,

u = 2^-24, v = 2^-8 for the rounding of p itself; and 2^-47 (|x'| + |c'|)² for the rounding of the
deciding float64 score. Codes whose lower bound is below an upper bound of another's score are
decided by `exact_kernels`: one or two in practice. Processors without bfloat16 products use float32
products; torch's settings may allow these to round their inputs, by up to 2^-8, which the bound
covers.
"""

import numpy as np
import torch
from torch import Tensor

from ...kernels.threads import scratch
from .reference import LastResort
from .scores import METRICS, Metric, code_norms

_UNIT = 2.0**-24
# Products held at once: 2 MB of bfloat16, which fit in the L2 cache.
_TILE_PRODUCTS = 1 << 20


def has_bfloat16_products() -> bool:
    """Whether this processor multiplies bfloat16 matrices in hardware."""
    supported = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return torch.backends.mkldnn.is_available() and bool(supported and supported())


class ProductSearch:
    """Screen by matrix products over tiles of rows, then decide exactly."""

    def __init__(self, codebook: Tensor, metric: Metric, *, bfloat16: bool | None = None):
        from .product_kernels import BLOCK

        self._last = LastResort(codebook, metric)
        self._codebook = codebook.numpy()
        self._metric = METRICS.index(metric)
        norms = code_norms(codebook)
        self._norms = norms.numpy()
        codes = codebook.double()
        center = torch.zeros_like(codebook[0])
        if metric == "cosine":
            codes = codes / norms[:, None]
        elif metric == "l2":
            center = codes.mean(0).float()
            codes = codes - center.double()
        size, dim = codes.shape
        self._padded = -(-size // BLOCK) * BLOCK
        # Whole vector registers, since the matrix library is slower for odd widths.
        self._width = -(-dim // 32) * 32
        self._center = center.numpy()
        self._bfloat16 = has_bfloat16_products() if bfloat16 is None else bfloat16
        narrow = torch.zeros(
            self._padded,
            self._width,
            dtype=torch.bfloat16 if self._bfloat16 else torch.float32,
            device="cpu",
        )
        narrow[:size, :dim] = codes
        self._screen = narrow.T
        squares = codes.square().sum(1)
        offsets = torch.full((self._padded,), 3e38, dtype=torch.float32, device="cpu")
        offsets[:size] = squares / 2 if metric == "l2" else 0
        self._offsets = offsets.numpy()
        self._bounds = self._error_bounds(codes, narrow[:size, :dim], squares)
        self._tile = max(16, min(512, _TILE_PRODUCTS // self._padded))

    def _error_bounds(self, codes: Tensor, narrow: Tensor, squares: Tensor) -> np.ndarray:
        """Compute the `bounds` of `decide_tile`, with a margin of 1 % for their own rounding."""
        longest = float(squares.max().sqrt())
        rounding = float((codes - narrow.double()).square().sum(1).max().sqrt())
        if not self._bfloat16:
            rounding += longest * 2.0**-8
        terms = self._width + 8
        # Flushed subnormals cost at most 2^-126 each.
        absolute = 2 * terms * _UNIT * longest**2 + 8 * terms * 2.0**-126
        per_length = rounding + 2 * terms * _UNIT * (longest + rounding)
        per_rounding = longest + rounding
        product = 2.0**-8 if self._bfloat16 else 0.0
        bounds = [per_length, per_rounding, 8 * _UNIT, absolute, product, longest]
        return (np.minimum(np.array(bounds) * 1.01, 3e38)).astype(np.float32)

    def search(self, rows: np.ndarray, codes: np.ndarray, scores: np.ndarray) -> None:
        """Find codes (N,) int64 for rows (N, D), and float64 scores (N,) unless that is empty.

        Raises:
            NotFiniteError: NaN or infinite values.
        """
        from .product_kernels import BLOCK, decide_tile, prepare_bfloat16, prepare_float32

        kind, prepare = (
            (np.uint16, prepare_bfloat16) if self._bfloat16 else (np.float32, prepare_float32)
        )
        narrow = scratch("screened rows", (self._tile, self._width), kind)
        narrow[:, rows.shape[1] :] = 0
        products = scratch("products", (self._tile, self._padded), kind)
        sizes = scratch("sizes", (self._tile, 2), np.float32)
        least = scratch("least", (self._padded // BLOCK,), np.float32)
        work = scratch("exact", (rows.shape[1],), np.float64)
        left, out = (_as_tensor(array) for array in (narrow, products))
        for start in range(0, rows.shape[0], self._tile):
            tile = rows[start : start + self._tile]
            count = tile.shape[0]
            prepare(tile, self._center, narrow, sizes)
            torch.mm(left[:count], self._screen, out=out[:count])
            decide_tile(
                products,
                self._offsets,
                sizes,
                self._bounds,
                tile,
                self._codebook,
                self._norms,
                self._metric,
                least,
                work,
                codes[start : start + count],
                scores[start : start + count],
            )
        self._last.search_undecided(rows, codes, scores)


def _as_tensor(array: np.ndarray) -> Tensor:
    if array.dtype == np.uint16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)

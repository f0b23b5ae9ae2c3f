"""Nearest codes by matrix products in bfloat16 with a proven error bound, for long vectors.

With centre m (the codebook's mean; distances do not change when both sides move by m), x' = x - m,
c' = c - m, the score of a code is s = |c'|²/2 - x'·c'. The screen rounds x' and c' to bfloat16 and
lets the matrix library multiply them (oneDNN: AMX or AVX-512 BF16, 2 to 10 times float32), into
products p in bfloat16, summed in float32. By Cauchy and Schwarz,

    |s - (|c'|²/2 - p)| <= |x' - bf(x')| |c'| + |bf(x')| |c' - bf(c')| + D u |x'| |c'| + v |p|,

u = 2^-24, v = 2^-8 for the rounding of p itself; and 2^-47 (|x'| + |c'|)² for that of the score in
float64 which decides. Codes whose lower bound lies under an upper bound
of another's score are decided by `exact_kernels`: one or two of them in practice. Where the
processor has no bfloat16 products, the same with float32 products, which torch's settings allow to
round what goes in: to 2^-8 of it, for the bound.
"""

import numpy as np
import torch
from torch import Tensor

from ...kernels.threads import scratch
from .reference import LastResort
from .scores import METRICS, Metric, code_norms

_UNIT = 2.0**-24
# Products that are held at once: 2 MB of bfloat16 stay in the second-level cache.
_TILE_PRODUCTS = 1 << 20


def has_bfloat16_products() -> bool:
    """Whether oneDNN multiplies bfloat16 matrices in hardware here."""
    supported = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return torch.backends.mkldnn.is_available() and bool(supported and supported())


class ProductSearch:
    """Screening by matrix products over tiles of rows, then exact decision."""

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
        # Whole vector registers; the matrix library is slower for odd widths.
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
        """What `decide_tile` needs, each with a hundredth to spare for its own rounding."""
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
        """Fill codes (N,) int64, and float64 scores (N,) unless it is empty, for rows (N, D).

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

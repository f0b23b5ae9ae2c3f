"""Compiled steps of a residual chain."""

from ...kernels.cache import kernel


@kernel
def subtract(residual, codebook, codes):  # type: ignore[no-untyped-def]
    """Subtract codes (n,) of codebook (K, D) from residual (n, D) float32, in place."""
    for r in range(residual.shape[0]):
        code = codes[r]
        for d in range(residual.shape[1]):
            residual[r, d] -= codebook[code, d]


@kernel
def gather_sum(codes, table, starts, out):  # type: ignore[no-untyped-def]
    """Sum table[starts[s] + codes[n, s]] over stages s, in their order, into out (N, D)."""
    for r in range(codes.shape[0]):
        code = starts[0] + codes[r, 0]
        for d in range(out.shape[1]):
            out[r, d] = table[code, d]
        for s in range(1, codes.shape[1]):
            code = starts[s] + codes[r, s]
            for d in range(out.shape[1]):
                out[r, d] += table[code, d]

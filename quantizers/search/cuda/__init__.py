"""Exact search, residual chains and scalar quantization in Triton, for CUDA.

Importing this package needs triton, so other modules import it where they use it. The steps of a
search: `preparation.py` lays out a codebook for the matrix units, `screening.py` scores all codes
in fast arithmetic and keeps each row's two lowest scores, `judging.py` bounds their error and lists
the rows that remain undecided, `settling.py` decides those in float64. Nothing of size rows × codes
is ever stored, and a search never waits for the device.

The kernels are tested under Triton's interpreter, which computes the same tiles with numpy, and
compiled for compute capability 9.0, but untested on a GPU. `benchmarks/gpu.sh` checks and times them
where there is one.
"""

from .finite_scalar import TritonFSQ, fsq_decode, fsq_encode
from .nearest import Tiles, TritonSearch
from .residual_chain import TritonResidualChain

__all__ = [
    "Tiles",
    "TritonFSQ",
    "TritonResidualChain",
    "TritonSearch",
    "fsq_decode",
    "fsq_encode",
]

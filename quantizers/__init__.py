"""Quantizers: pure functions and small modules over tensors. Knows nothing of audio or files."""

from .finite_scalar import fsq_decode, fsq_encode
from .nearest import NearestCode, nearest
from .residual_chain import ResidualChain

__all__ = ["NearestCode", "ResidualChain", "fsq_decode", "fsq_encode", "nearest"]

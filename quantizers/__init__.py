"""Quantizers: pure functions and small modules over tensors. Knows nothing of audio or files."""

"""Compiled kernels and their basis: vector intrinsics, threads, layers, Fourier transforms."""

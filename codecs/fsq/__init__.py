"""Finite scalar quantization of a spectral encoder's latents: one codebook, none learned."""

"""Finite scalar quantization of an encoder's latents: one codebook, none learned."""

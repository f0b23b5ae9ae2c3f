"""Residual vector quantization of an encoder's latents."""

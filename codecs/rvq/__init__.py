"""Residual vector quantization of a spectral encoder's latents."""

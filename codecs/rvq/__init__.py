"""The RVQ codec: residual vector quantization of an encoder's latents."""

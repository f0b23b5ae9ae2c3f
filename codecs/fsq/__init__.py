"""The FSQ codec: finite scalar quantization of an encoder's latents."""

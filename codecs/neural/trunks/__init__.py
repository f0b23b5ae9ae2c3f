"""Encoders and decoders in PyTorch, made of `layers`: what a codec's configuration names."""

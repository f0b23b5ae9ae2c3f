"""Trunks: pairs of an encoder and a decoder in PyTorch, chosen by a codec's configuration."""

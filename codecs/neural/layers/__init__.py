"""Causal layers in PyTorch, for training; each takes its past frames as an argument."""

"""Layers in PyTorch, for training and for the weights: a past as an argument, no look ahead."""

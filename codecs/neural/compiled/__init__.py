"""Layers and trunks compiled for the CPU, where every sum has a fixed order."""

"""Measures of unit sequences: phones, discriminability, robustness, rates."""

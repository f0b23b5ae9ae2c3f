"""Measures of unit sequences: phone purity, ABX discriminability, robustness, rates."""

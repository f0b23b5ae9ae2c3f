"""Measurements of a system as a whole; see `interface`."""

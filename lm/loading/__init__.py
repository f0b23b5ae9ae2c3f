"""Batches of data sets: packing, shuffling, mixing, and a state that is one number."""

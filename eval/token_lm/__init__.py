"""A small language model of frames of tokens, for measuring how well they can be modelled."""

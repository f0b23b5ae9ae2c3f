"""A small language model of frames of tokens, to ask how well they can be modelled."""

"""Encoders and decoders as streams over the rows of a batch."""

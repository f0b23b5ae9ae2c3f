"""Run neural encoders and decoders as streams over the rows of a batch."""

"""Speech encoders: features of frames, by signal processing or by self-supervised models."""

"""Speech encoders: features per frame, from signal processing or self-supervised models."""

"""Training of the content encoder: masked prediction of units of earlier features."""

"""The trained unit vocoder: synthesizes speech from units, in a voice taken from a recording."""

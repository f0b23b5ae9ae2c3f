"""Training of spectral codecs and of dMel's vocoder: recipes, tasks, and shared parts."""

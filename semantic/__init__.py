"""Self-supervised encoders, their k-means units, and the way from units back to speech."""

"""Audio files, resampling, mel features and manifests. Knows nothing of tokens."""

#: Hz that are resampled from and to. Beyond them, a second of samples could become hours.
LEAST_RATE, MOST_RATE = 1_000, 384_000

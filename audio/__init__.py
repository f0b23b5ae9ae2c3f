"""Audio files, resampling, mel features and manifests. Knows nothing of tokens."""

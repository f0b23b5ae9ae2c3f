"""TS3: a streaming transformer codec with one codebook."""

"""The TS3 codec: a streaming transformer codec with one codebook."""

"""What the trained codecs share: causal layers, analysis, a source-filter head, fixed tiles."""

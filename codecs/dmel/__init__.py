"""dMel: log-mel channels, each quantized to a few levels (arXiv 2407.15835)."""

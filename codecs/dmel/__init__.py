"""dMel: log-mel channels, each cut into a few levels (arXiv 2407.15835)."""

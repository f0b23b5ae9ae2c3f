"""Training: data, losses, the loop and the recipes. Knows nothing of the command line."""

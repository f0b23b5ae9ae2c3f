"""A server for streams of speech and codes, its protocol and its client."""

"""Data sets of tokens in the formats of other libraries."""

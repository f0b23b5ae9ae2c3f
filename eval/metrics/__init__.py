"""Scores of a reconstruction, a file a method; `catalogue` has their names, `scoring` runs them."""

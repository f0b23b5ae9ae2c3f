"""Scores of a reconstruction, one method per file; `catalogue` lists them, `scoring`
computes them.
"""

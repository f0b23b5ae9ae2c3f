"""Scores and pictures of reconstructions."""

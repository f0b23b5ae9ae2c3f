"""Adapters for published models."""

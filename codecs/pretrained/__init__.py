"""Adapters to published models."""

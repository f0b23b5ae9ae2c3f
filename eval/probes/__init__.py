"""Downstream probes: tasks learned by small heads from frozen tokens."""

"""Downstream probes: what small heads can read from frozen tokens."""

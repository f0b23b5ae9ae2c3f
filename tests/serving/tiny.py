"""Tokenizers that a worker of the tests makes by their place."""

from syllabary.tests.tiny_codecs import dmel, rvq, ts3

__all__ = ["dmel", "rvq", "ts3"]

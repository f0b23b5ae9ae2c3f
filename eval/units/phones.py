"""The former place of `words_of`, for scripts that import it from here; use `eval.transcripts`."""

from ..transcripts import words_of

__all__ = ["words_of"]

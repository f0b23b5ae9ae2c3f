"""The former place of `words_of`, for scripts that import it from here; use `audio.transcripts`."""

from ...audio.transcripts import words_of

__all__ = ["words_of"]

"""Text as ids of any Hugging Face tokenizer, each id belonging to exactly one aligned word."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ....errors import DatasetError
from ....filesystem import content_digest, printable
from ..items import AlignedWord

if TYPE_CHECKING:
    from tokenizers import Encoding


class TextTokenizer:
    """A `tokenizer.json`, or a folder with one.

    Attributes:
        description: name and SHA-256, which the data set notes.

    Raises:
        DatasetError: there is none, or no `tokenizers` package.
    """

    def __init__(self, path: str | Path) -> None:
        try:
            from tokenizers import Tokenizer
        except ImportError:
            raise DatasetError("text is tokenized by: pip install 'syllabary[lm]'") from None
        file = Path(path)
        if file.is_dir():
            file = file / "tokenizer.json"
        if not file.is_file():
            raise DatasetError(f"{printable(file)}: no such tokenizer.json")
        try:
            self._tokenizer = Tokenizer.from_file(str(file))
        except Exception as error:  # the library raises bare exceptions
            raise DatasetError(f"{printable(file)}: no tokenizer: {error}") from None
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self.description: dict[str, Any] = {"name": file.name, "sha256": content_digest(file)}

    def ids(self, text: str) -> tuple[int, ...]:
        """Ids of a text, without special tokens."""
        return tuple(self._encode(text).ids)

    def words(self, text: str | None, words: Sequence[AlignedWord]) -> tuple[AlignedWord, ...]:
        """The words with their ids.

        Where the words occur in the text, in order, its ids are divided among them: punctuation
        belongs to the word before it. Otherwise each word is tokenized by itself, with a space
        before all but the first.
        """
        places = None if text is None else _places(text, words)
        if text is None or places is None:
            return tuple(
                word._replace(ids=self.ids(word.word if number == 0 else f" {word.word}"))
                for number, word in enumerate(words)
            )
        encoded = self._encode(text)
        owned: list[list[int]] = [[] for _ in words]
        owner = 0
        for token, (start, end) in zip(encoded.ids, encoded.offsets, strict=True):
            # Tokens may begin with the space before their word.
            letters = text[start:end]
            first = start + len(letters) - len(letters.lstrip())
            while owner + 1 < len(words) and first >= places[owner + 1] and first < end:
                owner += 1
            owned[owner].append(token)
        return tuple(word._replace(ids=tuple(ids)) for word, ids in zip(words, owned, strict=True))

    def _encode(self, text: str) -> "Encoding":
        return self._tokenizer.encode(text, add_special_tokens=False)


def _places(text: str, words: Sequence[AlignedWord]) -> list[int] | None:
    """Where each word begins in the text; None if one does not occur, or the text is another."""
    if not words:
        return None
    lower, at, places = text.lower(), 0, []
    if len(lower) != len(text):
        lower = text
    for word in words:
        found = lower.find(word.word.lower(), at)
        if found < 0 or any(character.isalnum() for character in lower[at:found]):
            return None
        places.append(found)
        at = found + len(word.word)
    if any(character.isalnum() for character in lower[at:]):
        return None
    return places

"""`Settings`: what a data set is built with, checked before anything is written."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...audio.files import Channels
from ...audio.resampling import resampler_name
from ...codecs.spec import TokenSpec
from ...errors import DatasetError
from ...filesystem import content_digest, printable
from .encoding import Recipe
from .filters import Filters
from .splits import Splits
from .stored import CODES_A_SHARD
from .words.align import open_aligner
from .words.files import packed, read_ctm


@dataclass(frozen=True)
class Settings:
    """What decides the contents of a data set.

    Attributes:
        codec: tokenizer: a bundled name, a folder, or a published model's id.
        num_codebooks: keep the first so many; None: all.
        bpe: a byte-pair encoding of the tokens: a bundled name or a folder.
        channels: how to treat files with several.
        filters: what to leave out.
        split: only this split of the inputs.
        splits: new splits, by speaker, in place of the inputs'.
        words: a CTM file, or a folder with a TextGrid, JSON or CTM file for each utterance.
        aligner: ``pocketsphinx`` or ``whisper:MODEL``, for utterances without given words.
        text_tokenizer: `tokenizer.json` of a Hugging Face tokenizer, or its folder.
        codes_a_shard: a shard ends with the item that exceeds this many codes.
    """

    codec: str = "rvq-16k"
    num_codebooks: int | None = None
    bpe: str | None = None
    channels: Channels = "mix"
    filters: Filters = field(default_factory=Filters)
    split: str | None = None
    splits: Splits | None = None
    words: str | None = None
    aligner: str | None = None
    text_tokenizer: str | None = None
    codes_a_shard: int = CODES_A_SHARD

    def recipe(self, device: str = "cpu", batch_size: int = 1) -> Recipe:
        """What workers need to know; loads the tokenizer once, to know its tokens.

        Raises:
            SyllabaryError: there is no such tokenizer, encoding, aligner, or text tokenizer, or
                they don't fit together.
        """
        from ...codecs.batches import check_codebooks
        from ...codecs.registry import load

        if self.codes_a_shard < 1:
            raise DatasetError(f"{self.codes_a_shard} codes a shard; expected at least 1")
        if self.words is not None and not Path(self.words).exists():
            raise DatasetError(f"{printable(self.words)}: no such file or folder of words")
        open_aligner(self.aligner, self.words)
        options: dict[str, Any] = {}
        if self.text_tokenizer is not None:
            from .words.text_ids import TextTokenizer

            options["text_tokenizer"] = TextTokenizer(self.text_tokenizer).description
        tokenizer = load(self.codec, device=device)
        spec: TokenSpec = tokenizer.spec.tokens
        check_codebooks(self.num_codebooks, tokenizer.spec)
        if self.bpe is not None:
            from ...semantic.token_bpe import PieceCoder, load_bpe

            coder = PieceCoder(load_bpe(self.bpe), spec)
            if self.num_codebooks not in (None, coder.num_codebooks):
                raise DatasetError(
                    f"{self.bpe} is for {coder.num_codebooks} codebooks, not the first "
                    f"{self.num_codebooks}"
                )
            options["bpe"] = {"name": coder.bpe.name, "digest": coder.bpe.digest}
            spec = coder.spec
        return Recipe(
            codec=self.codec,
            spec=spec,
            options=options,
            device=device,
            num_codebooks=None if self.bpe is not None else self.num_codebooks,
            bpe=self.bpe,
            channels=self.channels,
            filters=self.filters,
            aligner=self.aligner,
            words=self.words,
            text_tokenizer=self.text_tokenizer,
            batch_size=batch_size,
        )

    def to_json(self, recipe: Recipe) -> dict[str, Any]:
        """What decides the contents, as JSON values: names of files are replaced by digests."""
        fields: dict[str, Any] = {
            "tokenizer": {"name": recipe.spec.tokenizer, "digest": recipe.spec.digest},
            "num_codebooks": recipe.header.num_codebooks,
            "options": recipe.options,
            "channels": self.channels,
            "resampler": resampler_name(),
            "filters": self.filters.to_json(),
            "split": self.split,
            "splits": None if self.splits is None else dict(self.splits.shares),
            "aligner": self.aligner,
            "words": None,
            "codes_a_shard": self.codes_a_shard,
        }
        if self.words is not None:
            path = Path(self.words)
            fields["words"] = "folder" if path.is_dir() else content_digest(path)
        return fields

    def given(self) -> dict[str, Any]:
        """The settings as they were given, for `from_given`; names of files, not their contents."""
        fields = dict(vars(self))
        fields["filters"] = self.filters.to_json()
        fields["splits"] = None if self.splits is None else dict(self.splits.shares)
        return fields

    @classmethod
    def from_given(cls, fields: dict[str, Any], where: str) -> "Settings":
        """The settings that a data set was built with.

        Raises:
            DatasetError: damaged; `where` is in the message.
        """
        try:
            splits = fields["splits"]
            filters = Filters.from_json(fields["filters"])
            shares = None if splits is None else Splits(tuple(splits.items()))
            return cls(**{**fields, "filters": filters, "splits": shares})
        except (KeyError, TypeError, AttributeError) as error:
            raise DatasetError(f"{where}: its settings are damaged: {error}") from None

    def listed_words(self) -> dict[str, str] | None:
        """Alignments of all utterances from one file, as the plan stores them."""
        if self.words is None or Path(self.words).is_dir():
            return None
        return {item: packed(words) for item, words in read_ctm(Path(self.words)).items()}


def changed_settings(old: dict[str, Any], new: dict[str, Any]) -> Sequence[str]:
    """Names of what differs, with both values."""
    return [
        f"{name} {old.get(name)!r} → {new.get(name)!r}"
        for name in sorted({*old, *new})
        if old.get(name) != new.get(name)
    ]

"""`reader`: from folders of data sets to batches."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ...errors import DatasetError, TokenMismatchError, VocabularyError
from ..patterns.flatten import Flatten
from ..patterns.pattern import Pattern
from ..vocabulary import PAD, Vocabulary
from .documents import Documents
from .filling import documents_layout, layout_of
from .mixture import Mixture
from .packing import Plan, best_fit, by_length, concatenated
from .samples import Samples, Source
from .shuffle import Shuffle, mixed
from .store import FlatStore, documents_of, store_of

if TYPE_CHECKING:
    from ..dataset.stored import StoredDataset
    from .reader import Reader

Packing = Literal["best-fit", "concatenate", "by-length"]
PACKINGS = ("best-fit", "concatenate", "by-length")


def reader(
    data: "str | Path | StoredDataset | Mapping[Any, float]",
    pattern: Pattern | None = None,
    vocabulary: Vocabulary | None = None,
    *,
    context: int = 2048,
    packing: Packing = "best-fit",
    batch: int | None = None,
    tokens: int | None = None,
    multiple: int = 8,
    begin: str | int | None = None,
    end: str | int | None = None,
    scheme: Any = None,
    text: Any = None,
    split: str | None = None,
    seed: int = 0,
    shuffle: bool = True,
    position: int = 0,
    epochs: int | None = None,
    drop_last: bool = False,
    rank: int | None = None,
    ranks: int | None = None,
    cache: str | Path | None = None,
) -> "Reader":
    """Batches for training a language model: a torch `IterableDataset`.

    Its elements are batches (`batch_size=None` for a DataLoader). The sequence of samples is a
    function of the seed, the settings and the data; the whole state is the position in it, which
    each batch has as `next`.

    Args:
        data: folder of a data set, or several with their weights: the share of the samples that
            each gives. A `StoredDataset` too.
        pattern: how codebooks become streams of ids; default: `Flatten` of the vocabulary's.
        vocabulary: whose ids are given; default: codes as they are, the special id after them.
        context: steps of a row.
        packing: "best-fit": rows of whole documents, as full as possible; "concatenate":
            documents one after the other, cut every `context` steps; "by-length": a document a
            row, rows of similar length in a batch, padded to the longest.
        batch: rows of a batch; default: as many as `tokens` allows, or 8.
        tokens: steps of a batch, padding included; with "by-length", batches of short documents
            have more rows.
        multiple: rows of "by-length" are padded to a multiple of this, at most to the context.
        begin, end: markers of the vocabulary, or ids, before and after each document.
        scheme: text and speech in one sequence: an `lm` scheme such as `TextThenSpeech`, with the
            ids of this vocabulary. Documents are made once and kept beside the shards.
        text: tokenizer of the text for a scheme, a `tokenizers.Tokenizer` or the path of its file;
            default: the ids that the data set has.
        split: only this one.
        seed, shuffle: of the order. Without shuffling, documents keep the order of the data set
            within the limits of the packing.
        position: `Batch.next`, to go on.
        epochs: end after so many; default: never. Of one data set only. The last step has what is
            left, so some ranks may have a batch less than others, which DistributedDataParallel
            waits for: see `drop_last`.
        drop_last: end before a step that is not full for every rank.
        rank, ranks: default: those of torch.distributed, or of torchrun.
        cache: folder for the flat copy of the codes; default: ``.flat`` in the data set's.

    Raises:
        DatasetError: no data set, a damaged one, one without any text for the scheme, or settings
            that don't agree.
        TokenMismatchError: the data set's tokenizer is not the vocabulary's.
        VocabularyError: codes or codebooks that the vocabulary or the pattern does not have.
        InterleavingError: a scheme can't join an item; the message names it.

    Warns:
        SyllabaryWarning: some items lack the text that the scheme needs; they are left out.
    """
    from .reader import Reader

    _check(packing, context, batch, tokens, epochs, multiple)
    given = data if isinstance(data, Mapping) else {data: 1.0}
    opened = [_opened(one, split) for one in given]
    if not opened:
        raise DatasetError("no data set given")
    if epochs is not None and len(opened) > 1:
        raise DatasetError("epochs are of one data set; a mixture ends when you stop reading it")
    rows, budget = batch, tokens
    if packing != "by-length":
        rows = batch or (tokens // context if tokens else 8)
        if tokens and batch:
            raise DatasetError("give batch (rows) or tokens, not both")
        if not rows:
            raise DatasetError(f"{tokens} tokens are less than one row of {context} steps")
    elif rows is None and budget is None:
        rows = 8
    planning = _Planning(packing, context, rows, budget, multiple, seed, shuffle)
    folder = None if cache is None else Path(cache)
    sources = []
    for number, dataset in enumerate(opened):
        check_fits(dataset, vocabulary)
        laid = bound(dataset, pattern, vocabulary)
        if scheme is None:
            store = store_of(dataset, folder)
            check_codes(dataset, store, laid)
            heads = vocabulary.global_base if vocabulary else ()
            layout = layout_of(laid, _id(begin, vocabulary), _id(end, vocabulary), heads)
        else:
            if begin is not None or end is not None:
                raise DatasetError("markers of a sequence of text and speech are the scheme's")
            documents = Documents(dataset, laid, vocabulary, scheme, text)
            store = documents_of(dataset, documents.description, documents.make, folder)
            layout = documents_layout(laid)
        source = Source(store, layout, planning.of(number))
        if not int(source.lengths().sum()):
            raise DatasetError(
                f"{dataset.folder}: no item has any frames: there is nothing to read"
            )
        sources.append(source)
    weights = tuple(float(weight) for weight in given.values())
    width = None if packing == "by-length" else context
    samples = Samples(sources, Mixture(weights, seed), width, multiple, shuffle, context)
    stop = None if epochs is None else epochs * len(sources[0].plan)
    each = 1 if packing == "by-length" else int(rows or 1)
    return Reader(samples, each, position, stop, rank, ranks, drop_last)


@dataclass(frozen=True)
class _Planning:
    """What determines the plan of each source."""

    packing: Packing
    context: int
    rows: int | None
    budget: int | None
    multiple: int
    seed: int
    shuffle: bool
    source: int = 0

    def of(self, source: int) -> Callable[[Source], Plan]:
        return replace(self, source=source)

    def __call__(self, source: Source) -> Plan:
        lengths = np.ascontiguousarray(source.lengths(), np.int64)
        order = np.arange(len(lengths))
        if self.shuffle:
            order = Shuffle(len(lengths), mixed(self.seed, self.source, 5)).all()
        if self.packing == "best-fit":
            return best_fit(order, lengths, self.context)
        if self.packing == "concatenate":
            return concatenated(order, lengths, self.context)
        return by_length(order, lengths, self.context, self.rows, self.budget, self.multiple)


def check_fits(dataset: "StoredDataset", vocabulary: Vocabulary | None) -> None:
    """Raise unless a data set has the tokens of a vocabulary, and at least its codebooks."""
    where = dataset.folder
    if vocabulary is None:
        return
    try:
        vocabulary.check_spec(dataset.spec)
    except TokenMismatchError as error:
        raise TokenMismatchError(f"{where}: {error}") from None
    if dataset.num_codebooks < vocabulary.codebooks:
        raise VocabularyError(
            f"{where}: has {dataset.num_codebooks} codebooks, the vocabulary {vocabulary.codebooks}"
            f": build it with --codebooks {vocabulary.codebooks}, or take "
            f"Vocabulary(…, codebooks={dataset.num_codebooks})"
        )


def bound(
    dataset: "StoredDataset", pattern: Pattern | None, vocabulary: Vocabulary | None
) -> Pattern:
    """The pattern with the ids of the vocabulary; without one, codes as they are.

    Raises:
        VocabularyError: for other codebooks than these.
    """
    if vocabulary is not None:
        pattern = pattern or Flatten(vocabulary.sizes[: vocabulary.codebooks])
        if pattern.base == vocabulary.base and pattern.special:
            return pattern  # bound before, perhaps with another filling
        # Where no marker fills, the id that no text has does.
        filling = None if PAD in (vocabulary.markers or ()) else vocabulary.stop - 1
        laid = vocabulary.bind(pattern, filling)
        if laid.num_codebooks > dataset.num_codebooks:
            raise VocabularyError(
                f"{laid} is for {laid.num_codebooks} codebooks; {dataset.folder} has "
                f"{dataset.num_codebooks}"
            )
        return laid
    sizes = dataset.spec.codebook_sizes[: dataset.num_codebooks]
    if dataset.spec.global_codebook_sizes:
        raise VocabularyError(
            f"{dataset.folder}: has global codes, which need ids of their own: give a vocabulary"
        )
    if pattern is None:
        return Flatten(sizes)
    if len(pattern.sizes) > len(sizes) or pattern.sizes != sizes[: len(pattern.sizes)]:
        raise VocabularyError(
            f"{pattern} is for codebooks of {list(pattern.sizes)} codes; {dataset.folder} has "
            f"codebooks of {list(sizes)}"
        )
    return pattern


def check_codes(dataset: "StoredDataset", store: FlatStore, pattern: Pattern) -> None:
    """Raise `VocabularyError` for codes that a codebook of the pattern does not have."""
    for codebook, (greatest, size) in enumerate(zip(store.greatest, pattern.sizes, strict=False)):
        if greatest >= size:
            raise VocabularyError(
                f"{dataset.folder}: code {greatest} of codebook {codebook}, which has {size}: "
                "the shards are damaged, or of another tokenizer than they say"
            )


def _opened(data: "str | Path | StoredDataset", split: str | None) -> "StoredDataset":
    from ..dataset.stored import open_dataset  # loads torch

    if isinstance(data, str | Path):
        return open_dataset(data, split)
    return data if split is None else open_dataset(data.folder, split)


def _id(marker: str | int | None, vocabulary: Vocabulary | None) -> int | None:
    if isinstance(marker, str):
        if vocabulary is None:
            raise VocabularyError(f"marker {marker!r} needs a vocabulary; without one, give an id")
        return vocabulary.marker(marker)
    return marker


def _check(
    packing: str,
    context: int,
    batch: int | None,
    tokens: int | None,
    epochs: int | None,
    multiple: int,
) -> None:
    if packing not in PACKINGS:
        raise DatasetError(f"packing {packing!r}; expected one of {', '.join(PACKINGS)}")
    for name, value in (
        ("context", context), ("batch", batch), ("tokens", tokens), ("epochs", epochs),
        ("multiple", multiple),
    ):  # fmt: skip
        if value is not None and value < 1:
            raise DatasetError(f"{name} must be 1 or more, got {value}")
    if context >= 1 << 31:
        raise DatasetError(f"context must be below 2**31, got {context}")

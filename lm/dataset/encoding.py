"""`PieceEncoder`: planned utterances to encoded items. What a worker does, on any machine.

A piece of work is a pure function of its utterances and the recipe: a worker writes nothing, and
what it returns does not depend on what it did before, on batches, or on other workers.
"""

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ...audio.files import AudioReader, Channels
from ...codecs.spec import TokenSpec
from ...errors import SyllabaryError, TokenMismatchError, WaveError
from ...filesystem import printable
from .filters import Filters
from .format import Header, RowFormat
from .items import AlignedWord, Item
from .measures import Measures, Meter
from .opening import SourceOpener, shown
from .plan import Planned
from .words.align import Aligner, open_aligner

if TYPE_CHECKING:
    import pyarrow as pa

    from ...codecs.tokens import Tokens

#: Longer utterances are encoded block by block as they are read, and not in batches.
LONGEST_HELD = 1800.0
#: Columns of a piece beside those of a data set.
DIGEST_COLUMN, SIGNATURE_COLUMN, MEASURES_COLUMN = "item_digest", "signature", "measures"


@dataclass(frozen=True)
class Recipe:
    """All that a worker needs to know.

    Attributes:
        codec: name or folder of the tokenizer.
        spec: of the tokens that it must give, BPE included.
        options: of the data set, for its schema.
        device: that it runs on.
        num_codebooks: kept; None: all.
        bpe: name or folder of a byte-pair encoding.
        channels: how to treat several.
        filters: what to leave out.
        aligner: how words get times; see `open_aligner`.
        words: folder with a file of words for each utterance.
        text_tokenizer: file or folder.
        batch_size: utterances that are encoded in one call.
    """

    codec: str
    spec: TokenSpec
    options: dict[str, Any] = field(default_factory=dict)
    device: str = "cpu"
    num_codebooks: int | None = None
    bpe: str | None = None
    channels: Channels = "mix"
    filters: Filters = field(default_factory=Filters)
    aligner: str | None = None
    words: str | None = None
    text_tokenizer: str | None = None
    batch_size: int = 1

    @property
    def header(self) -> Header:
        """Of the data set."""
        kept = 1 if self.bpe is not None else self.num_codebooks or self.spec.num_codebooks
        return Header(self.spec, kept, self.options)


@dataclass(frozen=True)
class Piece:
    """An encoded piece of work.

    Attributes:
        data: a Parquet file of its items, with their digests and what is measured of them.
        record: what the ledger notes of it: counts, failures, drops.
    """

    data: bytes
    record: dict[str, Any]


@dataclass
class _ReadUtterance:
    """An utterance between reading and encoding."""

    planned: Planned
    wave: np.ndarray | None
    tokens: "Tokens | None"
    sha256: str
    segment: tuple[int, int | None] | None
    measures: Measures


@dataclass(frozen=True)
class Dropped:
    """Why an item was left out."""

    reason: str
    value: float | None = None


class PieceEncoder:
    """Encodes pieces of work.

    Raises:
        TokenMismatchError: the tokenizer here is not the one that the data set is made with.
    """

    def __init__(self, recipe: Recipe) -> None:
        from ...codecs.registry import load

        self.recipe = recipe
        self.tokenizer = load(recipe.codec, device=recipe.device)
        self.coder = None
        whole = self.tokenizer.spec  # it looks whether the weights have changed: once is enough
        self._rate, spec = whole.sample_rate, whole.tokens
        if recipe.bpe is not None:
            from ...semantic.token_bpe import PieceCoder, load_bpe

            self.coder = PieceCoder(load_bpe(recipe.bpe), spec)
            spec = self.coder.spec
        if replace(spec, tokenizer="") != replace(recipe.spec, tokenizer=""):
            raise TokenMismatchError(
                f"{recipe.codec} here is {spec.digest[:12]}, but the data set is made with "
                f"{recipe.spec.digest[:12]}: all machines need the same weights"
            )
        self._kept = self.coder.num_codebooks if self.coder else recipe.num_codebooks
        self._opener = SourceOpener(recipe.channels)
        self._aligner: Aligner = open_aligner(recipe.aligner, recipe.words)
        self._text = None
        if recipe.text_tokenizer is not None:
            from .words.text_ids import TextTokenizer

            self._text = TextTokenizer(recipe.text_tokenizer)
        self._format = RowFormat(recipe.header)

    def encode(self, rows: Sequence[Planned]) -> Piece:
        """Encode the utterances of a piece; those that fail, or are filtered out, are noted.

        Raises:
            MemoryError: there is not enough.
        """
        outcomes: dict[int, Item | Dropped | str] = {}
        unaligned: list[list[str]] = []
        measures: dict[int, Measures] = {}
        waiting: dict[int, _ReadUtterance] = {}
        longest = self.recipe.batch_size
        for number, planned in enumerate(rows):
            utterance = self._attempt(self._read, planned)
            if isinstance(utterance, Dropped | str):
                outcomes[number] = utterance
                continue
            waiting[number] = utterance
            measures[number] = utterance.measures
            if len(waiting) >= longest:
                outcomes |= self._flush(waiting, unaligned)
        outcomes |= self._flush(waiting, unaligned)
        self._opener.close()
        return self._pack(rows, outcomes, measures, unaligned)

    def _attempt(self, work: Any, *arguments: Any) -> Any:
        """Run; a failure becomes its reason."""
        try:
            return work(*arguments)
        except SyllabaryError as error:
            return printable(str(error))
        except OSError as error:
            return printable(f"{error.filename or ''}: {error.strerror or error}")
        except MemoryError:
            raise
        except Exception as error:
            return printable(f"{type(error).__name__}: {error}")

    def _read(self, planned: Planned) -> _ReadUtterance | Dropped:
        source, filters = planned.source, self.recipe.filters
        if (reason := filters.reason_before(source.text, source.language)) is not None:
            return Dropped(reason)
        rate = self._rate
        meter = Meter(rate, filters.needs_speech)
        with self._opener.open(planned) as (reader, sha256):
            held: list[np.ndarray] = []
            tokens = None
            count = 0
            blocks = reader.stream_blocks(rate)
            for block, last in blocks:
                meter.push(block, last)
                held.append(block)
                count += block.size
                if count > LONGEST_HELD * rate and not last:
                    tokens = self._stream(held, blocks, meter, reader)
                    break
            segment = reader.segment
        measures = meter.result()
        if (found := filters.reason(measures, source.text)) is not None:
            return Dropped(*found)
        wave = None
        if tokens is None:
            wave = held[0] if len(held) == 1 else np.concatenate(held)
            if not np.isfinite(wave).all():
                raise WaveError(f"{shown(source)}: the samples hold NaN or infinity")
        return _ReadUtterance(planned, wave, tokens, sha256, segment, measures)

    def _stream(
        self,
        held: list[np.ndarray],
        blocks: Iterator[tuple[np.ndarray, bool]],
        meter: Meter,
        reader: AudioReader,
    ) -> "Tokens":
        """Encode a long utterance in constant memory."""
        from ...codecs.tokens import Tokens

        with self.tokenizer.stream(num_codebooks=self._kept) as session:
            parts = [session.encode(block) for block in held]
            held.clear()
            for block, last in blocks:
                meter.push(block, last)
                parts.append(session.encode(block, final=last))
        return Tokens.concat(parts)

    def _flush(
        self, waiting: dict[int, _ReadUtterance], unaligned: list[list[str]]
    ) -> dict[int, Item | str]:
        """Encode what waits, in one call if possible."""
        waves = {number: read.wave for number, read in waiting.items() if read.wave is not None}
        tokens: dict[int, Any] = {
            number: read.tokens for number, read in waiting.items() if read.tokens is not None
        }
        made = self._attempt(self._encode, list(waves.values())) if waves else []
        if isinstance(made, str):  # one by one, so that a failure is of one utterance only
            made = [self._attempt(self._encode, [wave]) for wave in waves.values()]
            made = [row if isinstance(row, str) else row[0] for row in made]
        tokens |= dict(zip(waves, made, strict=True))
        found: dict[int, Item | str] = {}
        for number, read in waiting.items():
            row = tokens[number]
            found[number] = (
                row if isinstance(row, str) else self._attempt(self._item, read, row, unaligned)
            )
        waiting.clear()
        return found

    def _encode(self, waves: Sequence[np.ndarray]) -> list["Tokens"]:
        if len(waves) == 1:
            return [self.tokenizer.encode(waves[0], self._rate, num_codebooks=self._kept)]
        tokens = self.tokenizer.encode(list(waves), self._rate, num_codebooks=self._kept)
        return [_trimmed(tokens[row : row + 1]) for row in range(len(waves))]

    def _item(self, read: _ReadUtterance, tokens: "Tokens", unaligned: list[list[str]]) -> Item:
        source = read.planned.source
        if self.coder is not None:
            tokens = self.coder.encode(tokens)
        extra = json.loads(source.extra) if source.extra else {}
        text = source.text
        words: tuple[AlignedWord, ...] | None = None
        try:
            words, text = self._aligner.words(read.planned, extra, text, read.wave, self._rate)
        except SyllabaryError as error:
            unaligned.append([source.id, printable(str(error))])
        for name in ("words", "alignment", "alignments"):
            if words is not None:
                extra.pop(name, None)
        if words is not None and self._text is not None:
            words = self._text.words(text, words)
        start, count = read.segment if read.segment is not None else (None, None)
        dtype = self._format.header.dtype
        count_frames = int(tokens.lengths[0])

        def array(values: Any, kind: Any) -> np.ndarray | None:
            return None if values is None else values[0].cpu().numpy().astype(kind)

        codes = array(tokens.codes[..., :count_frames], dtype)
        durations = None if tokens.durations is None else tokens.durations[:, :count_frames]
        assert codes is not None
        return Item(
            id=source.id,
            codes=np.ascontiguousarray(codes),
            num_samples=int(tokens.num_samples[0]),
            text=text,
            speaker=source.speaker,
            language=source.language,
            split=source.split or "train",
            durations=array(durations, np.uint32),
            global_codes=array(tokens.global_codes, dtype),
            alignment=words,
            text_ids=self._text.ids(text) if self._text is not None and text is not None else None,
            source=source.name,
            source_sha256=read.sha256,
            source_start=start,
            source_samples=count,
            extra=extra or None,
        )

    def _pack(
        self,
        rows: Sequence[Planned],
        outcomes: dict[int, Item | Dropped | str],
        measures: dict[int, Measures],
        unaligned: list[list[str]],
    ) -> Piece:
        kept = [number for number in range(len(rows)) if isinstance(outcomes[number], Item)]
        items: list[Any] = [outcomes[number] for number in kept]
        record: dict[str, Any] = {"planned": len(rows), "items": len(items)}
        record["failures"] = [
            [rows[number].source.id, rows[number].source.name, reason]
            for number in range(len(rows))
            if isinstance(reason := outcomes[number], str)
        ]
        record["drops"] = [
            [rows[number].source.id, reason.reason, reason.value]
            for number in range(len(rows))
            if isinstance(reason := outcomes[number], Dropped)
        ]
        record["unaligned"] = unaligned
        record["seconds"] = sum(item.num_samples for item in items) / self.recipe.spec.sample_rate
        signed = self.recipe.filters.near_duplicates is not None
        measured = [measures[number] for number in kept]
        return Piece(pack_piece(self._format, items, measured, signed), record)


def pack_piece(
    row_format: RowFormat, items: Sequence[Item], measures: Sequence[Measures], signed: bool
) -> bytes:
    """Items as a Parquet file, with their digests, measures, and (`signed`) MinHash signatures."""
    import pyarrow as pa

    table = row_format.table(items)
    digests = [item.digest() for item in items]
    table = table.append_column(DIGEST_COLUMN, pa.array(digests, pa.binary()))
    if signed:
        from .duplicates import signature

        sizes = row_format.header.spec.codebook_sizes[: row_format.header.num_codebooks]
        signatures = [signature(item.codes, sizes).tobytes() for item in items]
        table = table.append_column(SIGNATURE_COLUMN, pa.array(signatures, pa.binary()))
    packed = [json.dumps(asdict(each)) for each in measures]
    table = table.append_column(MEASURES_COLUMN, pa.array(packed, pa.string()))
    return _parquet(table)


def _parquet(table: "pa.Table") -> bytes:
    import pyarrow.parquet as pq

    file = io.BytesIO()
    pq.write_table(table, file, compression="zstd", write_page_checksum=True)
    return file.getvalue()


def _trimmed(tokens: "Tokens") -> "Tokens":
    frames = int(tokens.lengths[0])
    durations = None if tokens.durations is None else tokens.durations[:, :frames]
    return replace(tokens, codes=tokens.codes[..., :frames], durations=durations)


def items_of(row_format: RowFormat, piece: Piece) -> list[Item]:
    """The items of a piece."""
    import pyarrow.parquet as pq

    table = pq.read_table(io.BytesIO(piece.data), use_threads=False)
    return row_format.items(table.select(row_format.schema.names))


def failed_piece(recipe: Recipe, planned: Planned, reason: str) -> Piece:
    """A piece of one utterance that could not be encoded."""
    source = planned.source
    record = {"planned": 1, "items": 0, "failures": [[source.id, source.name, reason]]}
    record |= {"drops": [], "unaligned": [], "seconds": 0.0}
    signed = recipe.filters.near_duplicates is not None
    return Piece(pack_piece(RowFormat(recipe.header), [], [], signed), record)


def join_pieces(recipe: Recipe, pieces: Sequence[Piece]) -> Piece:
    """One piece of several, as if it had been encoded at once."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    tables = [pq.read_table(io.BytesIO(piece.data), use_threads=False) for piece in pieces]
    record: dict[str, Any] = {}
    for piece in pieces:
        for name, value in piece.record.items():
            record[name] = value if name not in record else record[name] + value
    return Piece(_parquet(pa.concat_tables(tables).combine_chunks()), record)

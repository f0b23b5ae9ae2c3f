"""Train vocabularies, with sentencepiece (Kudo and Richardson, 2018)."""

import heapq
import io
from collections.abc import Iterable, Iterator

import numpy as np

from ..errors import BPEError, TokenError
from .alphabet import MAX_UNITS, text_of, units_in
from .sentencepiece_file import raw_pieces
from .vocabulary import (
    LOWEST_SCORE,
    MAX_PIECE_LENGTH,
    MAX_VOCAB_SIZE,
    SCORE_SCALE,
    Kind,
    Vocabulary,
    check_specials,
)

#: sentencepiece stores positions in a sentence in 16 bits. Longer sequences are split for training,
#: which loses the one pair at each split; `encode` does not split.
_SENTENCE = 16_384
#: A constant, since the last bits of sums depend on the number of threads.
_THREADS = 16


def train_vocabulary(
    sequences: Iterable[np.ndarray],
    num_units: int,
    vocab_size: int,
    kind: Kind = "bpe",
    specials: tuple[str, ...] = (),
    max_piece_length: int = 16,
    sample_units: int | None = None,
    seed: int = 0,
) -> Vocabulary:
    """Train a vocabulary; see `UnitBPE.train`."""
    check_specials(specials)
    least = num_units + len(specials)
    if not 1 <= num_units <= MAX_UNITS:
        raise BPEError(f"{num_units} units; expected 1 to {MAX_UNITS}")
    if not least < vocab_size <= MAX_VOCAB_SIZE:
        raise BPEError(
            f"a vocabulary of {vocab_size}; expected more than the {num_units} units"
            f"{f' and {len(specials)} specials' if specials else ''}, and at most {MAX_VOCAB_SIZE}"
        )
    if kind not in ("bpe", "unigram"):
        raise BPEError(f"expected a model of kind bpe or unigram, got {kind!r}")
    if not 2 <= max_piece_length <= MAX_PIECE_LENGTH:
        raise BPEError(f"pieces of {max_piece_length} units; expected 2 to {MAX_PIECE_LENGTH}")
    if sample_units is not None and sample_units < 1:
        raise BPEError(f"sample_units is {sample_units}; expected at least 1")
    longest = min(_SENTENCE, sample_units or _SENTENCE)
    texts = _texts(sequences, num_units, longest)
    sentences = texts if sample_units is None else _sampled(texts, sample_units, seed)
    model = _train(sentences, num_units, vocab_size - len(specials) + 1, kind, max_piece_length)
    found, scores = _longer(model, num_units)
    if num_units + len(found) < vocab_size - len(specials):
        raise BPEError(
            f"these sequences give {least + len(found)} pieces, not {vocab_size}: ask for a "
            "smaller vocabulary, or train on more"
        )
    if kind == "bpe":
        return Vocabulary.of_pieces(kind, num_units, found, None, specials)
    scaled = np.rint(np.maximum(scores, LOWEST_SCORE) * SCORE_SCALE).astype(np.int64)
    return Vocabulary.of_pieces(kind, num_units, found, np.minimum(scaled, 0), specials)


def _texts(sequences: Iterable[np.ndarray], num_units: int, longest: int) -> Iterator[str]:
    for number, sequence in enumerate(sequences):
        try:
            units = check_units(sequence, num_units)
        except TokenError as error:
            raise TokenError(f"sequence {number}: {error}") from None
        for start in range(0, len(units), longest):
            yield text_of(units[start : start + longest])


def check_units(units: np.ndarray, num_units: int) -> np.ndarray:
    """Check units and return them as (n,) int32.

    Raises:
        TokenError: another shape or dtype, or a unit out of range.
    """
    units = np.asarray(units)
    if units.ndim != 1:
        raise TokenError(f"units must have shape (n,), got {units.shape}")
    if not units.size:
        return np.zeros(0, np.int32)
    if units.dtype.kind not in "iu":
        raise TokenError(f"units must be integers, got {units.dtype}")
    low, high = units.min(), units.max()
    if low < 0 or high >= num_units:
        raise TokenError(
            f"unit {low if low < 0 else high} is out of range: there are {num_units} units"
        )
    return units.astype(np.int32, copy=False)


def _sampled(texts: Iterator[str], most: int, seed: int) -> Iterator[str]:
    """Draw a random sample of the texts, in their order, of at most `most` units.

    Each text gets a random number; those with the lowest numbers are kept, as many as fit. So every
    text has the same chance wherever it is, and memory is always bounded.
    """
    draws = np.random.default_rng(seed)
    kept: list[tuple[float, int, str]] = []  # a heap with the largest draw on top
    total, limit = 0, 1.0
    for number, text in enumerate(texts):
        draw = float(draws.random())
        if draw >= limit:
            continue
        heapq.heappush(kept, (-draw, number, text))
        total += len(text)
        while total > most:
            out, _, dropped = heapq.heappop(kept)
            total -= len(dropped)
            limit = min(limit, -out)
    yield from (text for _, text in sorted((number, text) for _, number, text in kept))


def _train(
    sentences: Iterator[str], num_units: int, size: int, kind: Kind, max_piece_length: int
) -> bytes:
    try:
        import sentencepiece
    except ImportError:
        raise BPEError(
            "training byte-pair encoding needs sentencepiece: pip install 'syllabary[lm]'"
        ) from None
    failure: list[BaseException] = []
    seen = 0

    def all_sentences() -> Iterator[str]:
        nonlocal seen
        # Each unit as a sentence of its own: it counts once, and adds no pair.
        yield from map(text_of, np.arange(num_units)[:, None])
        try:
            for sentence in sentences:
                seen += len(sentence)
                yield sentence
        except BaseException as error:  # sentencepiece would take it for the end of the input
            failure.append(error)

    out = io.BytesIO()
    problem: str | None = None
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=all_sentences(),
            model_writer=out,
            model_type=kind,
            vocab_size=size,
            hard_vocab_limit=False,
            normalization_rule_name="identity",
            add_dummy_prefix=False,
            remove_extra_whitespaces=False,
            split_by_whitespace=False,
            split_by_unicode_script=False,
            split_by_number=False,
            byte_fallback=False,
            character_coverage=1.0,
            max_sentencepiece_length=max_piece_length,
            max_sentence_length=4 * _SENTENCE + 1,
            input_sentence_size=0,
            shuffle_input_sentence=False,
            num_threads=_THREADS,
            unk_id=0,
            bos_id=-1,
            eos_id=-1,
            pad_id=-1,
            minloglevel=2,
        )
    except (RuntimeError, OSError, ValueError) as error:
        problem = str(error)
    if failure:
        raise failure[0]
    if not seen:
        raise BPEError("there are no units to train on")
    if problem is not None:
        raise BPEError(f"sentencepiece can't train on these sequences: {problem}")
    return out.getvalue()


def _longer(model: bytes, num_units: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Return the pieces of several units in order, and the scores of units and pieces."""
    _, pieces = raw_pieces(model, "sentencepiece's model")
    found = []
    scores = []
    alone = np.zeros(num_units)
    for text, score, kind in pieces:
        if kind != 1:
            continue
        units = units_in(text)
        if len(units) == 1:
            alone[units[0]] = score
        else:
            found.append(units)
            scores.append(score)
    return found, np.concatenate([alone, scores])

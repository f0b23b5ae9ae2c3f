"""Read and write Hugging Face's `tokenizer.json`, directly as JSON.

`tokenizers.Tokenizer.from_file(…)`, and `transformers.PreTrainedTokenizerFast(tokenizer_file=…)`,
encode `text_of(units)` to the same ids; `segmentation.py` explains why.
"""

import json
from typing import Any

import numpy as np

from ..errors import BPEError
from .alphabet import text_of, units_in
from .segmentation import merges
from .vocabulary import MAX_VOCAB_SIZE, SCORE_SCALE, Vocabulary

#: Like the limit for sentencepiece models; JSON takes about six times the bytes.
MAX_JSON_BYTES = 256 << 20


def write_tokenizer(vocabulary: Vocabulary) -> str:
    """Return the text of a `tokenizer.json` with the ids of the vocabulary."""
    texts = [text_of(piece) for piece in vocabulary.pieces()]
    model: dict[str, Any]
    if vocabulary.scores is None:
        model = {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {text: index for index, text in enumerate(texts)},
            "merges": [[texts[left], texts[right]] for left, right, _ in merges(vocabulary)],
        }
    else:
        scores = (vocabulary.scores / SCORE_SCALE).tolist()
        model = {
            "type": "Unigram",
            "unk_id": None,
            "vocab": [list(pair) for pair in zip(texts, scores, strict=True)],
            "byte_fallback": False,
        }
    added = [
        special_token(vocabulary.num_pieces + number, name)
        for number, name in enumerate(vocabulary.specials)
    ]
    parts = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {"type": "Fuse"},
        "model": model,
    }
    # Escaped, since editors show private code points as nothing, or as anything.
    return json.dumps(parts, ensure_ascii=True, separators=(",", ":"))


def read_tokenizer(data: bytes, name: str = "tokenizer.json") -> Vocabulary:
    """Read a vocabulary from the output of `write_tokenizer`.

    Raises:
        BPEError: the data is damaged, is not a tokenizer of units with ids in this package's order,
            or has steps or merges that would give other ids.
    """
    if len(data) > MAX_JSON_BYTES:
        raise BPEError(f"{name}: {len(data)} bytes; expected at most {MAX_JSON_BYTES}")
    try:
        parts = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BPEError(f"{name}: expected JSON: {error}") from None
    try:
        for step in ("normalizer", "pre_tokenizer", "post_processor"):
            if parts.get(step) is not None:
                raise BPEError(f"{name}: a {step} is set; units need none")
        model = parts["model"]
        specials = _specials(parts["added_tokens"])
        if model["type"] == "BPE":
            return _read_merges(model, specials, name)
        if model["type"] == "Unigram":
            return _read_unigram(model, specials, name)
        raise BPEError(f"{name}: expected a model of type BPE or Unigram, got {model['type']!r}")
    except BPEError:
        raise
    except (AttributeError, KeyError, IndexError, TypeError, ValueError, OverflowError) as error:
        raise BPEError(
            f"{name}: expected a Hugging Face tokenizer of units; {type(error).__name__}: {error}"
        ) from None


def special_token(index: int, content: str) -> dict[str, Any]:
    """Return the entry of a special token among a `tokenizer.json`'s added tokens."""
    return {
        "id": index,
        "content": content,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": True,
    }


def _specials(added: list[dict[str, Any]]) -> list[tuple[int, str]]:
    if not isinstance(added, list):
        raise TypeError("added_tokens must be a list")
    return [(token["id"], token["content"]) for token in added]


def _read_merges(model: dict[str, Any], specials: list[tuple[int, str]], name: str) -> Vocabulary:
    for setting in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(setting):
            raise BPEError(f"{name}: {setting} is set; units need none")
    vocab = model["vocab"]
    texts = sorted(vocab, key=vocab.__getitem__)
    if [vocab[text] for text in texts] != list(range(len(texts))):
        raise BPEError(f"{name}: expected the ids of the pieces to be 0 to {len(texts) - 1}")
    vocabulary = _vocabulary("bpe", texts, None, specials, name)
    pairs = [pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"]]
    expected = [[texts[left], texts[right]] for left, right, _ in merges(vocabulary)]
    if pairs != expected:
        raise BPEError(
            f"{name}: its {len(pairs)} merges are not the {len(expected)} that sentencepiece would "
            "make of these pieces"
        )
    return vocabulary


def _read_unigram(model: dict[str, Any], specials: list[tuple[int, str]], name: str) -> Vocabulary:
    texts = [text for text, _ in model["vocab"]]
    scaled = np.array([float(score) for _, score in model["vocab"]]) * SCORE_SCALE
    if not np.isfinite(scaled).all() or not np.array_equal(scaled, np.rint(scaled)):
        raise BPEError(f"{name}: unigram scores must be multiples of 1/{SCORE_SCALE}")
    return _vocabulary("unigram", texts, scaled.clip(-(2**40), 2**40), specials, name)


def _vocabulary(
    kind: Any,
    texts: list[str],
    scores: np.ndarray | None,
    specials: list[tuple[int, str]],
    name: str,
) -> Vocabulary:
    if not 1 <= len(texts) <= MAX_VOCAB_SIZE:
        raise BPEError(f"{name}: {len(texts)} pieces; expected 1 to {MAX_VOCAB_SIZE}")
    if [index for index, _ in specials] != list(range(len(texts), len(texts) + len(specials))):
        raise BPEError(f"{name}: expected the added tokens to have the ids after the pieces")
    pieces = [units_in(text) for text in texts]
    num_units = next((at for at, piece in enumerate(pieces) if len(piece) != 1), len(pieces))
    try:
        return Vocabulary.of_pieces(
            kind,
            num_units,
            pieces[num_units:],
            None if scores is None else scores.astype(np.int64),
            tuple(text for _, text in specials),
        )
    except BPEError as error:
        raise BPEError(f"{name}: {error}") from None

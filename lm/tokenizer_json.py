"""Speech tokens in the base vocabulary of a Hugging Face `tokenizer.json`.

`add_tokens` makes a list that is searched and sorted anew for each token: 65,536 of them take
seconds in a new version of the library and half an hour in an old one. In the model's own
vocabulary they cost nothing, but then the steps before the model must hand each name over in one
piece, and the text must be cut as ever. So a step that cuts names out comes first, each step that
would cut a name leaves it alone, and the result is tried out before it is written: text gives the
ids that it gave, and names give theirs.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..codecs.spec import TokenSpec
from ..errors import VocabularyError
from ..filesystem import printable, replacing
from .isolation import isolated
from .vocabulary import FORMAT, Vocabulary

MAX_BYTES = 1 << 30
_SHOWN = 5
#: Text that tries out spaces, cases, digits, punctuation, other scripts and line ends.
PROBES = (
    "The quick brown fox, it's 3.14 o'clock!",
    "  two  spaces\n\nand\ttabs \r\n",
    "naïve café ÀÉÎ über Straße 123456 0x0A",
    "日本語 текст مرحبا 한국어 🎙️👩‍👩‍👧",
    "a<|b|>c <s_1> |s_| <<|>> [x] {y}",
)


@dataclass(frozen=True)
class Written:
    """What `write_tokenizer` wrote.

    Attributes:
        size: ids in all; a model's embedding needs as many rows.
        changed_words: words of the base vocabulary that its merges could not reach, and that are
            tokens of their own now (see `write_tokenizer`).
        joins: whether text beside speech gets the ids that it would get beside added tokens.
    """

    size: int
    changed_words: tuple[str, ...]
    joins: bool


def first_free_id(base: str | Path) -> int:
    """The first id that a `tokenizer.json` leaves free: where a `Vocabulary` can begin.

    Raises:
        VocabularyError: it can't be read, or is no Hugging Face tokenizer.
    """
    return _first_free(_read(base))


def write_tokenizer(
    base: str | Path, out: str | Path, *vocabularies: Vocabulary, strict: bool = True
) -> Written:
    """Write a `tokenizer.json` with the tokens of one vocabulary, or of several.

    Markers become special tokens, codes ordinary ones. Ids between the base's and the vocabulary's
    are filled with `<|unused_N|>`.

    A BPE model finds whole words in its vocabulary only with `ignore_merges`. Where the base has
    words that its merges don't lead to, such as sentencepiece's ``<0x0A>``, those would become
    tokens too where text spells them; `strict` refuses that. It also refuses bases whose text after
    speech gets other ids than after an added token (a normalizer that prepends to the whole).

    Args:
        base: a `tokenizer.json`, or the folder that has it.
        out: where it goes, a file or a folder; written whole or not at all.
        strict: refuse what is not the same for all text.

    Raises:
        VocabularyError: ids or names are taken, or the base's steps would cut names; or, if
            `strict`, some text would have other ids than before.
    """
    tokenizers = _library()
    if not vocabularies:
        raise VocabularyError("give the vocabularies whose tokens are to be written")
    parts = _read(base)
    new: dict[str, int] = {}
    for vocabulary in vocabularies:
        for number, name in enumerate(vocabulary.names):
            if name in new:
                raise VocabularyError(f"two of the vocabularies have a token {name!r}")
            new[name] = vocabulary.first + number
    if len(set(new.values())) < len(new):
        raise VocabularyError("ids of the vocabularies overlap: let one begin where another stops")
    _check_free(parts, new, base)
    old = _tokenizer(tokenizers, parts, base)
    changed = _unreachable(old, parts) if parts["model"].get("type") == "BPE" else ()
    if changed and strict:
        raise VocabularyError(
            f"{printable(base)}: {len(changed)} words of its vocabulary are reached by no merges "
            f"({', '.join(map(repr, changed[:_SHOWN]))}, …); text that spells one would have "
            "another id than before. strict=False accepts that"
        )
    parts["pre_tokenizer"] = isolated(
        parts.get("pre_tokenizer"), parts.get("normalizer"), regex_of(vocabularies)
    )
    _put(parts, new, {m for v in vocabularies for m in v.markers or ()})
    text = json.dumps(parts, ensure_ascii=False, separators=(",", ":"))
    made = _tokenizer(tokenizers, parts, out, text)
    joins = _try_out(old, made, vocabularies, base, strict)
    path = Path(out)
    if path.is_dir():
        path = path / "tokenizer.json"
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return Written(made.get_vocab_size(), changed, joins)


def read_vocabularies(path: str | Path) -> list[Vocabulary]:
    """The vocabularies in a `tokenizer.json` that `write_tokenizer` wrote, in order of their ids.

    Other libraries may have loaded and saved it since.

    Raises:
        VocabularyError: there are none in it, or its ids are no longer theirs.
    """
    parts = _read(path)
    known = _entries(parts)
    found = [Vocabulary.from_description(name) for name in known if name.startswith(f"<|{FORMAT}:")]
    if not found:
        raise VocabularyError(f"{printable(path)}: has no speech tokens of ours; write_tokenizer")
    for vocabulary in found:
        for number, name in enumerate(vocabulary.names):
            if known.get(name) != vocabulary.first + number:
                raise VocabularyError(
                    f"{printable(path)}: {name!r} has id {known.get(name)}, not "
                    f"{vocabulary.first + number}: the vocabulary was changed after it was written"
                )
    return sorted(found, key=lambda vocabulary: vocabulary.first)


def read_vocabulary(path: str | Path, spec: TokenSpec | None = None) -> Vocabulary:
    """The one vocabulary of a `tokenizer.json`, or the one for a tokenizer's tokens.

    Raises:
        VocabularyError: none, or several and no `spec`.
        TokenMismatchError: only of other tokenizers.
    """
    found = read_vocabularies(path)
    if spec is not None:
        for vocabulary in found:
            if vocabulary.spec.digest == spec.digest:
                vocabulary.check_spec(spec)
                return vocabulary
        found[0].check_spec(spec)
    if len(found) > 1:
        names = ", ".join(vocabulary.spec.tokenizer for vocabulary in found)
        raise VocabularyError(f"{printable(path)}: has {names}; give the spec of one")
    return found[0]


def regex_of(vocabularies: Sequence[Vocabulary]) -> str:
    """A regular expression of all codes' names."""
    return "|".join(vocabulary._naming.regex(vocabulary.sizes) for vocabulary in vocabularies)


# --- the file ------------------------------------------------------------------------------------


def _library() -> Any:
    try:
        import tokenizers
    except ImportError:
        raise VocabularyError(
            "a tokenizer.json is tried out with the package tokenizers: pip install 'syllabary[lm]'"
        ) from None
    return tokenizers


def _read(path: str | Path) -> dict[str, Any]:
    path = Path(path)
    if path.is_dir():
        path = path / "tokenizer.json"
    try:
        if path.stat().st_size > MAX_BYTES:
            raise VocabularyError(f"{printable(path)}: more than {MAX_BYTES} bytes")
        parts = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise VocabularyError(f"{printable(path)}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        if isinstance(error, VocabularyError):
            raise
        raise VocabularyError(f"{printable(path)}: expected JSON: {error}") from None
    model = parts.get("model") if isinstance(parts, dict) else None
    if not isinstance(model, dict) or not isinstance(model.get("vocab"), dict | list):
        raise VocabularyError(f"{printable(path)}: expected a Hugging Face tokenizer")
    try:
        _entries(parts)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise VocabularyError(f"{printable(path)}: its vocabulary is damaged: {error}") from None
    return parts


def _entries(parts: dict[str, Any]) -> dict[str, int]:
    """Ids by name, those of added tokens too."""
    vocab = parts["model"]["vocab"]
    known = (
        dict(vocab)
        if isinstance(vocab, dict)
        else {name: index for index, (name, _) in enumerate(vocab)}
    )
    known.update((token["content"], token["id"]) for token in parts.get("added_tokens") or ())
    return known


def _first_free(parts: dict[str, Any]) -> int:
    return max(_entries(parts).values(), default=-1) + 1


def _check_free(parts: dict[str, Any], new: dict[str, int], base: str | Path) -> None:
    known = _entries(parts)
    for name in new:
        if name in known:
            raise VocabularyError(
                f"{printable(base)}: has a token {name!r} already, with id {known[name]}: choose "
                "another naming or other markers"
            )
    free = _first_free(parts)
    if new and min(new.values()) < free:
        raise VocabularyError(
            f"{printable(base)}: ids up to {free - 1} are its own; the vocabulary begins with "
            f"{min(new.values())}: let it begin with first={free} (first_free_id says so)"
        )


def _put(parts: dict[str, Any], new: dict[str, int], markers: set[str]) -> None:
    """Into the model's vocabulary, with what was added to the base: the library numbers added
    tokens by the model's size unless the model knows them."""
    from ..bpe.huggingface_file import special_token  # imported here, since it loads scipy

    model, added = parts["model"], parts.setdefault("added_tokens", [])
    known = _entries(parts)
    taken = set(known.values()) | set(new.values())
    gaps = sorted(set(range(max(taken) + 1)) - taken)
    every = known | new | {f"<|unused_{index}|>": index for index in gaps}
    if isinstance(model["vocab"], dict):
        model["vocab"] = dict(sorted(every.items(), key=lambda entry: entry[1]))
    else:
        scores = dict(map(tuple, model["vocab"]))
        # No score beats 0, the probability of one; and the least is as it was, on which the
        # score of what is unknown depends.
        least = min(scores.values(), default=0.0)
        codes = new.keys() - markers
        model["vocab"] = [
            [name, scores.get(name, 0.0 if name in codes else least)]
            for name, _ in sorted(every.items(), key=lambda entry: entry[1])
        ]
    if model.get("type") == "BPE":
        model["ignore_merges"] = True
    added += [special_token(index, name) for name, index in new.items() if name in markers]


# --- trying it out -------------------------------------------------------------------------------


def _tokenizer(
    library: Any, parts: dict[str, Any], path: str | Path, text: str | None = None
) -> Any:
    try:
        made = library.Tokenizer.from_str(json.dumps(parts) if text is None else text)
    except Exception as error:  # whatever the library raises, and it names no class of its own
        raise VocabularyError(
            f"{printable(path)}: the tokenizers library can't load it: {error}"
        ) from None
    made.no_truncation()
    made.no_padding()
    return made


def _unreachable(old: Any, parts: dict[str, Any]) -> tuple[str, ...]:
    """Words that BPE would find whole with `ignore_merges`, and doesn't make of their letters."""
    model = parts["model"]
    if model.get("ignore_merges"):
        return ()
    added = {token["content"] for token in parts.get("added_tokens") or ()}
    return tuple(
        name
        for name, index in model["vocab"].items()
        if name not in added and [token.id for token in old.model.tokenize(name)] != [index]
    )


def _ids(tokenizer: Any, text: str) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False).ids


def _try_out(
    old: Any, made: Any, vocabularies: Sequence[Vocabulary], base: str | Path, strict: bool
) -> bool:
    for text in PROBES:
        if _ids(old, text) != _ids(made, text):
            raise VocabularyError(
                f"{printable(base)}: text such as {text!r} would have other ids than before: steps "
                "of this tokenizer can't be kept apart from speech tokens"
            )
    for vocabulary in vocabularies:
        low, high = vocabulary.speech
        some = [*range(low, high, max(1, (high - low) // 97)), high - 1]
        for ids in (some, some[::-1], [low], [low, low]):
            if _ids(made, vocabulary.text(ids)) != ids:
                raise VocabularyError(
                    f"{printable(base)}: names such as {vocabulary.name(low)!r} don't come through "
                    "the steps of this tokenizer in one piece (a normalizer that changes letters, "
                    "say); choose another naming"
                )
    if _joins(old, made, vocabularies[0]):
        return True
    if strict:
        raise VocabularyError(
            f"{printable(base)}: text beside speech would have other ids than beside an added "
            "token, because this tokenizer begins text in a way of its own. strict=False accepts "
            "that"
        )
    return False


def _joins(old: Any, made: Any, vocabulary: Vocabulary) -> bool:
    """Whether text beside a name has the ids that it has beside an added token of that name."""
    low, _ = vocabulary.speech
    name = vocabulary.name(low)
    old.add_tokens([_library().AddedToken(name, normalized=False)])
    there = old.token_to_id(name)
    return all(
        [low if found == there else found for found in _ids(old, f"{a}{name}{b}")]
        == _ids(made, f"{a}{name}{b}")
        for a in ("", *PROBES)
        for b in ("", name, *PROBES)
    )

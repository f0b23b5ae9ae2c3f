"""Steps before a tokenizer's model, changed so that certain names come through in one piece.

The steps are those of Hugging Face's `pre_tokenizer`. The first one cuts names out of the text;
each later step sees them alone, and is changed only if it would cut or change them: a regular
expression takes the names as an alternative that comes first. What is not known here stays as it
is; `tokenizer_json.py` tries the result out.
"""

from typing import Any

#: What `ByteLevel` cuts by, from GPT-2.
_BYTE_LEVEL = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
#: What `Punctuation` and BERT cut by: Unicode's punctuation, and ASCII's symbols.
_PUNCTUATION = r"[\p{P}$+<=>^`|~]"
#: What `Whitespace` takes for a letter of a word, which is more than this engine's ``\w``.
_WORD = r"\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}"


def isolated(step: Any, normalizer: Any, names: str) -> dict[str, Any]:
    """The `pre_tokenizer` with names kept whole.

    Args:
        step: as the file has it, or None.
        normalizer: likewise; one that prepends marks the beginning of the text, names too.
        names: a regular expression of them.
    """
    names = f"(?:{names})"
    steps: list[dict[str, Any]] = []
    for mark in _prepended(normalizer):
        steps.append(_split(rf"\A{_escape(mark)}(?={names})", "Removed"))
    steps.append(_split(names, "Isolated"))
    steps += _kept_whole(step, names)
    return {"type": "Sequence", "pretokenizers": steps}


def _split(regex: str, behavior: str, invert: bool = False) -> dict[str, Any]:
    return {
        "type": "Split", "pattern": {"Regex": regex}, "behavior": behavior, "invert": invert,
    }  # fmt: skip


def _prepended(normalizer: Any) -> list[str]:
    """Marks that a normalizer puts before the text, as later steps see them."""
    if not isinstance(normalizer, dict):
        return []
    if normalizer.get("type") == "Sequence":
        return [mark for part in normalizer.get("normalizers", ()) for mark in _prepended(part)]
    if normalizer.get("type") == "Prepend":
        return [normalizer["prepend"]]
    return []


def _kept_whole(step: Any, names: str) -> list[dict[str, Any]]:
    if not isinstance(step, dict):
        return []
    kind = step.get("type")
    if kind == "Sequence":
        return [made for part in step["pretokenizers"] for made in _kept_whole(part, names)]
    if kind == "ByteLevel" and step.get("use_regex", True) and not step.get("add_prefix_space"):
        return [_split(f"{names}|{_BYTE_LEVEL}", "Isolated"), {**step, "use_regex": False}]
    if kind == "Split":
        return [_split_too(step, names)]
    if kind == "Digits":
        if step.get("individual_digits"):
            return [_split(rf"{names}|\p{{N}}", "Isolated")]
        return [_split(rf"{names}|\p{{N}}+", "Isolated")]
    if kind == "Punctuation" and step.get("behavior", "Isolated") == "Isolated":
        return [_split(f"{names}|{_PUNCTUATION}", "Isolated")]
    if kind == "Whitespace":
        return [_split(rf"{names}|[{_WORD}]+|[^{_WORD}\s]+", "Removed", invert=True)]
    if kind == "BertPreTokenizer":
        return [_split(r"\s", "Removed"), _split(f"{names}|{_PUNCTUATION}", "Isolated")]
    if kind == "Metaspace":
        mark = _escape(step.get("replacement", "▁"))
        return [step, _split(rf"\A{mark}(?={names}\z)", "Removed")]
    return [step]


def _split_too(step: dict[str, Any], names: str) -> dict[str, Any]:
    """A split by a regular expression; one by a string that names don't have stays as it is."""
    regex = step.get("pattern", {}).get("Regex")
    keeps_matches = step.get("behavior") == "Isolated" and not step.get("invert")
    keeps_only_matches = step.get("behavior") == "Removed" and step.get("invert")
    if regex is None or not (keeps_matches or keeps_only_matches):
        return step
    return {**step, "pattern": {"Regex": f"{names}|{regex}"}}


def _escape(text: str) -> str:
    return "".join(f"\\{c}" if c in r"\.^$*+?{}[]|()" else c for c in text)

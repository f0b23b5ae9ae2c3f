"""Join items of a data set that have tokens or latents in them."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch.utils.data import default_collate

from .latents import Latents
from .tokens import Tokens


def collate(items: Sequence[Any]) -> Any:
    """Join items to a batch: the `collate_fn` of a `DataLoader`.

    `Tokens` become `Tokens.batch`, `Latents` become `Latents.batch`, text stays a list of texts;
    dictionaries and tuples are joined field by field, and the rest as torch's `default_collate`
    does.

    Args:
        items: of one kind, such as dictionaries with the same keys.

    Raises:
        TokenMismatchError, TokenError, LatentsError: tokens or latents of several tokenizers, or
            with several numbers of codebooks.
    """
    first = items[0]
    if isinstance(first, Tokens):
        return Tokens.batch(items)
    if isinstance(first, Latents):
        return Latents.batch(items)
    if isinstance(first, Mapping):
        return {name: collate([item[name] for item in items]) for name in first}
    if isinstance(first, tuple):
        parts = [collate(part) for part in zip(*items, strict=True)]
        return type(first)(*parts) if hasattr(first, "_fields") else tuple(parts)
    if isinstance(first, str | bytes) or first is None:
        return list(items)
    return default_collate(list(items))

"""Averages of the weights of a tokenizer and of trainings that started from it.

Fine-tuning for one quality costs others. The average of the weights before and after it keeps more
of both than either (Wortsman et al., "Robust fine-tuning of zero-shot models", arXiv 2109.01903),
and so does that of several fine-tunings ("Model soups", arXiv 2203.05482), at no cost in size or
speed. It works only for networks with a common beginning.
"""

import copy
import math
from collections.abc import Sequence
from typing import TypeVar

import torch

from ..codecs.checkpoint import config_to_json, inference_state
from ..codecs.tokenizer_module import TokenizerModule
from ..errors import TrainingError
from .mismatch import first_mismatch
from .spectral.growth import load_grown
from .state import flattened

T = TypeVar("T", bound=TokenizerModule)

# Numbers of layers, and what only training uses.
_MAY_DIFFER = frozenset({"blocks", "layers", "dropout", "decay", "commitment_weight"})


@torch.no_grad()
def average_tokenizers(tokenizers: Sequence[T], weights: Sequence[float] | None = None) -> T:
    """Average the weights of tokenizers that were trained from a common beginning.

    Stacks may have more layers in some of them. A layer that is missing counts as the identity.

    Args:
        tokenizers: of one family; left unchanged.
        weights: of each, at least 0; their sum is scaled to 1. Default: equal.

    Returns:
        A tokenizer with the configuration and the name of the one that has most layers.

    Raises:
        TrainingError: fewer than two tokenizers, weights that don't fit, or networks that differ in
            more than the number of layers.
    """
    given = [1.0] * len(tokenizers) if weights is None else list(weights)
    if len(tokenizers) < 2:
        raise TrainingError(f"an average is of two tokenizers at least, got {len(tokenizers)}")
    if len(given) != len(tokenizers):
        raise TrainingError(f"{len(tokenizers)} tokenizers, but {len(given)} weights")
    if not all(math.isfinite(w) and w >= 0 for w in given) or not sum(given):
        listed = ", ".join(f"{w:g}" for w in given)
        raise TrainingError(f"weights must be finite, at least 0, and not all 0; got {listed}")
    deepest = max(tokenizers, key=lambda each: sum(p.numel() for p in each.parameters()))
    average = {
        name: torch.zeros_like(x, dtype=torch.float64) if x.is_floating_point() else x
        for name, x in inference_state(deepest).items()
    }
    for tokenizer, weight in zip(tokenizers, given, strict=True):
        grown = _grown(tokenizer, deepest)
        for name, values in inference_state(grown).items():
            if values.is_floating_point():
                average[name] += values.double() * (weight / sum(given))
            elif not torch.equal(values, average[name]):
                raise _different(tokenizer, deepest, f"{name} differs")
    result = copy.deepcopy(deepest)
    own = result.state_dict()
    result.load_state_dict({name: value.to(own[name].dtype) for name, value in average.items()})
    result.keep_name()  # binds it to the average, as that of a tokenizer of its own
    return result


def _grown(tokenizer: T, deepest: T) -> T:
    """Return a tokenizer's equal with as many layers as another."""
    if type(tokenizer) is not type(deepest):
        raise _different(tokenizer, deepest, f"{tokenizer.family} and {deepest.family}")
    ours, theirs = (flattened(config_to_json(each.config)) for each in (tokenizer, deepest))
    for field in sorted(ours.keys() | theirs.keys()):
        may_differ = field.rpartition(".")[2] in _MAY_DIFFER
        if not may_differ and ours.get(field) != theirs.get(field):
            each = f"{ours.get(field, 'absent')} and {theirs.get(field, 'absent')}"
            raise _different(tokenizer, deepest, f"{field}: {each}")
    grown = copy.deepcopy(deepest)
    try:
        load_grown(grown, inference_state(tokenizer))
    except RuntimeError as error:
        raise _different(tokenizer, deepest, first_mismatch(error)) from None
    return grown


def _different(tokenizer: TokenizerModule, other: TokenizerModule, why: str) -> TrainingError:
    return TrainingError(
        f"{tokenizer.name} and {other.name} can't be averaged, as they differ in more than the "
        f"number of layers: {why}"
    )

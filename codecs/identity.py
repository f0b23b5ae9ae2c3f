"""Values derived from a tokenizer's weights: spec, digests, and prepared (compiled) weights."""

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import WeightsError
from . import checkpoint
from .tokenizer_module import TokenizerModule
from .weights import WeightWatch

_PACKAGE = __name__.split(".")[0]


class Identity:
    """The spec, digests and prepared weights of a tokenizer, valid until its weights change.

    Args:
        tokenizer: with its weights in place.
        made: what must not have changed since the tokenizer was created.

    Attributes:
        spec: the result of `describe`.

    Raises:
        WeightsError: the tokenizer can't run with these weights: see `check_weights`.
    """

    def __init__(self, tokenizer: TokenizerModule, made: "AsMade") -> None:
        # The watch comes first, so that it sees changes made while the rest is computed.
        self._watch = WeightWatch(tokenizer)
        self._named = tokenizer.name, tokenizer.config
        check_weights(tokenizer, made)
        self.spec = tokenizer.describe()
        self._full_digest: str | None = None
        self._prepared: dict[Any, Any] = {}

    def holds(self, tokenizer: TokenizerModule, sampled: bool) -> bool:
        """Whether the tokenizer's weights are unchanged; see `WeightWatch.holds`."""
        name, config = self._named
        same = tokenizer.name == name and tokenizer.config is config
        return same and self._watch.holds(sampled)

    def full_digest(self, tokenizer: TokenizerModule) -> str:
        """See `AudioTokenizer.full_digest`; call only right after `holds` returned True."""
        if self._full_digest is None:
            fields = checkpoint.config_to_json(tokenizer.config)
            tensors, meant = tokenizer.state_dict(), tokenizer.token_tensors()
            if fields == tokenizer.token_config() and tensors.keys() == meant.keys():
                self._full_digest = self.spec.tokens.digest
            else:
                self._full_digest = checkpoint.digest(tokenizer.family, fields, tensors)
        return self._full_digest

    def prepared(self, make: Callable[[], Any], name: str | None = None) -> Any:
        """Return the result of `make`, called once and then cached.

        Args:
            make: a method of the tokenizer; or any function of it, with a name.
            name: under which the result is kept; default: the method.
        """
        key = getattr(make, "__func__", make) if name is None else name
        if key not in self._prepared:
            self._prepared[key] = make()
        return self._prepared[key]


class AsMade:
    """The dtypes and constants that a tokenizer was created with, which must never change.

    Args:
        tokenizer: right after its construction.
    """

    def __init__(self, tokenizer: nn.Module) -> None:
        self.dtypes = {
            name: tensor.dtype
            for name, tensor in _named_tensors(tokenizer)
            if tensor.is_floating_point()
        }
        self.constants = _constants(tokenizer)


def check_weights(tokenizer: TokenizerModule, made: AsMade) -> None:
    """Check that a tokenizer can run with its tensors.

    Raises:
        WeightsError: a weight's dtype has changed, or it has no values; or a constant derived from
            the configuration was changed, which no digest would reveal.
    """
    for name, tensor in _named_tensors(tokenizer):
        if tensor.is_meta:
            raise WeightsError(
                f"{tokenizer.name} has no values in {name}: it is on the meta device; load it anew"
            )
        dtype = made.dtypes.get(name, tensor.dtype)
        if tensor.dtype != dtype:
            raise WeightsError(
                f"{name} of {tokenizer.name} is {_short(tensor.dtype)}, and must stay "
                f"{_short(dtype)}: rounded weights are those of another tokenizer. Cast the whole "
                "tokenizer or what holds it (it keeps its own dtypes), not a part of it"
            )
    changed = [name for name, digest in _constants(tokenizer).items()
               if made.constants.get(name, digest) != digest]  # fmt: skip
    if changed:
        raise WeightsError(
            f"{', '.join(changed)} of {tokenizer.name} follows from its configuration and was "
            "changed: load the tokenizer anew, with another configuration if need be"
        )


def _named_tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()


def _constants(module: nn.Module) -> dict[str, str]:
    """Digests of those tensors of this package's modules that are in no state dict.

    Modules of other packages are left out: theirs may be anything, such as a cache.
    """
    found = {}
    for prefix, part in module.named_modules():
        if type(part).__module__.split(".")[0] != _PACKAGE:
            continue
        for name in part._non_persistent_buffers_set:
            tensor = part._buffers.get(name)
            if tensor is not None and tensor.numel() and not tensor.is_meta:
                values = tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
                full = f"{prefix}.{name}" if prefix else name
                found[full] = hashlib.blake2b(values.tobytes()).hexdigest()
    return found


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")

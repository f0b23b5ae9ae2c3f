"""Pickles of tokenizers: all weights in one block of bytes, whoever pickles and for whom.

Left to torch, each tensor goes to a worker through shared memory of its own: a fork server refuses
more than 256 of them, containers have little such memory, and the parent's weights are moved.
"""

import io
import pickle
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ..errors import CheckpointError
from ..plain_torch import made_plainly
from . import checkpoint
from .tokenizer_module import TokenizerModule

Packed = tuple[bytes, bytearray]
_ITSELF = "itself"


def reduced(tokenizer: TokenizerModule) -> tuple[Any, ...] | None:
    """What pickles a tokenizer, as `object.__reduce__` says; None: as any other module is pickled.

    Modules whose weights are, or were, computed of others (weight norm) are made anew as `load`
    makes them: torch pickles neither them nor the functions that it leaves there.
    """
    kind = type(tokenizer)
    if any(map(_is_normalised, tokenizer.modules())):
        fields = checkpoint.config_to_json(tokenizer.config)
        given: dict[str, Any] = {"training": tokenizer.training, "_named": tokenizer._named}
        given |= {"license": tokenizer.license, "caution": tokenizer.caution}
        weights = pack(tokenizer.state_dict(), None)
        return _rebuilt, (kind, fields, tokenizer.name, str(tokenizer.device), weights, given)
    if any(map(_is_nameless, tokenizer.modules())):
        return None
    return _restored, (kind, pack(tokenizer.__getstate__(), tokenizer))


def _is_normalised(part: nn.Module) -> bool:
    return parametrize.is_parametrized(part) or bool(part._load_state_dict_pre_hooks)


def _is_nameless(part: nn.Module) -> bool:
    """Whether a class can't be imported by name elsewhere; some picklers carry such classes."""
    kind = type(part)
    return kind.__module__ == "__main__" or "<locals>" in kind.__qualname__


@made_plainly
def _restored(kind: type[TokenizerModule], packed: Packed) -> TokenizerModule:
    made = kind.__new__(kind)
    made.__setstate__(unpack(packed, made))  # type: ignore[no-untyped-call]
    return made


@made_plainly
def _rebuilt(
    kind: type[TokenizerModule],
    config: dict[str, Any],
    name: str,
    device: str,
    weights: Packed,
    given: dict[str, Any],
) -> TokenizerModule:
    """See `reduced`.

    Raises:
        CheckpointError: weights of that class with this configuration have other names or shapes,
            as where a user has parametrized some.
    """
    tokenizer = checkpoint.build(kind, config, name).to(device)
    try:
        tokenizer.load_state_dict(unpack(weights, None))
    except RuntimeError as error:
        raise CheckpointError(f"{name} can't be copied: {error}") from None
    tokenizer.train(given.pop("training"))
    vars(tokenizer).update(given)
    return tokenizer


# --- tensors in one block ------------------------------------------------------------------------


def pack(given: Any, itself: Any) -> Packed:
    """A pickle of anything, and the bytes of all tensors in it.

    Args:
        given: what is pickled.
        itself: stands for what the pickle will be a part of, where it refers to that.
    """
    file = io.BytesIO()
    pickler = _Pickler(file, itself)
    pickler.dump(given)
    return file.getvalue(), bytearray().join(pickler.parts)


def unpack(packed: Packed, itself: Any) -> Any:
    """What `pack` took."""
    structure, values = packed
    return _Unpickler(io.BytesIO(structure), values, itself).load()


class _Pickler(pickle.Pickler):
    def __init__(self, file: io.BytesIO, itself: Any) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        self.itself = itself
        self.parts: list[Any] = []
        self._size = 0
        self._known: dict[int, tuple[Any, ...]] = {}
        self._kept: list[Tensor] = []  # so that no two have the same `id`

    def persistent_id(self, given: Any) -> Any:
        if self.itself is not None and given is self.itself:
            return _ITSELF
        if type(given) not in (Tensor, nn.Parameter):
            return None
        if given.layout is not torch.strided or given.is_quantized or given.is_meta:
            return None
        if id(given) not in self._known:
            plain = given.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            self._known[id(given)] = (
                len(self._kept), self._size, isinstance(given, nn.Parameter), given.requires_grad,
                given.dtype, tuple(given.shape), str(given.device),
            )  # fmt: skip
            self._kept.append(given)
            self.parts.append(plain.numpy().data)
            self._size += plain.numel()
        return self._known[id(given)]


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, values: bytearray, itself: Any) -> None:
        super().__init__(file)
        self.itself = itself
        self._values = values
        self._made: dict[int, Tensor] = {}

    def persistent_load(self, given: Any) -> Any:
        if given == _ITSELF:
            return self.itself
        index, start, is_parameter, requires_grad, dtype, shape, device = given
        if index not in self._made:
            made = torch.empty(shape, dtype=dtype)
            if made.numel():
                count = made.numel()
                made.view(-1).copy_(
                    torch.frombuffer(self._values, dtype=torch.uint8, offset=start,
                                     count=count * dtype.itemsize).clone().view(dtype)
                )  # fmt: skip
            made = made.to(device)
            made = nn.Parameter(made, requires_grad) if is_parameter else made
            self._made[index] = made
        return self._made[index]

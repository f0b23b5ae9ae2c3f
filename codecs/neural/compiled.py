"""The compiled form of a network, made when first needed and again when its weights changed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from torch import nn

from ..weights import WeightWatch
from .frames import SampleDecoder, SampleEncoder
from .network import SpectralDecoder, SpectralEncoder

if TYPE_CHECKING:
    from .compiled_frames import FramesDecoder, FramesEncoder
    from .frame_decoder import FrameDecoder
    from .frame_encoder import FrameEncoder

M = TypeVar("M", bound=nn.Module)
N = TypeVar("N", bound=nn.Module)
T = TypeVar("T")


class Compiled(Generic[M, T]):
    """What `make` returned for a module, as long as the module's weights stay as they are.

    A change is seen as by `WeightWatch`.

    Args:
        make: of a copy of the module that holds this only `make` survives, so it is a function of
            a file.
    """

    def __init__(self, make: Callable[[M], T]) -> None:
        self._make = make
        self._last: tuple[nn.Module, WeightWatch, T] | None = None

    def __call__(self, module: M) -> T:
        last = self._last
        if last is None or last[0] is not module or not last[1].holds():
            watch = WeightWatch(module)
            last = self._last = module, watch, self._make(module)
        return last[2]

    def __reduce__(self) -> tuple[Any, ...]:
        return Compiled, (self._make,)


def still(module: N) -> N:
    """A copy of a module that stays as it is, in eval mode, whatever becomes of the module."""
    return copy.deepcopy(module).eval().requires_grad_(False)


def is_compilable(module: nn.Module) -> bool:
    """Whether there is a compiled form of an encoder or a decoder."""
    return isinstance(module, SpectralEncoder | SpectralDecoder | SampleEncoder | SampleDecoder)


def frame_encoder(encoder: SpectralEncoder | SampleEncoder) -> FrameEncoder | FramesEncoder:
    """The encoder compiled."""
    # numba takes a while to import
    if isinstance(encoder, SampleEncoder):
        from .compiled_frames import FramesEncoder

        return FramesEncoder(encoder)
    from .frame_encoder import FrameEncoder

    return FrameEncoder(encoder)


def frame_decoder(decoder: SpectralDecoder | SampleDecoder) -> FrameDecoder | FramesDecoder:
    """The decoder compiled."""
    if isinstance(decoder, SampleDecoder):
        from .compiled_frames import FramesDecoder

        return FramesDecoder(decoder)
    from .frame_decoder import FrameDecoder

    return FrameDecoder(decoder)

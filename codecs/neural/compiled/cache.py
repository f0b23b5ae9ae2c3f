"""The compiled form of a network, made when first needed and again when its weights changed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from torch import nn

from ...weights import WeightWatch
from ..trunks.raw_frames import SampleDecoder, SampleEncoder
from ..trunks.spectral import SpectralDecoder, SpectralEncoder

if TYPE_CHECKING:
    from .raw_frames import CompiledRawFrameDecoder, CompiledRawFrameEncoder
    from .spectral_decoder import CompiledSpectralDecoder
    from .spectral_encoder import CompiledSpectralEncoder

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


def compiled_encoder(
    encoder: SpectralEncoder | SampleEncoder,
) -> CompiledSpectralEncoder | CompiledRawFrameEncoder:
    """The encoder compiled."""
    # numba takes a while to import
    if isinstance(encoder, SampleEncoder):
        from .raw_frames import CompiledRawFrameEncoder

        return CompiledRawFrameEncoder(encoder)
    from .spectral_encoder import CompiledSpectralEncoder

    return CompiledSpectralEncoder(encoder)


def compiled_decoder(
    decoder: SpectralDecoder | SampleDecoder,
) -> CompiledSpectralDecoder | CompiledRawFrameDecoder:
    """The decoder compiled."""
    if isinstance(decoder, SampleDecoder):
        from .raw_frames import CompiledRawFrameDecoder

        return CompiledRawFrameDecoder(decoder)
    from .spectral_decoder import CompiledSpectralDecoder

    return CompiledSpectralDecoder(decoder)

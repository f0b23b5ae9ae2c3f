"""Compiled forms of networks, created when first needed and again after weight changes."""

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
    """Cache the result of `make` for a module until the module's weights change.

    Changes are detected with `WeightWatch`.

    Args:
        make: a module-level function, so that it can be pickled: a copy of the module that holds
            this cache keeps nothing else of it.
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
    """Return a copy of a module in eval mode that later changes of the module don't affect."""
    return copy.deepcopy(module).eval().requires_grad_(False)


def is_compilable(module: nn.Module) -> bool:
    """Whether an encoder or a decoder has a compiled form."""
    return isinstance(module, SpectralEncoder | SpectralDecoder | SampleEncoder | SampleDecoder)


def compiled_encoder(
    encoder: SpectralEncoder | SampleEncoder,
) -> CompiledSpectralEncoder | CompiledRawFrameEncoder:
    """Compile an encoder."""
    # Imported here, since numba takes a while to import.
    if isinstance(encoder, SampleEncoder):
        from .raw_frames import CompiledRawFrameEncoder

        return CompiledRawFrameEncoder(encoder)
    from .spectral_encoder import CompiledSpectralEncoder

    return CompiledSpectralEncoder(encoder)


def compiled_decoder(
    decoder: SpectralDecoder | SampleDecoder,
) -> CompiledSpectralDecoder | CompiledRawFrameDecoder:
    """Compile a decoder."""
    if isinstance(decoder, SampleDecoder):
        from .raw_frames import CompiledRawFrameDecoder

        return CompiledRawFrameDecoder(decoder)
    from .spectral_decoder import CompiledSpectralDecoder

    return CompiledSpectralDecoder(decoder)

"""The compiled form of a network, made when first needed and again when its weights changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from torch import Tensor, nn

from .frames import SampleDecoder, SampleEncoder
from .network import SpectralDecoder, SpectralEncoder

if TYPE_CHECKING:
    from .compiled_frames import FramesDecoder, FramesEncoder
    from .frame_decoder import FrameDecoder
    from .frame_encoder import FrameEncoder

M = TypeVar("M", bound=nn.Module)
T = TypeVar("T")


class Compiled(Generic[M, T]):
    """What `make` returned for a module, as long as the module's weights stay as they are.

    A change is seen by the tensors' addresses and their counters of in-place changes. What is
    written through `.data` escapes them.

    Args:
        make: of a copy of the module that holds this only `make` survives, so it is a function of
            a file.
    """

    def __init__(self, make: Callable[[M], T]) -> None:
        self._make = make
        self._last: tuple[list[tuple[int, int]], T] | None = None

    def __call__(self, module: M) -> T:
        now = [version_of(tensor) for tensor in (*module.parameters(), *module.buffers())]
        if self._last is None or self._last[0] != now:
            self._last = now, self._make(module)
        return self._last[1]

    def __reduce__(self) -> tuple[Any, ...]:
        return Compiled, (self._make,)


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


def version_of(tensor: Tensor) -> tuple[int, int]:
    """What changes when a tensor's values do, or lie elsewhere; writes to `.data` escape it."""
    # Tensors made in inference mode have no counter, and can't be changed outside of it.
    return tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version

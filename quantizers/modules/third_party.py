"""Adapter that gives quantizers of vector-quantize-pytorch this package's interface.

It is meant for less common quantizers (LFQ, SimVQ, …), and needs `pip install
vector-quantize-pytorch`.
"""

import importlib
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import QuantizerError
from .gradient import pass_gradient
from .interface import Quantizer, full_precision
from .result import Quantized, statistics_of_columns

_PACKAGE = "vector_quantize_pytorch"
_DECODERS = ("get_output_from_indices", "indices_to_codes")


class ThirdPartyQuantizer(Quantizer):
    """An instance of one of the package's classes, as a `Quantizer`.

    Valid frames are passed as one sequence (1, frames, dim), however the class treats masks, so
    that padding has no effect. The package's loss is the only entry, `auxiliary`, in `losses`. Its
    behaviour under torch.distributed and for different batches is its own; this package's
    guarantees do not cover it.

    Args:
        module: takes (batch, frames, dim), or channels first, and returns vectors, indices and
            optionally losses; has `get_output_from_indices` or `indices_to_codes`.
        dim: channels of the vectors; default: `module.dim`.

    Raises:
        QuantizerError: the module can't decode, or has no dim or codebook size; in `forward` and
            `encode`, also if its return values have an unknown form.
    """

    def __init__(self, module: nn.Module, dim: int | None = None):
        name = type(module).__name__
        dim = dim if dim is not None else getattr(module, "dim", None)
        if not isinstance(dim, int):
            raise QuantizerError(f"{name} doesn't say its dim; give dim=…")
        decoder = next((known for known in _DECODERS if hasattr(module, known)), None)
        if decoder is None:
            raise QuantizerError(f"{name} can't decode: it has none of {', '.join(_DECODERS)}")
        super().__init__(dim, _codebook_sizes(module))
        self.module = module
        self._decoder = decoder
        self._channels_first = self._decodes_channels_first = self._single = False
        self._groups = 0
        self._find_layout()

    @classmethod
    def create(cls, name: str, dim: int | None = None, **settings: Any) -> "ThirdPartyQuantizer":
        """Create the package's class `name` with its own settings; `dim` is passed on if given.

        Raises:
            QuantizerError: the package isn't installed, or has no such class.
        """
        try:
            package = importlib.import_module(_PACKAGE)
        except ImportError as error:
            raise QuantizerError(
                f"{name} needs vector-quantize-pytorch: pip install vector-quantize-pytorch"
            ) from error
        kind = getattr(package, name, None)
        if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
            raise QuantizerError(f"vector-quantize-pytorch has no quantizer {name!r}")
        if dim is not None:
            settings["dim"] = dim
        return cls(kind(**settings), dim)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Quantized:
        """Quantize x, see `Quantizer.forward`. Codebooks excluded by its dropout give no codes."""
        x, mask = self.checked_vectors(x, mask)
        with full_precision(x.device):
            vectors, columns, loss = self._run(x[mask])
            kept = (columns >= 0).all(1)
            columns = columns[kept]
            codes = columns.new_zeros((columns.shape[0], *mask.shape))
            codes[:, mask] = columns
            codes = codes.transpose(0, 1).contiguous()
            scattered = torch.zeros_like(x)
            scattered[mask] = vectors
            if not self.training:
                scattered = pass_gradient(scattered, self.decode(codes))
            sizes = self.codebook_sizes[: len(columns)]
            statistics = statistics_of_columns(columns, sizes, self.training)
            losses = {} if loss is None else {"auxiliary": loss}
            return Quantized(scattered, codes, losses, statistics)

    def encode(self, x: Tensor) -> Tensor:
        """Quantize x in eval mode; see `Quantizer.encode`."""
        x, _ = self.checked_vectors(x)
        training = self.module.training
        self.module.eval()
        try:
            with torch.no_grad(), full_precision(x.device):
                _, columns, _ = self._run(x.flatten(0, 1))
        finally:
            self.module.train(training)
        return columns.reshape(-1, *x.shape[:2]).transpose(0, 1).contiguous()

    def decode(self, codes: Tensor) -> Tensor:
        """Decode codes; see `Quantizer.decode`."""
        codes = self.checked_codes(codes)
        indices = codes.transpose(1, 2)
        if self._single:
            indices = indices[..., 0]
        elif self._groups:
            indices = indices.unflatten(2, (self._groups, -1)).permute(2, 0, 1, 3)
        with full_precision(codes.device):
            decoded: Tensor = getattr(self.module, self._decoder)(indices).float()
        return decoded.transpose(1, 2) if self._decodes_channels_first else decoded

    def _find_layout(self) -> None:
        """Run the module on test data to find its channel axis and the axes of its indices."""
        name, training = type(self.module).__name__, self.module.training
        tensors = [*self.module.parameters(), *self.module.buffers()]
        device = tensors[0].device if tensors else torch.device("cpu")
        # More frames than channels, so that the axes are distinguishable.
        frames = self.dim + 1
        x = torch.zeros(1, frames, self.dim, device=device)
        self.module.eval()
        try:
            with torch.no_grad():
                try:
                    _, indices, _ = self._outputs(x)
                except (AssertionError, RuntimeError):
                    self._channels_first = True
                    _, indices, _ = self._outputs(x)
                if indices.ndim not in (2, 3, 4):
                    raise QuantizerError(
                        f"{name} gives indices of shape {tuple(indices.shape)} for "
                        f"(batch, frames) = (1, {frames}), which isn't understood"
                    )
                self._single = indices.ndim == 2
                self._groups = indices.shape[0] if indices.ndim == 4 else 0
                self.codebook_sizes = self.codebook_sizes[:1] * (indices.numel() // frames)
                decoded = getattr(self.module, self._decoder)(indices)
                self._decodes_channels_first = decoded.shape[1] == self.dim
        except (AssertionError, RuntimeError) as error:
            raise QuantizerError(
                f"{name} takes neither (1, {frames}, {self.dim}) nor channels first: {error}"
            ) from error
        finally:
            self.module.train(training)

    def _run(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Map frames (N, dim) to vectors, codes (codebooks, N) (-1 if excluded), and the loss."""
        if len(frames) == 0:
            empty = torch.zeros(len(self.codebook_sizes), 0, dtype=torch.int64)
            return frames, empty.to(frames.device), None
        vectors, indices, loss = self._outputs(frames[None])
        if self._single:
            columns = indices
        elif self._groups:
            columns = indices[:, 0].transpose(1, 2).flatten(0, 1)
        else:
            columns = indices[0].T
        return vectors[0].float(), columns.long(), loss

    def _outputs(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return vectors, indices and the sum of the losses, in the module's form."""
        first = self._channels_first
        outputs = self.module(x.transpose(1, 2) if first else x)
        tensors = [part for part in outputs if isinstance(part, Tensor)]
        shape = (x.shape[0], x.shape[2], x.shape[1]) if first else x.shape
        vectors = [part for part in tensors if part.is_floating_point() and part.shape == shape]
        indices = [part for part in tensors if not part.is_floating_point()]
        if len(vectors) != 1 or len(indices) != 1:
            shapes = [tuple(part.shape) for part in tensors]
            raise QuantizerError(
                f"{type(self.module).__name__} must return vectors and indices, got {shapes}"
            )
        losses = [
            part.sum() for part in tensors if part is not vectors[0] and part is not indices[0]
        ]
        found = vectors[0].transpose(1, 2) if first else vectors[0]
        return found, indices[0], torch.stack(losses).sum() if losses else None


def _codebook_sizes(module: nn.Module) -> tuple[int, ...]:
    """Return the size of each codebook, from the attribute in which the class has it."""
    for holder in (module, *module.modules()):
        size = getattr(holder, "codebook_size", None)
        if isinstance(size, int):
            return (size,)
    raise QuantizerError(f"{type(module).__name__} doesn't say its codebook_size")

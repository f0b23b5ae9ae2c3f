"""Short-time Fourier spectra with cheap gradients, for losses and discriminators.

Autograd's own path through `torch.stft` keeps the frames, pads the gradient of a real transform to
a complex one of twice the size and scatters the frames' gradients back one index at a time. Here
the backward pass is an inverse real transform and a handful of shifted additions, and only the
window is kept: less than half the time on one core.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ...errors import TrainingError

# Far below the floor of any loss; it keeps the gradient of a magnitude finite in silence.
_LEAST_SIZE = 1e-15


class _WindowedTransform(torch.autograd.Function):
    """(batch, samples) → (batch, frames, bins): unfold, window, real FFT."""

    @staticmethod
    def forward(ctx: Any, wave: Tensor, window: Tensor, hop_length: int, n_fft: int) -> Tensor:
        ctx.save_for_backward(window)
        ctx.samples, ctx.hop_length, ctx.n_fft = wave.shape[-1], hop_length, n_fft
        return torch.fft.rfft(wave.unfold(-1, window.shape[0], hop_length) * window, n=n_fft)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        (window,) = ctx.saved_tensors
        length, hop, (grad,) = window.shape[0], ctx.hop_length, grads
        # The inverse transform counts every bin except the first and the last twice.
        once = torch.full(grad.shape[-1:], 0.5, dtype=window.dtype, device=window.device)
        once[0] = once[-1] = 1.0
        frames = torch.fft.irfft(grad * once, n=ctx.n_fft, norm="forward")[..., :length] * window
        batch, count, _ = frames.shape
        steps = -(-length // hop)
        out = frames.new_zeros(batch, count + steps - 1, hop)
        for step in range(steps):
            part = frames[..., step * hop : (step + 1) * hop]
            out[:, step : step + count, : part.shape[-1]] += part
        # Samples after the last whole frame have no gradient; a hop that overhangs has no samples.
        flat = out.flatten(1)[:, : ctx.samples]
        return nn.functional.pad(flat, (0, ctx.samples - flat.shape[1])), None, None, None


class _Magnitude(torch.autograd.Function):
    """|z|, with a gradient that is 0 at 0 instead of NaN."""

    @staticmethod
    def forward(ctx: Any, spectrum: Tensor) -> Tensor:
        parts = torch.view_as_real(spectrum)
        power = parts[..., 0].square().addcmul_(parts[..., 1], parts[..., 1])
        size = power.sqrt_()
        ctx.save_for_backward(spectrum, size)
        return size

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        spectrum, size = ctx.saved_tensors
        ratio = (grads[0] / size.clamp(min=_LEAST_SIZE)).unsqueeze(-1)
        return torch.view_as_complex(torch.view_as_real(spectrum) * ratio)


def magnitude(spectrum: Tensor) -> Tensor:
    """Return |spectrum| of a complex tensor; differentiable once, with gradient 0 at 0."""
    return _Magnitude.apply(spectrum)


class Spectrum(nn.Module):
    """Complex short-time Fourier transform with a periodic Hann window.

    Args:
        window_length: samples of the window.
        hop_length: samples between frames.
        n_fft: FFT size, even, at least `window_length`; frames are padded with zeros to it.
            Default: `window_length`.
        normalized: divide by the window's Euclidean norm, so that white noise has the same level
            at every window.

    Raises:
        TrainingError: sizes that do not fit together.
    """

    window: Tensor

    def __init__(
        self,
        window_length: int,
        hop_length: int,
        n_fft: int | None = None,
        normalized: bool = False,
    ) -> None:
        super().__init__()
        self.window_length, self.hop_length = window_length, hop_length
        self.n_fft = n_fft or window_length
        if hop_length < 1 or window_length > self.n_fft or self.n_fft % 2:
            raise TrainingError(
                "a spectrum: expected hop_length >= 1 and window_length <= an even n_fft, got "
                f"{hop_length}, {window_length}, {self.n_fft}"
            )
        window = torch.hann_window(window_length, dtype=torch.float64)
        if normalized:
            window = window / window.square().sum().sqrt()
        # float64 until it is used, so that a loss in float64 is exact; it is a buffer, not a
        # weight.
        self.register_buffer("window", window, persistent=False)
        self._cast: dict[tuple[torch.dtype, torch.device], Tensor] = {}

    def frames_of(self, samples: Tensor) -> Tensor:
        """Return the number of frames of `samples` samples: 1 + samples // hop_length, and 0 for
        none.
        """
        return torch.where(samples > 0, 1 + samples // self.hop_length, 0)

    def forward(self, wave: Tensor) -> Tensor:
        """Compute the spectrum of a waveform, framed as in `audio.mel.MelSpectrogram`.

        Args:
            wave: (batch, samples), float32 or float64.

        Returns:
            Complex (batch, 1 + samples // hop_length, n_fft // 2 + 1); frame n is centred on
            sample n × hop_length, and samples outside the waveform are zeros.
        """
        before = self.window_length // 2
        count = 1 + wave.shape[-1] // self.hop_length
        total = (count - 1) * self.hop_length + self.window_length
        # A negative pad cuts samples that no frame covers.
        padded = nn.functional.pad(wave, (before, total - before - wave.shape[-1]))
        key = (wave.dtype, wave.device)
        if key not in self._cast:
            self._cast[key] = self.window.to(wave)
        return _WindowedTransform.apply(padded, self._cast[key], self.hop_length, self.n_fft)

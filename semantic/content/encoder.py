"""`ContentEncoder`: a small network from speech to features of its content.

It is trained like HuBERT (Hsu et al., "HuBERT", arXiv 2106.07447): see `training/content`. Its
input features are those of the codecs' encoders (`codecs/neural/layers/analysis.py`) except the
pitch: two mel spectra and the energies of four short segments per frame. Its layers are causal, and
its output for a frame is taken some frames later, so it streams with a fixed, short look-ahead. The
output may be averaged over a few frames, which makes units purer and their runs longer.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ...codecs.neural.layers.analysis import (
    AnalysedConfig,
    AnalysisConfig,
    SpeechAnalysis,
    windows_of,
)
from ...codecs.neural.layers.causal import StackConfig
from ...codecs.neural.layers.transformer import CausalTransformer
from ...codecs.neural.trunks.spectral import LayersConfig


@dataclass(frozen=True)
class ContentConfig(AnalysedConfig):
    """Configuration of `ContentEncoder`.

    Attributes:
        analysis: its input features; those for the pitch are omitted.
        layers: at the frame rate.
        dim: channels of the output features.
        look_ahead: future frames that a frame's features depend on.
        averaged: number of frames to average, centred on the frame itself; an odd number.
    """

    analysis: AnalysisConfig = field(default_factory=AnalysisConfig)
    layers: LayersConfig = field(default_factory=lambda: StackConfig(width=320, blocks=5))
    dim: int = 128
    look_ahead: int = 8
    averaged: int = 1

    def __post_init__(self) -> None:
        if self.look_ahead < 0:
            raise ValueError(f"look_ahead can't be negative, got {self.look_ahead}")
        if self.averaged % 2 != 1 or not 1 <= self.averaged <= self.look_ahead + 1:
            raise ValueError(
                "averaged must be an odd number from 1 to one more than look_ahead, got "
                f"{self.averaged} with a look_ahead of {self.look_ahead}"
            )

    @property
    def num_inputs(self) -> int:
        """Input channels of the layers."""
        return self.analysis.num_features - self.analysis.num_lags


@dataclass
class ContentState:
    """State of a `ContentEncoder` between tiles of one row."""

    layers: list[Tensor]
    answers: Tensor  # (1, averaged - 1, dim) the last outputs before averaging


class ContentEncoder(nn.Module):
    """Compute content features from windows of samples.

    Args:
        config: see `ContentConfig`.
    """

    def __init__(self, config: ContentConfig) -> None:
        super().__init__()
        self.config = config
        self.analysis = SpeechAnalysis(config.analysis)
        self.stack = config.layers.make(config.num_inputs)
        self.outward = nn.Linear(config.layers.width, config.dim)

    def init_state(self) -> ContentState:
        """Create the initial state of one row."""
        return ContentState(self.stack.init_state(1), self._no_answers(1))

    def _no_answers(self, rows: int) -> Tensor:
        return self.outward.weight.new_zeros(rows, self.config.averaged - 1, self.config.dim)

    def inputs(self, windows: Tensor) -> Tensor:
        """Compute input features (…, num_inputs) from windows (…, window), without a gradient."""
        with torch.no_grad(), torch.autocast(windows.device.type, enabled=False):
            return self.analysis(windows)[..., self.config.analysis.num_lags :]

    def latents(self, windows: Tensor, state: ContentState) -> tuple[Tensor, ContentState]:
        """Map windows (1, frames, window) to features (1, frames, dim), and return the new state.

        The layers are causal, so output frame n + `look_ahead` has the features of frame n.
        """
        y, layers = self.stack(self.inputs(windows), state.layers)
        answers = torch.cat([state.answers, self.outward(y)], 1)
        return self._means(answers), ContentState(layers, answers[:, windows.shape[1] :])

    def projected(self, y: Tensor) -> Tensor:
        """Project the layers' output (batch, frames, width) to features (batch, frames, dim)."""
        return self._means(torch.cat([self._no_answers(y.shape[0]), self.outward(y)], 1))

    def hidden_states(self, wave: Tensor) -> dict[int, Tensor]:
        """Return each layer's output (batch, frames, width) for a wave (batch, samples), by number.

        Layers count from 1; the features of the same frames have the number -1. Differentiable.
        """
        found: dict[int, Tensor] = {}
        with torch.autocast(wave.device.type, enabled=False):
            inputs = self.analysis(self.windows_of(wave))[..., self.config.analysis.num_lags :]
        stack = self.stack
        blocks = stack.layers if isinstance(stack, CausalTransformer) else stack.blocks
        hooks = [
            block.register_forward_hook(lambda _, __, out, n=n: found.__setitem__(n, out[0]))
            for n, block in enumerate(blocks, 1)
        ]
        try:
            y, _ = stack(inputs)
        finally:
            for hook in hooks:
                hook.remove()
        found[-1] = self.projected(y)
        return found

    def _means(self, answers: Tensor) -> Tensor:
        """Average each `averaged` of (batch, averaged - 1 + frames, dim): (batch, frames, dim)."""
        count = self.config.averaged
        frames = answers.shape[1] - count + 1
        # One order of additions, for any number of frames.
        total = answers[:, :frames]
        for at in range(1, count):
            total = total + answers[:, at : at + frames]
        return total / count

    def windows_of(self, wave: Tensor) -> Tensor:
        """Return all windows (batch, frames, window), look-ahead included, of (batch, samples)."""
        config = self.config
        return windows_of(wave, config.window, config.hop, config.look_ahead)

    @property
    def macs_per_frame(self) -> int:
        """Multiply-accumulates per frame, without the fixed analysis."""
        return self.stack.macs_per_frame + self.outward.weight.numel()

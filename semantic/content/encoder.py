"""`ContentEncoder`: a small network from speech to features of what is said, without labels.

It is trained as HuBERT is (Hsu et al., "HuBERT", arXiv 2106.07447): see `training/content`. It
hears what the codecs' encoders hear (`codecs/neural/layers/analysis.py`) but for the pitch: two mel
spectra and the energies of four short pieces a frame. Its layers are causal, and its answer for a
frame is taken some frames later, so it streams with a fixed, short look-ahead. It may be averaged
over a few frames, which makes units purer and runs of them longer.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ...codecs.neural.layers.analysis import AnalysisConfig, SpeechAnalysis, windows_of
from ...codecs.neural.layers.causal import StackConfig
from ...codecs.neural.layers.transformer import CausalTransformer
from ...codecs.neural.trunks.spectral import LayersConfig


@dataclass(frozen=True)
class ContentConfig:
    """Configuration of `ContentEncoder`.

    Attributes:
        analysis: what it hears; the features that show pitch are left out.
        layers: at the frame rate.
        dim: channels of the features that come out.
        look_ahead: frames after its own that a frame's features depend on.
        averaged: frames whose mean they are, their own in the middle; an odd number.
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
    def sample_rate(self) -> int:
        return self.analysis.sample_rate

    @property
    def hop(self) -> int:
        return self.analysis.hop

    @property
    def window(self) -> int:
        """Samples that a frame's analysis needs; they end where the frame ends."""
        return self.analysis.window

    @property
    def heard(self) -> int:
        """Channels that the layers get."""
        return self.analysis.num_features - self.analysis.num_lags


@dataclass
class ContentState:
    """What `ContentEncoder` carries from one tile of a row to the next."""

    layers: list[Tensor]
    answers: Tensor  # (1, averaged - 1, dim) the last ones


class ContentEncoder(nn.Module):
    """Windows of samples to features.

    Args:
        config: see `ContentConfig`.
    """

    def __init__(self, config: ContentConfig) -> None:
        super().__init__()
        self.config = config
        self.analysis = SpeechAnalysis(config.analysis)
        self.stack = config.layers.make(config.heard)
        self.outward = nn.Linear(config.layers.width, config.dim)

    def init_state(self) -> ContentState:
        """The state of one row that has heard nothing."""
        return ContentState(self.stack.init_state(1), self._no_answers(1))

    def _no_answers(self, rows: int) -> Tensor:
        return self.outward.weight.new_zeros(rows, self.config.averaged - 1, self.config.dim)

    def heard(self, windows: Tensor) -> Tensor:
        """What the layers get of windows (…, window): (…, heard), without a gradient."""
        with torch.no_grad(), torch.autocast(windows.device.type, enabled=False):
            return self.analysis(windows)[..., self.config.analysis.num_lags :]

    def latents(self, windows: Tensor, state: ContentState) -> tuple[Tensor, ContentState]:
        """Features (1, frames, dim) of windows (1, frames, window), and the state after.

        As the layers are causal, frame n + `look_ahead` is the answer for frame n.
        """
        y, layers = self.stack(self.heard(windows), state.layers)
        answers = torch.cat([state.answers, self.outward(y)], 1)
        return self._means(answers), ContentState(layers, answers[:, windows.shape[1] :])

    def projected(self, y: Tensor) -> Tensor:
        """Features (batch, frames, dim) of all that the layers give (batch, frames, width)."""
        return self._means(torch.cat([self._no_answers(y.shape[0]), self.outward(y)], 1))

    def hidden_states(self, wave: Tensor) -> dict[int, Tensor]:
        """By layer from 1 on, (batch, frames, width) of a wave (batch, samples), with a gradient.

        The answers for the same frames come last, by the number -1.
        """
        found: dict[int, Tensor] = {}
        with torch.autocast(wave.device.type, enabled=False):
            heard = self.analysis(self.windows_of(wave))[..., self.config.analysis.num_lags :]
        stack = self.stack
        blocks = stack.layers if isinstance(stack, CausalTransformer) else stack.blocks
        hooks = [
            block.register_forward_hook(lambda _, __, out, n=n: found.__setitem__(n, out[0]))
            for n, block in enumerate(blocks, 1)
        ]
        try:
            y, _ = stack(heard)
        finally:
            for hook in hooks:
                hook.remove()
        found[-1] = self.projected(y)
        return found

    def _means(self, answers: Tensor) -> Tensor:
        """Of each `averaged` answers (batch, averaged - 1 + frames, dim): (batch, frames, dim)."""
        count = self.config.averaged
        frames = answers.shape[1] - count + 1
        # One order of sums, whatever the number of frames.
        total = answers[:, :frames]
        for at in range(1, count):
            total = total + answers[:, at : at + frames]
        return total / count

    def windows_of(self, wave: Tensor) -> Tensor:
        """All windows (batch, frames, window) of a wave (batch, samples), look-ahead included."""
        config = self.config
        return windows_of(wave, config.window, config.hop, config.look_ahead)

    @property
    def macs_per_frame(self) -> int:
        """Multiply-accumulates for one frame, without the fixed analysis."""
        return self.stack.macs_per_frame + self.outward.weight.numel()

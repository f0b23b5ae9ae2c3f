"""The distance between what a speech encoder makes of the decoded and of the original speech.

Spectral losses let a decoder blur what tells words apart, since blurred is never far off. The
layers of an encoder that was trained to follow speech (Whisper, HuBERT, …) represent just that: a
perceptual loss (Johnson et al., arXiv 1603.08155) whose network knows words. A recogniser that is
built on the same encoder judges such a codec too well: judge it by another.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...codecs.checkpoint import digest
from ...errors import TrainingError
from ...semantic.encoders.catalogue import find
from ...semantic.encoders.interface import SpeechEncoder
from ...semantic.encoders.layers import OUTPUT, LayerChoice
from .lengths import mean_of_rows, prepare


@dataclass(frozen=True)
class ContentLossConfig:
    """The encoder of a `ContentLoss`.

    Attributes:
        encoder: what `semantic.encoders.catalogue.find` takes: a folder or id of a published model,
            `torchaudio:BUNDLE`, or a unit tokenizer. Where a run goes on, it may lie elsewhere: its
            digest is compared.
        layers: that count, numbered from 1; none stands for all of them, and for those up to the
            middle of torchaudio's models.
    """

    encoder: str = "openai/whisper-tiny.en"
    layers: tuple[int, ...] = ()


class ContentLoss(nn.Module):
    """Squared error of hidden states over the variance of the original's, mean over layers.

    A row's states are compared with their spread over the row's frames, so that 0 is the same
    content and 1 that of a constant, in every layer. It runs under the caller's autocast.

    Args:
        config: see `ContentLossConfig`.
        sample_rate: of the waves, in Hz.

    Raises:
        TrainingError: the encoder works at another rate.
        CheckpointError, UnknownTokenizerError: as `find` does.
    """

    def __init__(self, config: ContentLossConfig, sample_rate: int) -> None:
        super().__init__()
        self.encoder = find_teacher(config.encoder, config.layers, sample_rate)
        self.layers = frozenset(config.layers)

    @property
    def digest(self) -> str:
        """Of the encoder's weights and configuration."""
        return teacher_digest(self.encoder)

    def forward(self, prediction: Tensor, target: Tensor, lengths: Tensor | None = None) -> Tensor:
        """The loss, a scalar; no gradient flows into `target`.

        Args:
            prediction, target: (batch, samples).
            lengths: (batch,) valid samples of each row; what lies behind is silence for both.

        Raises:
            TrainingError: shapes, dtypes or lengths that don't fit together.
        """
        fake, real, valid = prepare(prediction, target, lengths)
        with torch.no_grad():
            wanted = self._states(real)
        got = self._states(fake)
        counts = -(-valid // self.encoder.hop)
        return torch.stack([_unlike(got[n], wanted[n], counts) for n in wanted]).mean()

    def _states(self, waves: Tensor) -> Mapping[int, Tensor]:
        states = self.encoder.hidden_states(waves.float())
        return {n: x for n, x in states.items() if (n in self.layers if self.layers else n != 0)}


def find_teacher(name: str, layers: tuple[int, ...], sample_rate: int) -> SpeechEncoder:
    """An encoder whose layers teach; it takes no step itself.

    Args:
        name, layers: see `ContentLossConfig`.
        sample_rate: Hz, which must be the encoder's.
    """
    from ...semantic.encoders.pretrained import Pretrained
    from ...semantic.encoders.torchaudio_models import TorchaudioModel

    encoder = find(name)
    if isinstance(encoder, Pretrained):
        encoder = find(name, LayerChoice(layers or (OUTPUT,)))
    elif isinstance(encoder, TorchaudioModel) and layers:
        encoder = find(name, LayerChoice(layers))
    if encoder.sample_rate != sample_rate:
        raise TrainingError(
            f"{name} hears {encoder.sample_rate} Hz, and the recipe trains at {sample_rate} Hz"
        )
    # A first call says early what it can't do, and which layers there are.
    with torch.no_grad():
        known = encoder.hidden_states(torch.zeros(1, 4 * encoder.hop)).keys()
    missing = sorted(set(layers) - known)
    if missing:
        there = ", ".join(map(str, sorted(known - {0})))
        raise TrainingError(f"{name} has no layer {missing[0]}; there are {there}")
    return encoder.eval().requires_grad_(False)


def teacher_digest(encoder: SpeechEncoder) -> str:
    """SHA-256 of an encoder's configuration and weights."""
    return digest(encoder.kind, encoder.fields(), encoder.state_dict())


def _unlike(got: Tensor, wanted: Tensor, counts: Tensor) -> Tensor:
    """Squared error over variance, both of a row's valid frames; mean over rows."""
    got, wanted = got.float(), wanted.float()
    frames = wanted.shape[1]
    counts = counts.clamp(max=frames)
    inside = (torch.arange(frames, device=wanted.device) < counts[:, None])[..., None]
    mean = (wanted * inside).sum(1, keepdim=True) / counts.clamp(min=1)[:, None, None]
    spread = ((wanted - mean).square().mean(-1) * inside[..., 0]).sum(1) / counts.clamp(min=1)
    return mean_of_rows((got - wanted).square() / (spread + 1e-8)[:, None, None], counts)

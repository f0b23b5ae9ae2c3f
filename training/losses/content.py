"""Distance between the hidden states of a speech encoder for decoded and for original speech.

Spectral losses hardly penalise blurring, which removes cues to the words. The layers of an encoder
trained to recognise speech (Whisper, HuBERT, …) represent these cues: a perceptual loss (Johnson et
al., arXiv 1603.08155) with a speech network. A recogniser based on the same encoder overestimates
such a codec: evaluate it with another one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ...codecs.checkpoint import digest
from ...errors import TrainingError
from ...semantic.encoders.catalogue import find
from ...semantic.encoders.interface import SpeechEncoder
from ...semantic.encoders.layers import OUTPUT, LayerChoice
from .lengths import mean_of_rows, prepare

# Standard deviations of a channel over the median of all.
_OUTLYING = 5
# Where bundled recipes find what other commands make; no owner of published models.
_MADE_BEFORE = "runs/"


@dataclass(frozen=True)
class ContentLossConfig:
    """The encoder of a `ContentLoss`.

    Attributes:
        encoder: an argument of `semantic.encoders.catalogue.find`: a folder or id of a published
            model, `torchaudio:BUNDLE`, or a unit tokenizer. Its path may change when a run is
            resumed: its digest is compared.
        layers: used layers, numbered from 1; empty stands for all of them, or, for torchaudio's
            models, for those up to the middle.
    """

    encoder: str = "openai/whisper-tiny.en"
    layers: tuple[int, ...] = ()


class ContentLoss(nn.Module):
    """Squared error of hidden states over the variance of the original's, mean over layers.

    The variance is that over the frames of a row, so that in every layer 0 means the same content
    and 1 the error of a constant. It runs under the caller's autocast.

    Args:
        config: see `ContentLossConfig`.
        sample_rate: of the waves, in Hz.

    Raises:
        TrainingError: the encoder has another sample rate.
        CheckpointError, UnknownTokenizerError: as `find` does.
    """

    def __init__(self, config: ContentLossConfig, sample_rate: int) -> None:
        super().__init__()
        self.encoder = find_teacher(config.encoder, config.layers, sample_rate)
        self.layers = frozenset(config.layers)

    @property
    def digest(self) -> str:
        """SHA-256 of the encoder's weights and configuration."""
        return teacher_digest(self.encoder)

    def forward(self, prediction: Tensor, target: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Compute the loss, a scalar; no gradient flows into `target`.

        Args:
            prediction, target: (batch, samples).
            lengths: (batch,) valid samples of each row; samples beyond are silenced in both.

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


def without_outliers(rows: np.ndarray) -> np.ndarray:
    """Factors (dim,) float32 that reduce channels of outlying variance to the typical one.

    A few channels of a large transformer have activations many times those of the others (Sun et
    al., "Massive Activations in Large Language Models", arXiv 2402.17762), most of the variance:
    distances would be of these alone.

    Args:
        rows: features (frames, dim) float32.
    """
    spread = rows.std(0)
    typical = max(float(np.median(spread)), 1e-6)
    return np.where(spread > _OUTLYING * typical, typical / np.maximum(spread, 1e-6), 1).astype(
        np.float32
    )


def find_teacher(name: str, layers: tuple[int, ...], sample_rate: int) -> SpeechEncoder:
    """Load an encoder as a teacher, in evaluation mode and without gradients for its weights.

    Args:
        name, layers: see `ContentLossConfig`.
        sample_rate: Hz, which must be the encoder's.

    Raises:
        TrainingError: the encoder has another sample rate, or lacks a layer; or a bundled recipe's
            teacher has not been made yet.
        CheckpointError, UnknownTokenizerError: as `find` does.
    """
    from ...semantic.encoders.pretrained import Pretrained
    from ...semantic.encoders.torchaudio_models import TorchaudioModel

    if name.startswith(_MADE_BEFORE) and not Path(name).is_dir():
        raise TrainingError(
            f"{name}: no such folder; this recipe learns from it, and another command makes it "
            "(docs/training.md, bundled recipes)"
        )
    encoder = find(name)
    if isinstance(encoder, Pretrained):
        encoder = find(name, LayerChoice(layers or (OUTPUT,)))
    elif isinstance(encoder, TorchaudioModel) and layers:
        encoder = find(name, LayerChoice(layers))
    if encoder.sample_rate != sample_rate:
        raise TrainingError(
            f"{name} takes {encoder.sample_rate} Hz, and the recipe trains at {sample_rate} Hz"
        )
    # A first call raises errors early, and shows the number of layers.
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
    """Squared error over variance, both over a row's valid frames; mean over rows."""
    got, wanted = got.float(), wanted.float()
    frames = wanted.shape[1]
    counts = counts.clamp(max=frames)
    inside = (torch.arange(frames, device=wanted.device) < counts[:, None])[..., None]
    mean = (wanted * inside).sum(1, keepdim=True) / counts.clamp(min=1)[:, None, None]
    spread = ((wanted - mean).square().mean(-1) * inside[..., 0]).sum(1) / counts.clamp(min=1)
    return mean_of_rows((got - wanted).square() / (spread + 1e-8)[:, None, None], counts)

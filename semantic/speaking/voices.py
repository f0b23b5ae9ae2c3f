"""Encode the voice of an utterance: what stays constant in it, as a small embedding.

Trained together with its vocoder, on other utterances of the same speaker, so that it represents
the speaker and not the content (attentive pooling: Okabe et al., "Attentive Statistics Pooling for
Deep Speaker Embedding", arXiv 1803.10963).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...codecs.neural.layers.analysis import AnalysisConfig, SpeechAnalysis


class VoiceEncoder(nn.Module):
    """Encode waves of any length to voice embeddings.

    Args:
        analysis: input features.
        width: hidden channels.
        voice_dim: channels of a voice embedding.
    """

    def __init__(self, analysis: AnalysisConfig, width: int, voice_dim: int) -> None:
        super().__init__()
        self.analysis = SpeechAnalysis(analysis)
        self.frames = nn.Sequential(
            nn.Linear(analysis.num_features, width), nn.GELU(approximate="tanh")
        )
        self.weight = nn.Linear(width, 1)
        self.outward = nn.Linear(2 * width, voice_dim)

    def forward(self, wave: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Encode waves (batch, samples) to voices (batch, voice_dim) of Euclidean norm 1.

        Args:
            wave: padded at the end of each row.
            lengths: (batch,) samples of each row, at least a window of the analysis; default: all.
        """
        config = self.analysis.config
        short = max(0, config.window - wave.shape[1])
        with torch.no_grad(), torch.autocast(wave.device.type, enabled=False):
            padded = functional.pad(wave, (short, 0))
            features = self.analysis(padded.unfold(1, config.window, config.hop))
        hidden = self.frames(features).float()
        scores = self.weight(hidden).float()
        if lengths is not None:
            ends = torch.arange(features.shape[1], device=wave.device) * config.hop + config.window
            # The first frame always counts.
            inside = ends <= (lengths[:, None] + short).clamp_min(config.window)
            scores = scores.masked_fill(~inside[..., None], -torch.inf)
        weights = torch.softmax(scores, 1)
        mean = (weights * hidden).sum(1)
        spread = ((weights * hidden.square()).sum(1) - mean.square()).clamp_min(1e-6).sqrt()
        return functional.normalize(self.outward(torch.cat([mean, spread], 1)).float(), dim=1)

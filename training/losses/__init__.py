"""Training losses, one per file, and the balancer that weighs them."""

from .adversarial import AdversarialLoss
from .balancer import GradientBalancer
from .compressed import CompressedLossConfig, CompressedSpectralLoss
from .content import ContentLoss, ContentLossConfig
from .distillation import Distillation, DistillationConfig
from .envelope import EnvelopeLoss, EnvelopeLossConfig
from .feature_matching import feature_matching_loss
from .loudness import LoudnessLoss, LoudnessLossConfig
from .mel import MelLossConfig, MultiScaleMelLoss
from .stft import MultiResolutionSTFTLoss, STFTLossConfig
from .texture import TextureLoss, TextureLossConfig
from .transcripts import TranscriptLoss, TranscriptLossConfig

__all__ = [
    "AdversarialLoss",
    "CompressedLossConfig",
    "CompressedSpectralLoss",
    "ContentLoss",
    "ContentLossConfig",
    "Distillation",
    "DistillationConfig",
    "EnvelopeLoss",
    "EnvelopeLossConfig",
    "GradientBalancer",
    "LoudnessLoss",
    "LoudnessLossConfig",
    "MelLossConfig",
    "MultiResolutionSTFTLoss",
    "MultiScaleMelLoss",
    "STFTLossConfig",
    "TextureLoss",
    "TextureLossConfig",
    "TranscriptLoss",
    "TranscriptLossConfig",
    "feature_matching_loss",
]

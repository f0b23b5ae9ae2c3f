"""Quantizer modules for training and inference, with one interface and one result type."""

from .finite_scalar import (
    FSQ_LEVELS,
    FiniteScalarQuantizer,
    FiniteScalarQuantizerConfig,
    ResidualFiniteScalarQuantizer,
)
from .gradient import pass_gradient
from .grouped import GroupedVectorQuantizer, GroupedVectorQuantizerConfig
from .interface import Quantizer
from .masked_channel import (
    MaskedChannelResidualVectorQuantizer,
    MaskedChannelResidualVectorQuantizerConfig,
)
from .random_projection import RandomProjectionQuantizer, RandomProjectionQuantizerConfig
from .residual import ResidualVectorQuantizer, ResidualVectorQuantizerConfig
from .result import Quantized
from .vector import VectorQuantizer, VectorQuantizerConfig

__all__ = [
    "FSQ_LEVELS",
    "FiniteScalarQuantizer",
    "FiniteScalarQuantizerConfig",
    "GroupedVectorQuantizer",
    "GroupedVectorQuantizerConfig",
    "MaskedChannelResidualVectorQuantizer",
    "MaskedChannelResidualVectorQuantizerConfig",
    "Quantized",
    "Quantizer",
    "RandomProjectionQuantizer",
    "RandomProjectionQuantizerConfig",
    "ResidualFiniteScalarQuantizer",
    "ResidualVectorQuantizer",
    "ResidualVectorQuantizerConfig",
    "VectorQuantizer",
    "VectorQuantizerConfig",
    "pass_gradient",
]

"""Quantizers: pure functions and small modules on tensors, independent of audio and files.

`nearest` and `NearestCode` find nearest codes, `ResidualChain` those of residual stages,
`fsq_encode` and `fsq_decode` do finite scalar quantization; `modules` has trainable quantizers;
`kmeans` fits centroids to features of any size.
"""

from .finite_scalar import fsq_bound, fsq_decode, fsq_encode
from .modules import (
    FSQ_LEVELS,
    FiniteScalarQuantizer,
    FiniteScalarQuantizerConfig,
    GroupedVectorQuantizer,
    GroupedVectorQuantizerConfig,
    MaskedChannelResidualVectorQuantizer,
    MaskedChannelResidualVectorQuantizerConfig,
    Quantized,
    Quantizer,
    RandomProjectionQuantizer,
    RandomProjectionQuantizerConfig,
    ResidualFiniteScalarQuantizer,
    ResidualVectorQuantizer,
    ResidualVectorQuantizerConfig,
    VectorQuantizer,
    VectorQuantizerConfig,
    pass_gradient,
)
from .nearest import NearestCode, nearest
from .residual_chain import ResidualChain

__all__ = [
    "FSQ_LEVELS",
    "FiniteScalarQuantizer",
    "FiniteScalarQuantizerConfig",
    "GroupedVectorQuantizer",
    "GroupedVectorQuantizerConfig",
    "MaskedChannelResidualVectorQuantizer",
    "MaskedChannelResidualVectorQuantizerConfig",
    "NearestCode",
    "Quantized",
    "Quantizer",
    "RandomProjectionQuantizer",
    "RandomProjectionQuantizerConfig",
    "ResidualChain",
    "ResidualFiniteScalarQuantizer",
    "ResidualVectorQuantizer",
    "ResidualVectorQuantizerConfig",
    "VectorQuantizer",
    "VectorQuantizerConfig",
    "fsq_bound",
    "fsq_decode",
    "fsq_encode",
    "nearest",
    "pass_gradient",
]

"""Training data: utterances decoded once, random crops of them, and augmentation.

All random choices are functions of a path of integers (seed, batch, row), never of a generator's
state: training resumes at any batch, and ranks share a batch, with bit-identical results.
"""

from .augment import AugmentConfig, Augmented, augment
from .crops import CropBatch, CropSampler, validation_batches
from .pitch import PitchConfig, PitchTracks
from .store import SpeechStore, StoreEntry, StoreFailure, build_store

__all__ = [
    "AugmentConfig",
    "Augmented",
    "CropBatch",
    "CropSampler",
    "PitchConfig",
    "PitchTracks",
    "SpeechStore",
    "StoreEntry",
    "StoreFailure",
    "augment",
    "build_store",
    "validation_batches",
]

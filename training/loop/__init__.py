"""The training loop: `train` runs a recipe's task, exactly resumable, on one or several ranks."""

from .observer import Observer
from .run import Outcome, train
from .validation import Metric, Validation

__all__ = ["Metric", "Observer", "Outcome", "Validation", "train"]

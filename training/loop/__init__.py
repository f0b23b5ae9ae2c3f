"""The training loop: `train` runs a recipe's task, exactly resumable, on one rank or several."""

from .observer import Observer
from .run import Outcome, train
from .validation import Metric, Validation

__all__ = ["Metric", "Observer", "Outcome", "Validation", "train"]

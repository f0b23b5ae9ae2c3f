"""`ContentRecipe`: the settings of a content encoder's training run."""

from dataclasses import dataclass, field, replace
from typing import ClassVar

from ...semantic.content.encoder import ContentConfig
from ..recipe import Recipe
from .perturb import PerturbConfig
from .targets import TargetsConfig


@dataclass(frozen=True, kw_only=True)
class ContentRecipe(Recipe):
    """Recipe of a `ContentEncoder`.

    Attributes:
        task: its name.
        model: the encoder.
        targets: the units that it predicts.
        perturb: perturbations of its input.
        mask_share, mask_frames: share of masked frames, and frames per masked span.
        unmasked_weight: loss weight of unmasked frames; that of masked frames is 1.
        unit_batches: batches for fitting the directions and the units of `last/`.
        num_units: of `last/`.
        evenness: of the encoder's output directions; see `steady_directions`.
        averaged: number of output frames that are averaged; half of them add look-ahead.
    """

    task: ClassVar[str] = "content"
    model: ContentConfig = field(default_factory=ContentConfig)
    targets: TargetsConfig = field(default_factory=TargetsConfig)
    perturb: PerturbConfig = field(default_factory=PerturbConfig)
    mask_share: float = 0.45
    mask_frames: int = 10
    unmasked_weight: float = 0.3
    unit_batches: int = 100
    num_units: int = 500
    evenness: float = 1.0
    averaged: int = 1

    @property
    def saved_model(self) -> ContentConfig:
        """Return the configuration of the encoder in `last/`."""
        look_ahead = self.model.look_ahead + self.averaged // 2
        return replace(self.model, averaged=self.averaged, look_ahead=look_ahead)

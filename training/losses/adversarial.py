"""Adversarial losses of discriminators and the generator.

Least squares: Mao et al., *Least Squares Generative Adversarial Networks*, 2017 (arXiv 1611.04076),
with targets 1 and 0. Hinge: Lim & Ye, *Geometric GAN*, 2017 (arXiv 1705.02894).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from ...errors import TrainingError

AdversarialKind = Literal["least_squares", "hinge"]


@dataclass(frozen=True)
class AdversarialLoss:
    """The losses of both sides; each is a mean over each discriminator's logits, and then over
    discriminators, so that it doesn't grow with their number or their resolution.

    Args:
        kind: "least_squares" or "hinge".

    Raises:
        TrainingError: another kind.
    """

    kind: AdversarialKind = "least_squares"

    def __post_init__(self) -> None:
        if self.kind not in get_args(AdversarialKind):
            raise TrainingError(
                f"expected one of {', '.join(get_args(AdversarialKind))}, got {self.kind!r}"
            )

    def discriminator(self, real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
        """Compute the discriminators' loss, a scalar.

        Least squares: (1 − D(real))² + D(fake)². Hinge: max(0, 1 − D(real)) + max(0, 1 + D(fake)).

        Args:
            real, fake: logits of each discriminator, of any shape; `fake` those of a waveform
                without gradient into the generator.

        Raises:
            TrainingError: no logits, or not as many for `real` as for `fake`.
        """
        if len(real) != len(fake):
            raise TrainingError(f"{len(real)} discriminators saw real audio and {len(fake)} fake")
        if self.kind == "least_squares":
            return _mean([(1 - logits) ** 2 for logits in _wide(real)]) + _mean(
                [logits**2 for logits in _wide(fake)]
            )
        return _mean([(1 - logits).relu() for logits in _wide(real)]) + _mean(
            [(1 + logits).relu() for logits in _wide(fake)]
        )

    def generator(self, fake: Sequence[Tensor]) -> Tensor:
        """Compute the generator's loss, a scalar: (1 − D(fake))², or −D(fake) for hinge.

        Raises:
            TrainingError: no logits.
        """
        if self.kind == "least_squares":
            return _mean([(1 - logits) ** 2 for logits in _wide(fake)])
        return _mean([-logits for logits in _wide(fake)])


def _wide(logits: Sequence[Tensor]) -> list[Tensor]:
    """Convert to float32 at least: a mean of squares in bfloat16 has two digits."""
    return [each if each.dtype == torch.float64 else each.float() for each in logits]


def _mean(values: list[Tensor]) -> Tensor:
    if not values:
        raise TrainingError("an adversarial loss needs at least one discriminator")
    return torch.stack([each.mean() for each in values]).mean()

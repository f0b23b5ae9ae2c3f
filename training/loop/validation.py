"""Validation: scores of the tokenizer with averaged weights."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from ...codecs.interface import AudioTokenizer
from ...errors import SyllabaryError
from ..data import CropBatch
from ..losses import MelLossConfig, MultiScaleMelLoss

Metric = Callable[[np.ndarray, np.ndarray, int], float]
"""(reference, estimate, sample rate in Hz) → score, higher is better; raises a `SyllabaryError`
where it can't be computed."""

MEL = "mel"


@dataclass(frozen=True)
class Example:
    """An utterance: its name, and (samples,) float32 before and after encoding and decoding."""

    name: str
    reference: np.ndarray
    estimate: np.ndarray


@dataclass(frozen=True)
class Validation:
    """The result of a validation.

    Attributes:
        step: steps done.
        utterances: their number.
        means: by metric, over the utterances that could be scored.
        counts: by metric, the number of scored utterances.
        missing: by metric, the first reason for a missing score.
        seconds: its duration.
        examples: the first few utterances.
    """

    step: int
    utterances: int
    means: dict[str, float]
    counts: dict[str, int]
    missing: dict[str, str]
    seconds: float
    examples: list[Example] = field(default_factory=list, repr=False)


class Validator:
    """Scores tokenizers on fixed utterances.

    Args:
        batches: the utterances.
        sample_rate: Hz.
        metrics: by name; "mel", the multi-scale log-mel distance, is always computed.
        examples: number of utterances to return.
    """

    def __init__(
        self,
        batches: Sequence[CropBatch],
        sample_rate: int,
        metrics: Mapping[str, Metric],
        examples: int,
    ) -> None:
        self.batches, self.sample_rate, self.examples = batches, sample_rate, examples
        distance = MultiScaleMelLoss(MelLossConfig(sample_rate=sample_rate))

        def mel(reference: np.ndarray, estimate: np.ndarray, sample_rate: int) -> float:
            pair = torch.from_numpy(estimate)[None], torch.from_numpy(reference)[None]
            return float(distance(*pair))

        self.metrics: dict[str, Metric] = {MEL: mel, **metrics}

    @torch.no_grad()
    def __call__(self, tokenizer: AudioTokenizer, step: int) -> Validation:
        """Encode, decode and score every utterance; nothing is imputed."""
        start = time.perf_counter()
        scores: dict[str, list[float]] = {name: [] for name in self.metrics}
        missing: dict[str, str] = {}
        examples: list[Example] = []
        count = 0
        for batch in self.batches:
            tokens = tokenizer.encode(batch.waves, self.sample_rate, batch.lengths)
            decoded = tokenizer.decode(tokens).float().cpu().numpy()
            for row, length in enumerate(batch.lengths.tolist()):
                count += 1
                reference = batch.waves[row, :length].numpy()
                estimate = np.ascontiguousarray(decoded[row, :length])
                if len(examples) < self.examples:
                    examples.append(Example(batch.names[row], reference, estimate))
                for name, metric in self.metrics.items():
                    try:
                        score = metric(reference, estimate, self.sample_rate)
                    except SyllabaryError as error:
                        missing.setdefault(name, str(error))
                        continue
                    if math.isfinite(score):
                        scores[name].append(score)
                    else:
                        missing.setdefault(name, f"the score of {batch.names[row]} is {score}")
        return Validation(
            step,
            count,
            {name: sum(found) / len(found) for name, found in scores.items() if found},
            {name: len(found) for name, found in scores.items()},
            missing,
            time.perf_counter() - start,
            examples,
        )


def is_better(name: str, score: float, than: float | None) -> bool:
    """Return whether a mean of the metric `name` is better than another; lower distances are
    better.
    """
    return than is None or (score < than if name == MEL else score > than)

"""Scores of decoded clips under several conditions, on the same clips for all conditions."""

from collections.abc import Sequence

import numpy as np

from ..metrics.catalogue import find
from ..metrics.interface import Clip, Metric, Ratio
from ..metrics.scoring import mean, score
from .clips import SpeechClip
from .interface import Curve, Findings, Value


class QualityTable:
    """Metrics of clips, by condition.

    A clip without a score under one condition is excluded from that metric: otherwise a curve would
    compare different clips.

    Args:
        metrics: names of metrics.
        sample_rate: of all clips, Hz.
    """

    def __init__(self, metrics: Sequence[str], sample_rate: int) -> None:
        self.metrics: list[Metric] = [find(name) for name in metrics]
        self.sample_rate = sample_rate
        self._scores: dict[str, list[list[float | Ratio]]] = {m.name: [] for m in self.metrics}
        self._failed: dict[str, dict[str, str]] = {metric.name: {} for metric in self.metrics}

    def add(self, clip: SpeechClip, estimates: Sequence[np.ndarray]) -> None:
        """Score a clip against its original.

        Args:
            clip: the original.
            estimates: (samples,) of each condition, always in the same order.
        """
        rows: dict[str, list[float | Ratio]] = {metric.name: [] for metric in self.metrics}
        for estimate in estimates:
            pair = Clip(clip.wave, estimate, self.sample_rate, clip.item.text, clip.item.language)
            scores, missing = score(pair, [m.name for m in self.metrics])
            for name, found in scores.items():
                rows[name].append(found)
            for name, reason in missing.items():
                self._failed[name].setdefault(clip.name, reason)
        for name, row in rows.items():
            if clip.name not in self._failed[name]:
                self._scores[name].append(row)

    def count(self, metric: Metric) -> int:
        """Number of clips in the means."""
        return len(self._scores[metric.name])

    def means(self, metric: Metric) -> np.ndarray:
        """Means (conditions,), see `mean`; empty if no clip has scores."""
        rows = self._scores[metric.name]
        return np.array([mean(condition) for condition in zip(*rows, strict=True)])

    def put_value(
        self, findings: Findings, metric: Metric, condition: int, name: str, heading: str
    ) -> None:
        """Add the mean of one condition to the findings, or why there is none."""
        means = self.means(metric)
        name = f"{metric.name}-{name}"
        if not len(means):
            reasons = self._failed[metric.name].values()
            findings.missing[name] = next(iter(reasons), "no clips")
            return
        findings.values.append(
            Value(
                name,
                f"{metric.heading}, {heading}",
                float(means[condition]),
                metric.higher_is_better,
                metric.unit,
                metric.digits,
                count=self.count(metric),
            )
        )

    def put_curve(
        self,
        findings: Findings,
        metric: Metric,
        conditions: Sequence[int],
        name: str,
        heading: str,
        axis: str,
        x: Sequence[float],
    ) -> None:
        """Add the means of some conditions as a curve, if there are any."""
        means = self.means(metric)
        if len(means):
            findings.curves.append(
                Curve(
                    f"{metric.name}-{name}" if name else metric.name,
                    f"{metric.heading}, {heading}",
                    axis,
                    tuple(map(float, x)),
                    tuple(means[list(conditions)].tolist()),
                    metric.unit,
                )
            )

    def notes(self) -> list[str]:
        """Return a sentence for each metric with missing clips."""
        return [
            f"{metric.heading}: {len(failed)} of {len(failed) + self.count(metric)} clips lack a "
            f"score under some condition and are left out of all ({', '.join(sorted(failed))}: "
            f"{next(iter(failed.values()))})."
            for metric in self.metrics
            if (failed := self._failed[metric.name])
        ]

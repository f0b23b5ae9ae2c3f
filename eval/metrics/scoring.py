"""Computing metrics of a reconstruction, with reasons for missing scores."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from ...audio.resampling import resample
from .catalogue import find
from .interface import Clip, Metric, MetricError, Ratio


def score(clip: Clip, names: Iterable[str]) -> tuple[dict[str, float | Ratio], dict[str, str]]:
    """Score a reconstruction.

    Args:
        clip: with its reference. If a metric is not defined at its rate, both signals are
            resampled by soxr, once for all metrics of one rate.
        names: of metrics, as for `catalogue.find`.

    Returns:
        By name, the scores that could be computed; and by name, the reasons for the others. For an
        unforeseen error of a package, the reason begins with the exception's type.

    Raises:
        UnknownMetricError: an unknown name.
    """
    scores: dict[str, float | Ratio] = {}
    missing: dict[str, str] = {}
    clips = {clip.sample_rate: clip}
    for name in names:
        try:
            metric = find(name)
        except MetricError as error:
            missing[name] = str(error)
            continue
        try:
            scores[metric.name] = _run(metric, clip, clips)
        except MetricError as error:
            missing[metric.name] = " ".join(str(error).split())
        except Exception as error:
            missing[metric.name] = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return scores, missing


def value(score: float | Ratio) -> float:
    """Return the score of one clip as a number: numerator over denominator of a ratio."""
    return score.numerator / score.denominator if isinstance(score, Ratio) else score


def mean(scores: Sequence[float | Ratio]) -> float:
    """Mean over clips; of ratios, total numerators over total denominators.

    Raises:
        MetricError: there are none.
    """
    if not scores:
        raise MetricError("a mean of no scores")
    pairs = [(s.numerator, s.denominator) if isinstance(s, Ratio) else (s, 1.0) for s in scores]
    numerators, denominators = zip(*pairs, strict=True)
    return math.fsum(numerators) / math.fsum(denominators)


def _run(metric: Metric, clip: Clip, clips: dict[int, Clip]) -> float | Ratio:
    if "text" in metric.needs and not (clip.text or "").strip():
        raise MetricError("no text to compare with")
    if "gpu" in metric.needs:
        import torch

        if not torch.cuda.is_available():
            raise MetricError("no CUDA device")
    rate = clip.sample_rate
    if metric.sample_rates and rate not in metric.sample_rates:
        rate = metric.sample_rates[0]
    if rate not in clips:
        signals = (resample(s, clip.sample_rate, rate) for s in (clip.reference, clip.estimate))
        reference, estimate = signals
        clips[rate] = replace(clip, reference=reference, estimate=estimate, sample_rate=rate)
    found = metric.compute(clips[rate])
    if isinstance(found, Ratio):
        whole = None if found.uncapped is None else float(found.uncapped)
        found = Ratio(float(found.numerator), float(found.denominator), whole)
        if not (math.isfinite(found.numerator) and 0 < found.denominator < math.inf):
            raise MetricError(f"{metric.name} gave {found.numerator} over {found.denominator}")
        return found
    found = float(found)
    if not math.isfinite(found):
        raise MetricError(f"{metric.name} gave {found}")
    return found

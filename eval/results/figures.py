"""Figures that follow from the items of a result: means and bitrates."""

from collections.abc import Iterable, Sequence

from .schema import ItemEntry, Score


def bitrate(items: Iterable[ItemEntry]) -> float | None:
    """Return bits per second over the items that have bits; None if none has."""
    spent = [
        (item.bits, item.seconds)
        for item in items
        if item.bits is not None and item.seconds is not None and item.error is None
    ]
    seconds = sum(length for _, length in spent)
    return sum(bits for bits, _ in spent) / seconds if seconds else None


def seconds_of(items: Iterable[ItemEntry]) -> float:
    """Return the duration of the items that were reconstructed."""
    return sum((item.seconds or 0.0 for item in items if item.error is None), 0.0)


def mean(scores: Sequence[Score]) -> float | None:
    """Return the mean of numbers, or the quotient of totals of pairs; None if there are none."""
    pairs = [score for score in scores if isinstance(score, tuple)]
    if pairs:
        below = sum(denominator for _, denominator in pairs)
        return sum(numerator for numerator, _ in pairs) / below if below else None
    numbers = [score for score in scores if not isinstance(score, tuple)]
    return sum(numbers) / len(numbers) if numbers else None

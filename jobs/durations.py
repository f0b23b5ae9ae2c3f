"""Percentiles of any number of durations in constant memory."""

import math

_LEAST = 1e-6  # seconds; what is shorter counts as this
_STEP = math.log(1.01)
_BINS = 2200  # up to 54 minutes


class Durations:
    """A histogram with bins 1 % wide, so that percentiles are exact to 1 %.

    Attributes:
        count: of durations added.
        total, longest: seconds.
    """

    def __init__(self) -> None:
        self._bins = [0] * _BINS
        self.count = 0
        self.total = self.longest = 0.0

    def add(self, seconds: float, times: int = 1) -> None:
        """Count a duration, as many times as it was met."""
        index = int(math.log(max(seconds, _LEAST) / _LEAST) / _STEP)
        self._bins[min(index, _BINS - 1)] += times
        self.count += times
        self.total += seconds * times
        self.longest = max(self.longest, seconds)

    def percentile(self, percent: float) -> float:
        """Seconds that so many percent of the durations do not exceed; 0 where there are none."""
        wanted = self.count * percent / 100
        passed = 0
        for index, count in enumerate(self._bins):
            passed += count
            if count and passed >= wanted:
                return min(_LEAST * math.exp((index + 1) * _STEP), self.longest)
        return 0.0

"""A distribution of durations that can be merged: sparse counts per bucket, and an exact sum in microseconds.

Adding is commutative, so that the result does not depend on the order in which the partitions of the log are read.
"""

from bisect import bisect_left

from msgspec import Struct

from ..metrics.quantiles import quantile
from .moments import SECOND, micros

BUCKETS = 90
BOUNDS_US = tuple(dict.fromkeys(round(100 * 1.28**index) for index in range(BUCKETS)))
"""Upper limits of the buckets in microseconds: 0.1 ms to four days, each 28 % above the one before; the error of an estimated
quantile is at most that."""


class DurationFigures(Struct, kw_only=True):
    """Figures of a distribution, in seconds."""

    count: int
    mean: float
    least: float
    p50: float
    p95: float
    p99: float
    most: float


class Spread(Struct, omit_defaults=True):
    """The distribution. `counts`: by index of the bucket; the last index is that of values above all bounds."""

    count: int = 0
    sum_us: int = 0
    least_us: int = 0
    most_us: int = 0
    counts: dict[int, int] = {}

    def add(self, seconds: float) -> None:
        """Add one value."""
        value = max(0, micros(seconds))
        index = bisect_left(BOUNDS_US, value)
        self.counts[index] = self.counts.get(index, 0) + 1
        self.least_us = min(self.least_us, value) if self.count else value
        self.most_us = max(self.most_us, value)
        self.sum_us += value
        self.count += 1

    def merge(self, other: "Spread") -> None:
        """Add all values of `other`."""
        if not other.count:
            return
        for index, count in other.counts.items():
            self.counts[index] = self.counts.get(index, 0) + count
        self.least_us = min(self.least_us, other.least_us) if self.count else other.least_us
        self.most_us = max(self.most_us, other.most_us)
        self.sum_us += other.sum_us
        self.count += other.count

    def quantile(self, share: float) -> float:
        """The estimated quantile in seconds, between the least and the greatest value; 0 if there are no values."""
        counts = [self.counts.get(index, 0) for index in range(len(BOUNDS_US) + 1)]
        found = quantile(share, BOUNDS_US, counts, float(self.most_us))
        return 0.0 if found is None else max(found, self.least_us) / SECOND

    def figures(self) -> DurationFigures | None:
        """The figures; None if there are no values."""
        if not self.count:
            return None
        p50, p95, p99 = (self.quantile(share) for share in (0.5, 0.95, 0.99))
        return DurationFigures(
            count=self.count,
            mean=self.sum_us / self.count / SECOND,
            least=self.least_us / SECOND,
            p50=p50,
            p95=p95,
            p99=p99,
            most=self.most_us / SECOND,
        )

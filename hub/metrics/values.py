"""The values behind instruments, as plain data: `Counter`, `Gauge`, `Histogram`. They need no registry and no lock.

Thread rule: each value is written by one thread. Other threads may read it at any time; what they read of a histogram may miss
the measurement that is just being recorded.
"""

import re
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable
from math import inf, isfinite
from typing import ClassVar, NamedTuple

from .exponential import ExponentialBuckets

_TRACE_ID = re.compile(r"[0-9a-f]{32}")


class Counter:
    """A total that only grows."""

    __slots__ = ("_source", "value")

    def __init__(self) -> None:
        self.value = 0.0
        self._source = 0.0

    def add(self, amount: float = 1) -> None:
        """Add `amount`. Raises ValueError if it is negative or not finite."""
        if not 0 <= amount < inf:
            raise ValueError(f"amount: a counter cannot be changed by {amount}")
        self.value += amount

    def follow(self, total: float) -> None:
        """Take over a total that is counted elsewhere; one that is lower than the last began again from 0. Do not also `add`."""
        self.add(total - self._source if total >= self._source else total)
        self._source = total


class Gauge:
    """A value that grows and shrinks."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def set(self, value: float) -> None:
        """Replace the value. Raises ValueError if it is not finite."""
        if not isfinite(value):
            raise ValueError(f"value: a gauge cannot be set to {value}")
        self.value = value

    def add(self, amount: float) -> None:
        """Change the value by `amount`. Raises ValueError if it is not finite."""
        self.set(self.value + amount)


class Exemplar(NamedTuple):
    """A recorded value and the trace of its cause: `trace_id` has 32 hexadecimal digits; `at_ns`: when, since the epoch."""

    value: float
    trace_id: str
    at_ns: int


class Histogram:
    """A distribution: the number of values up to each of the ascending `bounds`, and above the last one.

    `counts` has one number per bound and one more. `exemplars` has the latest exemplar of each bucket by its index. `lowest` and
    `highest` are infinite while `count` is 0. `wall_clock_ns` is the time of exemplars.

    `with_exponential`: histograms that are created later also count in exponential buckets (`exponential`, else None). The
    process sets it at its start, before it creates any."""

    __slots__ = ("_wall_clock_ns", "bounds", "count", "counts", "exemplars", "exponential", "highest", "lowest", "sum")
    with_exponential: ClassVar[bool] = False

    def __init__(self, bounds: Iterable[float], wall_clock_ns: Callable[[], int] = time.time_ns) -> None:
        self.bounds = tuple(map(float, bounds))
        if not self.bounds or any(not isfinite(one) for one in self.bounds) or list(self.bounds) != sorted(set(self.bounds)):
            raise ValueError(f"bounds: finite ascending numbers are required, got {self.bounds}")
        self.counts = [0] * (len(self.bounds) + 1)
        self.count = 0
        self.sum = 0.0
        self.lowest, self.highest = inf, -inf
        self.exemplars: dict[int, Exemplar] = {}
        self.exponential = ExponentialBuckets() if Histogram.with_exponential else None
        self._wall_clock_ns = wall_clock_ns

    def record(self, value: float, exemplar_trace_id: str | None = None) -> None:
        """Record one value, with the trace id (32 hexadecimal digits) of its cause. Raises ValueError if the value is not finite
        or the trace id has another form."""
        if not isfinite(value):
            raise ValueError(f"value: {value} cannot be recorded")
        index = bisect_left(self.bounds, value)
        if exemplar_trace_id is not None:
            if not _TRACE_ID.fullmatch(exemplar_trace_id):
                raise ValueError(f"exemplar_trace_id: 32 hexadecimal digits are required, got {exemplar_trace_id[:64]!r}")
            self.exemplars[index] = Exemplar(value, exemplar_trace_id, self._wall_clock_ns())
        if self.exponential is not None:
            self.exponential.record(value)
        self.counts[index] += 1
        self.count += 1
        self.sum += value
        if value < self.lowest:
            self.lowest = value
        if value > self.highest:
            self.highest = value

    def merge(self, other: "Histogram") -> None:
        """Add all values of `other`. Raises ValueError if it has other bounds."""
        if other.bounds != self.bounds:
            raise ValueError(f"bounds: {other.bounds} differ from {self.bounds}")
        self.counts = [mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)]
        if self.exponential is not None and other.exponential is not None:
            self.exponential.add(other.exponential)
        self.count += other.count
        self.sum += other.sum
        self.lowest, self.highest = min(self.lowest, other.lowest), max(self.highest, other.highest)
        for index, theirs in other.exemplars.items():
            mine = self.exemplars.get(index)
            if mine is None or mine.at_ns <= theirs.at_ns:
                self.exemplars[index] = theirs

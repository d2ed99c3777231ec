"""Exponential histograms: buckets whose bounds follow from the values, with a relative error of a few percent for any range.

Bucket `index` at `scale` holds the values above `base ** index` up to `base ** (index + 1)`, where `base` is `2 ** 2 ** -scale`.
There are at most BUCKETS_MAX per sign: when a value does not fit, the scale is lowered, which merges neighbouring buckets.

Source: OpenTelemetry, "Metrics Data Model", ExponentialHistogram (base 2, upper bounds inclusive); the size and the first scale
are those of the "Base2 Exponential Bucket Histogram Aggregation" of its SDK specification.

Thread rule: as in `values.py`: one thread writes, others may read.
"""

from collections.abc import Iterable, Mapping
from math import floor, frexp, ldexp, log

from msgspec import Struct

BUCKETS_MAX = 160
SCALE_MAX = 20
_LOG2_E = 1.4426950408889634
Buckets = dict[int, int]


class ExponentialPoint(Struct, frozen=True, array_like=True):
    """The values of an exponential histogram: those that are 0, and per sign the index of the first bucket and the number of
    values in each bucket from it on."""

    scale: int = SCALE_MAX
    zeros: int = 0
    offset: int = 0
    counts: tuple[int, ...] = ()
    negative_offset: int = 0
    negative_counts: tuple[int, ...] = ()

    @property
    def count(self) -> int:
        """The number of values."""
        return self.zeros + sum(self.counts) + sum(self.negative_counts)


def index_of(value: float, scale: int) -> int:
    """The bucket of a positive value."""
    fraction, exponent = frexp(value)
    is_power_of_two = fraction == 0.5
    if scale <= 0:
        return (exponent - 1 - is_power_of_two) >> -scale
    if is_power_of_two:  # where the logarithm may be wrong by one: it is the upper bound of its bucket
        return ((exponent - 1) << scale) - 1
    return floor(log(value) * ldexp(_LOG2_E, scale))


class ExponentialBuckets:
    """Counts values. The scale starts at SCALE_MAX."""

    __slots__ = ("_scaled", "zeros")

    def __init__(self) -> None:
        self.zeros = 0
        self._scaled: tuple[int, Buckets, Buckets] = (SCALE_MAX, {}, {})
        """Scale, buckets of positive and of negative values: replaced together, so that a reader finds what belongs together."""

    def record(self, value: float) -> None:
        """Count a finite value."""
        if not value:
            self.zeros += 1
            return
        scale, positive, negative = self._scaled
        buckets = positive if value > 0 else negative
        index = index_of(abs(value), scale)
        if index not in buckets and (shift := _shift_for((*buckets, index))):
            self._scaled = scale, positive, negative = scale - shift, _downscaled(positive, shift), _downscaled(negative, shift)
            buckets, index = positive if value > 0 else negative, index >> shift
        buckets[index] = buckets.get(index, 0) + 1

    def point(self) -> ExponentialPoint:
        """The present values."""
        scale, positive, negative = self._scaled
        return _point(scale, self.zeros, positive.copy(), negative.copy())

    def add(self, other: "ExponentialBuckets") -> None:
        """Add all values of `other`."""
        both = merged_points(self.point(), other.point())
        self.zeros = both.zeros
        self._scaled = both.scale, *_buckets_of(both)


def merged_points(first: ExponentialPoint, second: ExponentialPoint) -> ExponentialPoint:
    """The values of both."""
    scale = min(first.scale, second.scale)
    sums: tuple[Buckets, Buckets] = ({}, {})
    for point in (first, second):
        for total, buckets in zip(sums, _buckets_of(point), strict=True):
            for index, count in _downscaled(buckets, point.scale - scale).items():
                total[index] = total.get(index, 0) + count
    shift = max(_shift_for(total) for total in sums)
    positive, negative = (_downscaled(total, shift) for total in sums)
    return _point(scale - shift, first.zeros + second.zeros, positive, negative)


def _point(scale: int, zeros: int, positive: Buckets, negative: Buckets) -> ExponentialPoint:
    return ExponentialPoint(scale, zeros, *_dense(positive), *_dense(negative))


def _dense(buckets: Mapping[int, int]) -> tuple[int, tuple[int, ...]]:
    if not buckets:
        return 0, ()
    lowest = min(buckets)
    return lowest, tuple(buckets.get(index, 0) for index in range(lowest, max(buckets) + 1))


def _buckets_of(point: ExponentialPoint) -> tuple[Buckets, Buckets]:
    both = ((point.offset, point.counts), (point.negative_offset, point.negative_counts))
    positive, negative = ({offset + at: count for at, count in enumerate(counts) if count} for offset, counts in both)
    return positive, negative


def _shift_for(indexes: Iterable[int]) -> int:
    """By how much the scale must be lowered so that BUCKETS_MAX buckets hold these indexes."""
    lowest, highest = min(indexes, default=0), max(indexes, default=0)
    shift = 0
    while (highest >> shift) - (lowest >> shift) >= BUCKETS_MAX:
        shift += 1
    return shift


def _downscaled(buckets: Mapping[int, int], shift: int) -> Buckets:
    merged: Buckets = {}
    for index, count in buckets.items():
        merged[index >> shift] = merged.get(index >> shift, 0) + count
    return merged

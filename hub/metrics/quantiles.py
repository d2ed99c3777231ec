"""Figures of distributions: quantiles, averages and rates from the buckets of histograms, as `hub stats` and status pages show.

Quantiles are estimated by linear interpolation within a bucket, as in Prometheus's `histogram_quantile`.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from msgspec import structs

from .snapshot import InstrumentSamples, MetricsSnapshot, Point


def quantile(share: float, bounds: Sequence[float], counts: Sequence[int], highest: float | None = None) -> float | None:
    """The estimated quantile of a histogram; None if it is empty. `share`: 0 to 1; `counts`: per bucket, one more than `bounds`.

    A quantile in the last bucket, which has no upper bound, is `highest`, or the last bound if that is unknown; no quantile is
    above `highest`. The lower bound of the first bucket is 0 if its upper bound is positive, else the upper bound."""
    if not 0 <= share <= 1:
        raise ValueError(f"share: must be between 0 and 1, got {share}")
    total = sum(counts)
    if not total:
        return None
    rank, before = share * total, 0
    for index, upper in enumerate(bounds):
        if counts[index] and before + counts[index] >= rank:
            lower = bounds[index - 1] if index else min(0.0, upper)
            value = lower + (upper - lower) * (rank - before) / counts[index]
            return value if highest is None else min(value, highest)
        before += counts[index]
    return bounds[-1] if highest is None else highest


@dataclass(frozen=True, slots=True)
class DistributionFigures:
    """Figures of one distribution in the unit of its instrument. `rate`: values per second. `highest`: None if it is unknown (see
    `window`)."""

    count: int
    rate: float
    mean: float
    p50: float
    p95: float
    p99: float
    highest: float | None


def figures(snapshots: Iterable[MetricsSnapshot], name: str, by: Sequence[str]) -> dict[tuple[str, ...], DistributionFigures]:
    """Figures of the histogram `name` by the values of the labels `by`, over all processes and all other labels, since the start
    of the processes (or for the time of a `window`).

    Raises ValueError if the histogram does not have one of the labels, or processes have different bounds."""
    groups: dict[tuple[str, ...], list[Point]] = {}
    bounds: set[tuple[float, ...]] = set()
    seconds = 0.0
    for snapshot in snapshots:
        seconds = max(seconds, (snapshot.taken_ns - snapshot.started_ns) / 1e9)
        samples = snapshot.instrument(name)
        if samples is not None:
            bounds.add(samples.bounds)
            for key, point in _by(samples, by):
                groups.setdefault(key, []).append(point)
    if len(bounds) > 1:
        raise ValueError(f"{name}: processes have different bounds")
    return {
        key: _figures(points, next(iter(bounds)), seconds) for key, points in groups.items() if any(map(sum, _counts(points)))
    }


def _by(samples: InstrumentSamples, by: Sequence[str]) -> Iterator[tuple[tuple[str, ...], Point]]:
    unknown = [label for label in by if label not in samples.labels]
    if unknown:
        raise ValueError(f"by: {samples.name} has the labels {', '.join(samples.labels)}, not {unknown[0]}")
    at = [samples.labels.index(label) for label in by]
    for point in samples.points:
        yield tuple(point.labels[index] for index in at), point


def _counts(points: Sequence[Point]) -> list[tuple[int, ...]]:
    return [point.counts for point in points]


def _figures(points: Sequence[Point], bounds: Sequence[float], seconds: float) -> DistributionFigures:
    counts = [sum(bucket) for bucket in zip(*_counts(points), strict=True)]
    total = sum(counts)
    filled = [point for point in points if point.count]
    highests = [point.highest for point in filled if point.highest is not None]
    highest = max(highests) if len(highests) == len(filled) else None
    p50, p95, p99 = (quantile(share, bounds, counts, highest) or 0.0 for share in (0.5, 0.95, 0.99))
    rate = total / seconds if seconds > 0 else 0.0
    return DistributionFigures(total, rate, sum(point.value for point in filled) / total, p50, p95, p99, highest)


def window(earlier: MetricsSnapshot, now: MetricsSnapshot) -> MetricsSnapshot:
    """What counters and histograms counted between two snapshots of one process; gauges and updowns are those of `now`. If the
    process was restarted in between: since its start.

    The highest value in the window is known only if it is the highest since the start."""
    if earlier.started_ns != now.started_ns:
        return now
    before = {samples.name: {point.labels: point for point in samples.points} for samples in earlier.instruments}
    instruments = tuple(
        structs.replace(
            samples, points=tuple(_minus(point, before.get(samples.name, {}).get(point.labels)) for point in samples.points)
        )
        if samples.kind in ("counter", "histogram")
        else samples
        for samples in now.instruments
    )
    return structs.replace(now, started_ns=earlier.taken_ns, instruments=instruments)


def _minus(now: Point, before: Point | None) -> Point:
    if before is None:
        return now
    counts = tuple(new - old for new, old in zip(now.counts, before.counts, strict=True))
    highest = now.highest if before.highest is None or (now.highest is not None and now.highest > before.highest) else None
    return Point(now.labels, now.value - before.value, counts, highest=highest, exemplars=now.exemplars)

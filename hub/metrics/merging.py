"""Snapshots of several processes as one: a process that has other processes publishes their metrics with its own."""

from collections.abc import Iterable
from math import isfinite

from msgspec import structs

from schemas.instruments import INSTRUMENTS, NAME, Instrument

from .exponential import BUCKETS_MAX, SCALE_MAX, ExponentialPoint, merged_points
from .plugins import OWN_INSTRUMENTS_MAX, SUBSCRIBER, check_name, check_unit
from .series import SERIES_MAX
from .snapshot import InstrumentSamples, MetricsSnapshot, Point

#: Instruments of the catalogue that the process of a subscriber writes, besides those from events.
OF_SUBSCRIBERS = (
    "hub.subscriber.delivery.duration",
    *(name for name, instrument in INSTRUMENTS.items() if instrument.origin == "subscriber"),
)


def merged(own: MetricsSnapshot, others: Iterable[MetricsSnapshot]) -> MetricsSnapshot:
    """`own` with the series of `others`. Values of the same series are added, except those of gauges: the last one is taken. An
    instrument that is declared differently in another snapshot is left out of that."""
    found = {samples.name: samples for samples in own.instruments}
    for other in others:
        for samples in other.instruments:
            known = found.get(samples.name)
            if known is None:
                found[samples.name] = samples
            elif _form(known) == _form(samples):
                found[samples.name] = structs.replace(known, points=_added(known, samples))
    return structs.replace(own, instruments=tuple(found.values()))


def totals(snapshot: MetricsSnapshot) -> MetricsSnapshot:
    """What remains of a process that has ended: its counters and histograms."""
    kept = tuple(samples for samples in snapshot.instruments if samples.kind in ("counter", "histogram"))
    return structs.replace(snapshot, instruments=kept)


def of_subscriber(snapshot: MetricsSnapshot, subscriber_id: str) -> MetricsSnapshot:
    """The instruments of a snapshot that a subscriber can have: its own, with its id, and those that it writes for the hub. The
    others are left out: the code of a plugin can send any snapshot."""
    kept = [samples for samples in snapshot.instruments if _is_sound(samples) and _may_write(samples, subscriber_id)]
    return structs.replace(snapshot, instruments=tuple(kept[: OWN_INSTRUMENTS_MAX + len(INSTRUMENTS)]), constant={})


def _form(samples: InstrumentSamples) -> tuple[object, ...]:
    return samples.kind, samples.unit, samples.labels, samples.bounds


def _added(known: InstrumentSamples, more: InstrumentSamples) -> tuple[Point, ...]:
    points = {point.labels: point for point in known.points}
    for point in more.points:
        before = points.get(point.labels)
        points[point.labels] = point if before is None or known.kind == "gauge" else _sum(before, point)
    return tuple(points.values())


def _sum(first: Point, second: Point) -> Point:
    counts = tuple(map(sum, zip(first.counts, second.counts, strict=True)))
    lows = [point.lowest for point in (first, second) if point.lowest is not None]
    highs = [point.highest for point in (first, second) if point.highest is not None]
    exemplars = {one.bucket: one for one in sorted((*first.exemplars, *second.exemplars), key=lambda one: one.at_ns)}
    return Point(
        first.labels,
        first.value + second.value,
        counts,
        min(lows, default=None),
        max(highs, default=None),
        tuple(exemplars[bucket] for bucket in sorted(exemplars)),
        None if first.exponential is None or second.exponential is None else merged_points(first.exponential, second.exponential),
    )


def _is_sound(samples: InstrumentSamples) -> bool:
    """Whether every value and label is of the declared form."""
    buckets = len(samples.bounds) + 1 if samples.kind == "histogram" else 0
    return len(samples.points) <= SERIES_MAX + 1 and all(
        len(point.labels) == len(samples.labels)
        and len(point.counts) == buckets
        and isfinite(point.value)
        and all(0 <= one.bucket < buckets for one in point.exemplars)
        and _is_bounded(point.exponential)
        for point in samples.points
    )


def _is_bounded(point: ExponentialPoint | None) -> bool:
    """Whether buckets, of which a process may have sent any, can be merged."""
    return point is None or (
        abs(point.scale) <= SCALE_MAX
        and max(len(point.counts), len(point.negative_counts)) <= BUCKETS_MAX
        and max(abs(point.offset), abs(point.negative_offset)) < 1 << 31
    )


def _may_write(samples: InstrumentSamples, subscriber_id: str) -> bool:
    name, kind, unit, labels, bounds = samples.name, samples.kind, samples.unit, samples.labels, samples.bounds
    known = INSTRUMENTS.get(name)
    if known is not None and known.origin == "events":
        return _is_like(samples, known)
    if not labels or labels[0] != SUBSCRIBER or any(point.labels[0] != subscriber_id for point in samples.points):
        return False
    if known is not None:
        return name in OF_SUBSCRIBERS and _is_like(samples, known)
    try:
        check_name(name)
        check_unit(name, unit)
    except ValueError:
        return False
    in_order = all(map(isfinite, bounds)) and list(bounds) == sorted(set(bounds)) and bool(bounds) == (kind == "histogram")
    return in_order and all(NAME.fullmatch(label) and "." not in label for label in labels)


def _is_like(samples: InstrumentSamples, known: Instrument) -> bool:
    return _form(samples) == (known.kind, known.unit, known.labels, known.bounds)

"""Snapshots as text for Prometheus: the text format 0.0.4, and OpenMetrics 1.0, which also has units and exemplars.

Sources: "Exposition formats" in Prometheus's documentation, and the OpenMetrics 1.0.0 specification.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from schemas.instruments import prometheus_name, unit_suffix

from ..logs import Logger
from ..throttle import LogThrottle
from .snapshot import ExemplarPoint, InstrumentSamples, MetricsSnapshot, Point

TEXT_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS_CONTENT_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"

log = Logger(__name__)
_throttle = LogThrottle(600.0)

_TYPES = {"counter": "counter", "updown": "gauge", "gauge": "gauge", "histogram": "histogram"}
_ESCAPED = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})
_ESCAPED_HELP = str.maketrans({"\\": r"\\", "\n": r"\n"})


class Exposition(NamedTuple):
    """A response to a scrape: the text, and its media type."""

    text: str
    content_type: str


def exposition(snapshots: Iterable[MetricsSnapshot], accept: str = "") -> Exposition:
    """The snapshots of one or several processes in the format that a scraper accepts: `accept` is the header of its request.

    Each instrument has one HELP and TYPE; the series of a process have its constant labels, which should distinguish it. If
    processes use one name for instruments of different kinds or units, the first kind is written and a warning is logged."""
    if "application/openmetrics-text" in accept.lower():
        return Exposition(openmetrics(snapshots), OPENMETRICS_CONTENT_TYPE)
    return Exposition(text(snapshots), TEXT_CONTENT_TYPE)


def text(snapshots: Iterable[MetricsSnapshot]) -> str:
    """The snapshots in the text format 0.0.4."""
    lines: list[str] = []
    for family in _families(snapshots):
        name = family.prometheus_name
        lines += (f"# HELP {name} {_help(family, _ESCAPED_HELP)}", f"# TYPE {name} {_TYPES[family.head.kind]}")
        lines += _samples(family, exemplars=False)
    return "\n".join([*lines, ""]) if lines else ""


def openmetrics(snapshots: Iterable[MetricsSnapshot]) -> str:
    """The snapshots in OpenMetrics 1.0, with the exemplars of histograms."""
    lines: list[str] = []
    for family in _families(snapshots):
        name = _family_name(family.head)
        lines.append(f"# TYPE {name} {_TYPES[family.head.kind]}")
        if unit := unit_suffix(family.head.unit):
            lines.append(f"# UNIT {name} {unit}")
        lines.append(f"# HELP {name} {_help(family, _ESCAPED)}")
        lines += _samples(family, exemplars=True)
    return "\n".join([*lines, "# EOF", ""])


# Instruments of several processes


class _Family(NamedTuple):
    """An instrument, and its samples in each process with the constant labels of that process, as text."""

    head: InstrumentSamples
    members: list[tuple[InstrumentSamples, str]]

    @property
    def prometheus_name(self) -> str:
        return prometheus_name(self.head.name, self.head.unit, self.head.kind)


def _family_name(samples: InstrumentSamples) -> str:
    """The name in OpenMetrics, where the ending of counters is not part of it."""
    return prometheus_name(samples.name, samples.unit, samples.kind).removesuffix("_total")


def _families(snapshots: Iterable[MetricsSnapshot]) -> Sequence[_Family]:
    families: dict[str, _Family] = {}
    for snapshot in snapshots:
        constant = _pairs(snapshot.constant.items())
        for samples in snapshot.instruments:
            if samples.points:
                family = families.setdefault(_family_name(samples), _Family(samples, []))
                if (samples.kind, samples.unit) == (family.head.kind, family.head.unit):
                    family.members.append((samples, constant))
                else:
                    _conflict(family.head, samples, snapshot.constant)
    return [families[name] for name in sorted(families)]


def _conflict(written: InstrumentSamples, other: InstrumentSamples, constant: Mapping[str, str]) -> None:
    if _throttle.admit("conflict") is not None:
        about = f"{other.kind} in {other.unit!r}, not {written.kind} in {written.unit!r}"
        event = "an instrument is not exposed: it has different kinds or units in different processes"
        log.warning(event, action="metrics_conflict", instrument=other.name, is_a=about, process=str(dict(constant)))


# Samples


def _samples(family: _Family, *, exemplars: bool) -> Iterator[str]:
    name = family.prometheus_name
    for samples, constant in family.members:
        for point in samples.points:
            pairs = ",".join(part for part in (constant, _pairs(zip(samples.labels, point.labels, strict=True))) if part)
            if samples.kind == "histogram":
                yield from _histogram(name, pairs, samples, point, exemplars=exemplars)
            else:
                yield f"{name}{_braced(pairs)} {_number(point.value)}"


def _histogram(name: str, pairs: str, samples: InstrumentSamples, point: Point, *, exemplars: bool) -> Iterator[str]:
    exemplar_of = {one.bucket: one for one in point.exemplars} if exemplars else {}
    before, cumulative = pairs and f"{pairs},", 0
    for index, count in enumerate(point.counts):
        cumulative += count
        bound = repr(samples.bounds[index]) if index < len(samples.bounds) else "+Inf"
        yield f'{name}_bucket{{{before}le="{bound}"}} {cumulative}{_exemplar(exemplar_of.get(index))}'
    yield f"{name}_sum{_braced(pairs)} {_number(point.value)}"
    yield f"{name}_count{_braced(pairs)} {cumulative}"


def _exemplar(one: ExemplarPoint | None) -> str:
    return "" if one is None else f' # {{trace_id="{one.trace_id}"}} {_number(one.value)} {one.at_ns / 1e9:.3f}'


def _pairs(labels: Iterable[tuple[str, str]]) -> str:
    return ",".join(f'{name}="{value.translate(_ESCAPED)}"' for name, value in labels if value)


def _braced(pairs: str) -> str:
    return f"{{{pairs}}}" if pairs else ""


def _help(family: _Family, escaped: Mapping[int, str]) -> str:
    return family.head.description.translate(escaped)


def _number(value: float) -> str:
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)

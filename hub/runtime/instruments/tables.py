"""Series of one instrument whose labels come and go."""

from collections.abc import Callable, Iterable, Mapping

from schemas.instruments import INSTRUMENTS

from ...metrics import Registry
from ...metrics.series import OTHER, SERIES_MAX

Key = tuple[str, ...]


class GaugeTable:
    """The gauges of an instrument by the values of its labels. Beyond `series_max` of them the smallest ones are combined to one,
    whose labels are "other", by `combine` (sum, or max for ages)."""

    def __init__(
        self,
        registry: Registry,
        name: str,
        combine: Callable[[Iterable[float]], float] = sum,
        *,
        series_max: int = SERIES_MAX,
    ) -> None:
        self._registry, self._name, self._combine = registry, name, combine
        self._labels = INSTRUMENTS[name].labels
        self._series_max = series_max
        self._shown: set[Key] = set()

    def show(self, values: Mapping[Key, float]) -> None:
        """Set the series to these values, and remove all others."""
        present = self._bounded(values)
        for gone in self._shown.difference(present):
            self._registry.forget(self._name, **dict(zip(self._labels, gone, strict=True)))
        for key, value in present.items():
            self._registry.gauge(self._name, **dict(zip(self._labels, key, strict=True))).set(value)
        self._shown = set(present)

    def _bounded(self, values: Mapping[Key, float]) -> dict[Key, float]:
        if len(values) <= self._series_max:
            return dict(values)
        largest = sorted(values, key=values.__getitem__, reverse=True)
        kept, rest = largest[: self._series_max - 1], largest[self._series_max - 1 :]
        other = (OTHER,) * len(self._labels)
        return {key: values[key] for key in kept if key != other} | {other: self._combine(values[key] for key in rest)}


class TotalTable:
    """The counters of an instrument by the values of its labels. Those beyond the first `series_max` are counted in one, whose
    labels are "other"."""

    def __init__(self, registry: Registry, name: str, *, series_max: int = SERIES_MAX) -> None:
        self._registry, self._name = registry, name
        self._labels = INSTRUMENTS[name].labels
        self._series_max = series_max
        self._known: set[Key] = set()

    def show(self, totals: Mapping[Key, float]) -> None:
        """Take over these totals."""
        sums: dict[Key, float] = {}
        other = (OTHER,) * len(self._labels)
        for key, total in totals.items():
            if key not in self._known and len(self._known) < self._series_max - 1:
                self._known.add(key)
            place = key if key in self._known else other
            sums[place] = sums.get(place, 0) + total
        for key, total in sums.items():
            self._registry.counter(self._name, **dict(zip(self._labels, key, strict=True))).follow(total)

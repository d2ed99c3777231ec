"""The series of one instrument: a value per combination of label values, up to a limit."""

from collections.abc import Callable, Mapping
from math import isfinite
from threading import Lock

from schemas.instruments import Instrument

from .snapshot import ExemplarPoint, InstrumentSamples, Point
from .values import Counter, Gauge, Histogram

Value = Counter | Gauge | Histogram

#: Series per instrument.
SERIES_MAX = 1_000
#: Longer values of labels are truncated.
LABEL_CHARACTERS_MAX = 255
#: The value of every label of the series that counts what is beyond the limit.
OTHER = "other"

Key = tuple[str, ...]


class SeriesTable:
    """The values of one instrument by the values of its labels, in their declared order. `overflowed`: how often a series was
    requested that could not be created, because there are `series_max`."""

    def __init__(self, instrument: Instrument, series_max: int, wall_clock_ns: Callable[[], int]) -> None:
        self.instrument = instrument
        self.overflowed = 0
        self._series_max = series_max
        self._wall_clock_ns = wall_clock_ns
        self._names = frozenset(instrument.labels)
        self._other: Key = (OTHER,) * len(instrument.labels)
        self._values: dict[Key, Value] = {}
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._values)

    def key_of(self, labels: Mapping[str, str | int]) -> Key:
        """The values of the labels in their order. Raises ValueError if the names are not those of the instrument."""
        if labels.keys() != self._names:
            names = ", ".join(self.instrument.labels) or "none"
            raise ValueError(f"{self.instrument.name}: its labels are {names}, not {', '.join(labels) or 'none'}")
        return tuple(str(labels[name])[:LABEL_CHARACTERS_MAX] for name in self.instrument.labels)

    def value(self, labels: Mapping[str, str | int]) -> Value:
        """The value of these labels; beyond the limit that of the labels "other"."""
        key = self.key_of(labels)
        value = self._values.get(key)
        if value is not None:
            return value
        with self._lock:
            return self._created(self._admitted(key))

    def replace(self, key: Key, value: Value) -> None:
        """Make `value` the series of `key`; beyond the limit that of the labels "other"."""
        with self._lock:
            self._values[self._admitted(key)] = value

    def remove(self, key: Key) -> None:
        """Remove the series of `key`, if it exists."""
        with self._lock:
            self._values.pop(key, None)

    def _admitted(self, key: Key) -> Key:
        if key in self._values or key == self._other or len(self._values) - (self._other in self._values) < self._series_max:
            return key
        self.overflowed += 1
        return self._other

    def _created(self, key: Key) -> Value:
        value = self._values.get(key)
        if value is None:
            value = self._values[key] = self._new()
        return value

    def _new(self) -> Value:
        kind = self.instrument.kind
        if kind == "counter":
            return Counter()
        return Histogram(self.instrument.bounds, self._wall_clock_ns) if kind == "histogram" else Gauge()

    def samples(self) -> InstrumentSamples:
        """The present values."""
        name, kind, unit, labels, description, _, bounds = self.instrument
        with self._lock:
            values = list(self._values.items())
        points = tuple(_point(key, value) for key, value in values)
        return InstrumentSamples(name, kind, unit, labels, description, points, bounds)


def _point(key: Key, value: Value) -> Point:
    if not isinstance(value, Histogram):
        return Point(key, float(value.value))
    exemplars = tuple(
        ExemplarPoint(index, float(one.value), one.trace_id, one.at_ns) for index, one in sorted(value.exemplars.copy().items())
    )
    lowest, highest = (float(one) if isfinite(one) else None for one in (value.lowest, value.highest))
    exponential = None if value.exponential is None else value.exponential.point()
    return Point(key, float(value.sum), tuple(value.counts), lowest, highest, exemplars, exponential)

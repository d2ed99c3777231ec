"""The metrics of a subscriber (`ctx.metrics`): its own instruments, and those of the catalogue that are written from events or by
subscribers."""

import re
from collections.abc import Sequence

from schemas.instruments import INSTRUMENTS, NAME, RESERVED_LABELS, WAIT_BOUNDS, Instrument, unit_suffix

from .registry import Registry
from .series import LABEL_CHARACTERS_MAX
from .values import Counter, Gauge, Histogram

#: Instruments of its own that one subscriber may have.
OWN_INSTRUMENTS_MAX = 100
#: The label that instruments of subscribers get.
SUBSCRIBER = "subscriber"
#: Endings that Prometheus adds to names: a name with one of them could be that of two series.
SUFFIXES = frozenset({"total", "count", "sum", "bucket", "info", "created"})
_COUNTED = re.compile(r"\{[a-z]{1,62}\}")


class PluginMetrics:
    """The instruments of one subscriber in the registry of its process: implements `subscribers.api.metrics.Metrics`.

    Its own instruments have the label `subscriber` with its id, so that no other subscriber writes their series. An instrument of
    the catalogue whose origin is `events` belongs to the first subscriber that requests it: if two counted the same events, every
    event would be counted twice. One whose origin is `subscriber` has its id as a label, too. To be used from the subscriber's
    thread."""

    def __init__(self, registry: Registry, subscriber_id: str) -> None:
        self._registry = registry
        self._id = subscriber_id
        self._own: set[str] = set()

    def counter(self, name: str, /, *, unit: str = "", description: str = "", **labels: str | int) -> Counter:
        """A total that only grows. See `subscribers.api.metrics.Metrics`."""
        if name in INSTRUMENTS:
            return self._registry.counter(name, **self._labels(INSTRUMENTS[name], labels))
        value = self._series(Instrument(name, "counter", unit, (), description), labels)
        assert isinstance(value, Counter)
        return value

    def gauge(self, name: str, /, *, unit: str = "", description: str = "", **labels: str | int) -> Gauge:
        """A value that grows and shrinks. See `subscribers.api.metrics.Metrics`."""
        if name in INSTRUMENTS:
            return self._registry.gauge(name, **self._labels(INSTRUMENTS[name], labels))
        value = self._series(Instrument(name, "gauge", unit, (), description), labels)
        assert isinstance(value, Gauge)
        return value

    def histogram(
        self, name: str, /, *, unit: str = "", description: str = "", bounds: Sequence[float] = WAIT_BOUNDS, **labels: str | int
    ) -> Histogram:
        """A distribution. See `subscribers.api.metrics.Metrics`."""
        if name in INSTRUMENTS:
            return self._registry.histogram(name, **self._labels(INSTRUMENTS[name], labels))
        value = self._series(Instrument(name, "histogram", unit, (), description, None, tuple(map(float, bounds))), labels)
        assert isinstance(value, Histogram)
        return value

    def _labels(self, instrument: Instrument, labels: dict[str, str | int]) -> dict[str, str | int]:
        """The labels of a series of an instrument of the catalogue."""
        if instrument.origin == "subscriber":
            return {**labels, SUBSCRIBER: self._id}
        if instrument.origin != "events":
            raise ValueError(f"{instrument.name}: it is written by the hub ({instrument.origin}), not by subscribers")
        self._registry.claim(instrument.name, self._id)
        return labels

    def _series(self, unlabelled: Instrument, labels: dict[str, str | int]) -> Counter | Gauge | Histogram:
        instrument = unlabelled._replace(labels=(SUBSCRIBER, *sorted(labels)))
        if instrument.name not in self._own:
            self._check(instrument)
        series = self._registry.declare(instrument).value({SUBSCRIBER: self._id, **labels})
        self._own.add(instrument.name)
        return series

    def _check(self, instrument: Instrument) -> None:
        check_name(instrument.name)
        check_unit(instrument.name, instrument.unit)
        taken = {SUBSCRIBER, *RESERVED_LABELS, *self._registry.constant}
        for label in instrument.labels[1:]:
            if not NAME.fullmatch(label) or "." in label or label in taken:
                raise ValueError(f"{instrument.name}: {label[:64]!r} cannot be the name of a label")
        if len(self._own) >= OWN_INSTRUMENTS_MAX:
            raise ValueError(f"{instrument.name}: a subscriber can have {OWN_INSTRUMENTS_MAX} instruments of its own")


def check_name(name: str) -> None:
    """Raise ValueError if an instrument that is not in the catalogue cannot have this name: it is reserved or malformed."""
    if not NAME.fullmatch(name) or len(name) > LABEL_CHARACTERS_MAX:
        raise ValueError(f"{name[:64]!r} is not a name of an instrument: lower-case words, separated by dots or underscores")
    if name.split(".")[0].split("_")[0] == "hub":
        raise ValueError(f"{name}: names that begin with hub are reserved for the instruments of the hub")
    if (last := name.replace("_", ".").rsplit(".", 1)[-1]) in SUFFIXES:
        raise ValueError(f"{name}: a name must not end with {last}, which is a suffix in Prometheus")


def check_unit(name: str, unit: str) -> None:
    """Raise ValueError if an instrument that is not in the catalogue cannot have this unit."""
    if unit and not unit_suffix(unit) and not _COUNTED.fullmatch(unit):
        raise ValueError(f"{name}: unit: {unit[:64]!r} is not s, By, or a word in braces such as {{order}}")

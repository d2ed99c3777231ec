"""The metrics of a subscriber: `ctx.metrics`. They are exposed and pushed with those of the hub's processes."""

from collections.abc import Sequence
from typing import Protocol


class CountingMetric(Protocol):
    """A total that only grows."""

    def add(self, amount: float = 1) -> None:
        """Add `amount`. Raises ValueError if it is negative or not finite."""
        ...


class CurrentMetric(Protocol):
    """A value that grows and shrinks."""

    def set(self, value: float) -> None:
        """Replace the value. Raises ValueError if it is not finite."""
        ...

    def add(self, amount: float) -> None:
        """Change the value by `amount`. Raises ValueError if it is not finite."""
        ...


class DistributionMetric(Protocol):
    """A distribution of values."""

    def record(self, value: float, exemplar_trace_id: str | None = None) -> None:
        """Record one value, with the trace id (32 hexadecimal digits) of its cause. Raises ValueError if the value is not finite
        or the trace id has another form."""
        ...


class Metrics(Protocol):
    """The instruments of one subscriber. Each method returns one series: keep it if it is used often, and use it from the
    subscriber's thread only.

    `name`: lower-case words separated by dots or underscores, which do not begin with "hub" (`orders.charged`). `unit`: s, By, or
    a word in braces ({order}). `labels`: the same names at each call; their values must be few, so ids are not labels: beyond
    1,000 combinations per instrument all others are counted as "other". The label `subscriber` is added. Unit, labels and bounds
    must be the same at each call. All methods raise ValueError for an invalid name, unit or label, and if the instrument was
    declared differently.

    Of the instruments of the hub (`schemas/instruments.py`), `hub.alert.notifications` can be written by every subscriber."""

    def counter(self, name: str, /, *, unit: str = "", description: str = "", **labels: str | int) -> CountingMetric:
        """A total that only grows."""
        ...

    def gauge(self, name: str, /, *, unit: str = "", description: str = "", **labels: str | int) -> CurrentMetric:
        """A value that grows and shrinks."""
        ...

    def histogram(
        self, name: str, /, *, unit: str = "", description: str = "", bounds: Sequence[float] = ..., **labels: str | int
    ) -> DistributionMetric:
        """A distribution. `bounds`: ascending upper limits of its buckets; default: 5 ms to an hour, in seconds."""
        ...


class _Unrecorded:
    """A series of `NoMetrics`."""

    def add(self, amount: float = 1) -> None:
        """No effect."""

    def set(self, value: float) -> None:
        """No effect."""

    def record(self, value: float, exemplar_trace_id: str | None = None) -> None:
        """No effect."""


class NoMetrics:
    """`Metrics` that records nothing, where nothing exposes metrics."""

    def counter(self, name: str, /, *, unit: str = "", description: str = "", **labels: str | int) -> CountingMetric:
        """A series without effect."""
        return _Unrecorded()

    def gauge(self, name: str, /, *, unit: str = "", description: str = "", **labels: str | int) -> CurrentMetric:
        """A series without effect."""
        return _Unrecorded()

    def histogram(
        self, name: str, /, *, unit: str = "", description: str = "", bounds: Sequence[float] = (), **labels: str | int
    ) -> DistributionMetric:
        """A series without effect."""
        return _Unrecorded()

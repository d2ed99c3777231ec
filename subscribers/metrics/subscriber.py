"""The subscriber `metrics`: writes the instruments of the catalogue whose origin is `events`."""

from typing import Any, Protocol

from schemas import Event
from schemas.instruments import INSTRUMENTS
from schemas.tracing import context_of_event

from ..api import Batch, Delivery, Meta, Subscriber, SubscriberContext, SubscriberSettings, on
from ..api.metrics import Metrics
from .measurements import Measurement, initial_measurements, measurements_of

#: Series that are kept for reuse.
KEPT_SERIES_MAX = 10_000


class MetricsSettings(SubscriberSettings):
    """`exemplars`: whether measurements of durations have the trace id of their task, if its trace is sampled."""

    exemplars: bool = True


class Recording(Protocol):
    """Records one value in a series; with the trace of its cause, if the instrument is a histogram."""

    def __call__(self, value: float, trace: str | None, /) -> None: ...


class EventRecorder:
    """Records the measurements of events in instruments. Series are kept, because requesting one takes longer than recording;
    when `kept_series_max` is reached, all are requested again."""

    def __init__(self, metrics: Metrics, *, exemplars: bool = True, kept_series_max: int = KEPT_SERIES_MAX) -> None:
        self._metrics = metrics
        self._kept_series_max = kept_series_max
        self._exemplars = exemplars
        self._series: dict[tuple[str, tuple[str, ...]], Recording] = {}

    def record(self, event: Event) -> None:
        """Record all measurements of an event."""
        trace: str | None = None
        for one in measurements_of(event):
            if trace is None and self._exemplars and one.name in _WITH_EXEMPLARS:
                trace = _trace_of(event)
            series = self._series.get((one.name, one.labels)) or self._first(one)
            series(one.value, trace)

    def _first(self, one: Measurement) -> Recording:
        if len(self._series) >= self._kept_series_max:
            self._series.clear()
        series = self._series[one.name, one.labels] = self._requested(one)
        for initial in initial_measurements(one):
            self._requested(initial)(initial.value, None)
        return series

    def _requested(self, one: Measurement) -> Recording:
        instrument = INSTRUMENTS[one.name]
        labels: dict[str, Any] = dict(zip(instrument.labels, one.labels, strict=True))
        if instrument.kind == "histogram":
            return self._metrics.histogram(one.name, **labels).record
        add = self._metrics.counter(one.name, **labels).add
        return lambda value, _: add(value)


class MetricsSubscriber(Subscriber[MetricsSettings]):
    """Counts events and measures durations by their times. Events of a replay, and events that are older than an hour, do not
    count: they were counted when they occurred."""

    name = "metrics"
    delivery = Delivery(order="partition", on_error="skip", replay="skip", max_event_age="1h")

    async def open(self, ctx: SubscriberContext) -> None:
        """Request the first instrument, which fails if another subscriber writes the same ones."""
        self._recorder = EventRecorder(ctx.metrics, exemplars=self.settings.exemplars)
        ctx.metrics.counter("hub.task.deduplications")

    @on("*", batch=Batch(max=500, linger="250ms"))
    async def count(self, events: list[Event], metas: list[Meta]) -> None:
        """Record the measurements of all events that are not replayed."""
        for event, meta in zip(events, metas, strict=True):
            if not meta.replay:
                self._recorder.record(event)


_WITH_EXEMPLARS = frozenset(one.name for one in INSTRUMENTS.values() if one.origin == "events" and one.kind == "histogram")


def _trace_of(event: Event) -> str | None:
    context = context_of_event(event)
    return context.trace if context.sampled else None

"""The subscriber `otel-traces`: exports spans to a collector.

An event is acknowledged after the collector has accepted its spans, so an outage delays spans and loses none. A span that is sent
again is the same, byte by byte.
"""

from collections.abc import Callable

from schemas import Event

from ..api import Batch, Delivery, F, Subscriber, SubscriberContext, Undeliverable, on, parse_duration
from .collector import Collector
from .settings import TracesSettings
from .spans import SPAN_TYPES, TaskSpan, spans_of
from .tail import Tail

BATCH_EVENTS_MAX = 1000
"""Events of one message: about 2,000 spans and 2 MB, far below the 20 MiB that collectors accept by default."""


class OtelTraces(Subscriber[TracesSettings]):
    """Exports the spans of all sampled tasks."""

    name = "otel-traces"
    delivery = Delivery(order="partition", timeout="2m", in_flight_max=4 * BATCH_EVENTS_MAX)
    filter = F.not_(F.suffix(traceparent="-00"))

    async def open(self, ctx: SubscriberContext) -> None:
        """Load the encoder."""
        from .encode import encode_spans, rejected_spans

        settings = self.settings
        self._encode = encode_spans
        self._resource = settings.resource_attributes
        self.collector = Collector(settings, "/v1/traces", rejected_spans, ctx.logger)
        tail = Tail(parse_duration(settings.slow), settings.keep)
        self._spans_of: Callable[[Event], list[TaskSpan]] = spans_of if settings.mode == "live" else tail.spans_of

    @classmethod
    def event_types(cls, settings: TracesSettings) -> tuple[str, ...]:
        """The types from which spans are made."""
        return tuple(sorted(SPAN_TYPES))

    @on(*sorted(SPAN_TYPES), batch=Batch(max=BATCH_EVENTS_MAX, linger="1s"))
    async def export(self, events: list[Event]) -> None:
        """Export the spans of these events. Raises Unavailable, Undeliverable."""
        try:
            spans = [span for event in events for span in self._spans_of(event)]
            content = self._encode(spans, self._resource)
        except ValueError as error:
            raise Undeliverable(f"no span can be made of an event: {error}") from None
        if spans:
            await self.collector.post(content)

    async def close(self) -> None:
        """Close the connections."""
        await self.collector.aclose()

"""The subscriber `otel-logs`: exports each lifecycle event as a log record to a collector; see `traces.py` for the guarantees."""

from schemas import Event

from ..api import Batch, Delivery, EventTypes, Subscriber, SubscriberContext, Undeliverable, on
from .collector import Collector
from .records import record_of
from .settings import OtlpSettings

BATCH_EVENTS_MAX = 2000


class LogsSettings(OtlpSettings):
    """`types`: event types to export, in which `*` matches any text."""

    types: EventTypes = ("*",)


class OtelLogs(Subscriber[LogsSettings]):
    """Exports all events whose type matches `types`."""

    name = "otel-logs"
    delivery = Delivery(order="partition", timeout="2m", in_flight_max=4 * BATCH_EVENTS_MAX)

    async def open(self, ctx: SubscriberContext) -> None:
        """Load the encoder."""
        from .encode import encode_logs, rejected_records

        self._encode = encode_logs
        self._resource = self.settings.resource_attributes
        self.collector = Collector(self.settings, "/v1/logs", rejected_records, ctx.logger)

    @classmethod
    def event_types(cls, settings: LogsSettings) -> tuple[str, ...]:
        """The types in the settings."""
        return settings.types

    @on("*", batch=Batch(max=BATCH_EVENTS_MAX, linger="1s"))
    async def export(self, events: list[Event]) -> None:
        """Export these events. Raises Unavailable, Undeliverable."""
        try:
            content = self._encode([record_of(event) for event in events], self._resource)
        except ValueError as error:
            raise Undeliverable(f"no log record can be made of an event: {error}") from None
        await self.collector.post(content)

    async def close(self) -> None:
        """Close the connections."""
        await self.collector.aclose()

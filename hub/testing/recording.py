"""A subscriber that records the events it receives."""

from schemas import Event
from subscribers import Meta, Subscriber, SubscriberSettings, on


class RecordingSubscriber(Subscriber[SubscriberSettings]):
    """Records all events in the order of delivery: `events`, and the `Meta` of each delivery in `metas`."""

    name = "recording"

    def __init__(self, settings: SubscriberSettings) -> None:
        super().__init__(settings)
        self.events: list[Event] = []
        self.metas: list[Meta] = []

    @on("*")
    async def record(self, event: Event, meta: Meta) -> None:
        """Record one event."""
        self.events.append(event)
        self.metas.append(meta)

    @property
    def types(self) -> list[str]:
        """The types of the events, in order."""
        return [event.type for event in self.events]

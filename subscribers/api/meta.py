"""The second argument of a handler: the event's envelope and its position in the log."""

from schemas import Event


class Meta:
    """The envelope of an event, and information about its delivery.

    `partition`, `offset`: its position on `hub.events`. `attempt`: number of this delivery attempt, from 1; `Postpone` and
    `Unavailable` do not count. `replay`: whether the event is delivered by a replay, possibly not for the first time. `event`:
    the whole event (`schemas.Event`; `as_dict()` is the CloudEvent).
    """

    __slots__ = ("attempt", "event", "offset", "partition", "replay")

    def __init__(self, event: Event, partition: int, offset: int, attempt: int = 1, *, replay: bool = False) -> None:
        self.event = event
        self.partition = partition
        self.offset = offset
        self.attempt = attempt
        self.replay = replay

    @property
    def type(self) -> str:
        """The event type, for example task.completed."""
        return self.event.type

    @property
    def id(self) -> str:
        """The event's id: unique within `source`, and the same at each delivery."""
        return self.event.id

    @property
    def source(self) -> str:
        """The URI path of the entity."""
        return self.event.source

    @property
    def idempotency_key(self) -> str:
        """Identifies the event, and is the same at each delivery, also by a replay: `source` and `id`, separated by "#"."""
        return f"{self.event.source}#{self.event.id}"

    @property
    def subject(self) -> str:
        """The id of the entity: a task, a worker, or an engine partition."""
        return self.event.subject

    @property
    def entity(self) -> str:
        """The kind and id of the entity: <kind>/<id>."""
        return self.event.entity

    @property
    def time(self) -> str:
        """The time of the event by the engine's clock: RFC 3339, UTC."""
        return self.event.time

    @property
    def sequence(self) -> int:
        """The number of the event within the entity's run: 1, 2, 3 …"""
        return self.event.sequence

    @property
    def run(self) -> int:
        """The number of the run; a later use of the same entity id has a higher number."""
        return self.event.run

    @property
    def namespace(self) -> str | None:
        """None for events of workers and of the engine."""
        return self.event.namespace

    @property
    def taskname(self) -> str | None:
        """None for events of workers and of the engine."""
        return self.event.taskname

    @property
    def rootid(self) -> str | None:
        """The id of the workflow, or of a task outside a workflow; None for workers and the engine."""
        return self.event.rootid

    @property
    def correlationid(self) -> str | None:
        """The id by which the submitter groups related tasks."""
        return self.event.correlationid

    @property
    def severity(self) -> int:
        """The severity number of OpenTelemetry: 5 debug, 9 info, 13 warn, 17 error."""
        return self.event.severitynumber

    @property
    def traceparent(self) -> str | None:
        """The W3C trace context."""
        return self.event.traceparent

    @property
    def from_state(self) -> str | None:
        """The task's state before the event, or None."""
        return self.event.from_state

    @property
    def to_state(self) -> str | None:
        """The task's state after the event; None if the event does not change it."""
        return self.event.to_state

    def __repr__(self) -> str:
        replay = ", replay" if self.replay else ""
        place = f"{self.partition}/{self.offset}"
        return f"Meta({self.type} {self.subject} #{self.sequence}, {place}, attempt {self.attempt}{replay})"

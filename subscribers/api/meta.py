"""What a handler is given beside the event: its envelope and its place in the log."""

from schemas import Event


class Meta:
    """The envelope of an event and how this delivery of it came about.

    `partition`, `offset`: its place on `hub.events`. `attempt`: which try this is, from 1. `event`: the whole event
    (`schemas.Event`; `as_dict()` is the CloudEvent).
    """

    __slots__ = ("attempt", "event", "offset", "partition")

    def __init__(self, event: Event, partition: int, offset: int, attempt: int = 1) -> None:
        self.event = event
        self.partition = partition
        self.offset = offset
        self.attempt = attempt

    @property
    def type(self) -> str:
        """The dotted type."""
        return self.event.type

    @property
    def id(self) -> str:
        """Unique within `source`, the same at every delivery."""
        return self.event.id

    @property
    def source(self) -> str:
        """URI path of the entity."""
        return self.event.source

    @property
    def subject(self) -> str:
        """The entity's id: the task, the worker, the engine partition."""
        return self.event.subject

    @property
    def entity(self) -> str:
        """<kind>/<id>."""
        return self.event.entity

    @property
    def time(self) -> str:
        """RFC 3339, UTC, the engine's clock."""
        return self.event.time

    @property
    def sequence(self) -> int:
        """1, 2, 3 … within the entity's life."""
        return self.event.sequence

    @property
    def life(self) -> int:
        """Rises with each use of the entity's id."""
        return self.event.life

    @property
    def namespace(self) -> str | None:
        """None for workers and the engine."""
        return self.event.namespace

    @property
    def taskname(self) -> str | None:
        """None for workers and the engine."""
        return self.event.taskname

    @property
    def rootid(self) -> str | None:
        """The workflow's (or the task's own) id."""
        return self.event.rootid

    @property
    def correlationid(self) -> str | None:
        """The caller's own id of the business process."""
        return self.event.correlationid

    @property
    def severity(self) -> int:
        """OpenTelemetry: 5 debug, 9 info, 13 warn, 17 error."""
        return self.event.severitynumber

    @property
    def traceparent(self) -> str | None:
        """W3C trace context of the flow."""
        return self.event.traceparent

    @property
    def from_state(self) -> str | None:
        """The task's state before, or None."""
        return self.event.from_state

    @property
    def to_state(self) -> str | None:
        """The task's state after, or None."""
        return self.event.to_state

    def __repr__(self) -> str:
        return f"Meta({self.type} {self.subject} #{self.sequence}, {self.partition}/{self.offset}, attempt {self.attempt})"

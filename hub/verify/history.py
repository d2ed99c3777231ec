"""The inputs of a check: committed records per topic, and journals of clients, workers and subscribers.

An input that is None was not read; the invariants that need it are skipped and listed in the report.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol

from msgspec import Struct, field

from .report import Prefix


class LogRecord(Protocol):
    """A committed record of any reader."""

    @property
    def offset(self) -> int: ...

    @property
    def timestamp_ms(self) -> int: ...

    @property
    def key(self) -> bytes | None: ...

    @property
    def value(self) -> bytes | None: ...

    @property
    def headers(self) -> Iterable[tuple[str, bytes | None]]: ...


Starts = Mapping[str, Mapping[int, int]]
"""Log start offset by topic and partition; 0 if absent. Records before it were removed by retention or DeleteRecords."""

Partitions = Mapping[int, Iterable[LogRecord]]


def headers_of(record: LogRecord) -> dict[str, bytes]:
    """The headers of a record by name; headers without a value are omitted."""
    return {name: value for name, value in record.headers if value is not None}


class DeliveredEvent(NamedTuple):
    """One delivery of an event to a subscriber: partition and offset, CloudEvents id, entity, and a digest of its bytes."""

    partition: int
    offset: int
    id: str
    entity: str
    digest: str


class CommittedPosition(NamedTuple):
    """A committed position (next offset) of a subscriber; `replay`: it was reset deliberately."""

    partition: int
    offset: int
    replay: bool = False


class SubscriberJournal(Struct, kw_only=True):
    """The journal of a subscriber. `types`: the event types of its filter (None: all). `starts`: the first offset that it had
    to get.

    `dead_letters`: (partition, offset) of events in its dead-letter topic.
    """

    subscriber: str
    deliveries: list[DeliveredEvent]
    positions: list[CommittedPosition] = []
    types: frozenset[str] | None = None
    starts: dict[int, int] = {}
    dead_letters: frozenset[tuple[int, int]] = frozenset()


class Execution(NamedTuple):
    """One actual execution of a task's body, from the journal of a worker."""

    task: str
    attempt: int


class Options(Struct, kw_only=True, frozen=True):
    """Strictness of a check.

    `require_all_ended`: the hub is idle, and a live task is a finding. `wake_seconds`: longest time (log time) that a task
    whose dependencies are met may stay blocked at the end of the log. `grace_seconds`: while the hub is busy, commands of
    events younger than this may not be visible yet. `earlier`: prefixes of an earlier report, which must not have changed.
    """

    require_all_ended: bool = False
    wake_seconds: float = 0.0
    grace_seconds: float = 10.0
    earlier: Mapping[int, Prefix] = field(default_factory=dict)


class History(Struct, kw_only=True):
    """All inputs of one check.

    `partitions`: number of partitions of `hub.events`. `events`, `intake`: records by partition in offset order. `starts`: log
    start offsets; if one is not 0, creations of tasks, commands and reports may be missing. `state`: the last value by key of
    each partition of `hub.state` (None or absent: tombstone). `commands`: by topic name (`hub.commands.<pool>`), then
    partition. `acknowledged`: the task id of each acknowledged submission. `executions`: every execution of a task's body.
    """

    partitions: int
    events: Partitions
    starts: Starts = {}
    state: Mapping[int, Mapping[bytes, bytes | None]] | None = None
    commands: Mapping[str, Partitions] | None = None
    intake: Partitions | None = None
    replies: Partitions | None = None
    acknowledged: Iterable[str] | None = None
    journals: list[SubscriberJournal] | None = None
    executions: Iterable[Execution] | None = None

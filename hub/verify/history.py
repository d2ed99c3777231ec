"""What a check reads: committed records per topic, and what clients, workers and subscribers say of themselves.

An input that is None was not read: the invariants that need it are skipped and named in the report.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol

from msgspec import Struct, field

from .report import Prefix


class LogRecord(Protocol):
    """A committed record as any reader gives it."""

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
"""The first offset kept, by topic and partition; 0 where absent. What was before it was removed by retention or DeleteRecords."""

Partitions = Mapping[int, Iterable[LogRecord]]


def headers_of(record: LogRecord) -> dict[str, bytes]:
    """The headers of a record by name; one without a value counts as missing."""
    return {name: value for name, value in record.headers if value is not None}


class DeliveredEvent(NamedTuple):
    """One event handed to a subscriber: where it lay, its CloudEvents id, its entity, and a digest of its bytes."""

    partition: int
    offset: int
    id: str
    entity: str
    digest: str


class CommittedPosition(NamedTuple):
    """A committed position of a subscriber (the next offset it wants); `replay`: set back on purpose."""

    partition: int
    offset: int
    replay: bool = False


class SubscriberJournal(Struct, kw_only=True):
    """What a subscriber noted. `types`: the event types it asked for (None: all). `starts`: the first offset it had to get.

    `dead_letters`: (partition, offset) of events that went to its dead letters instead.
    """

    subscriber: str
    deliveries: list[DeliveredEvent]
    positions: list[CommittedPosition] = []
    types: frozenset[str] | None = None
    starts: dict[int, int] = {}
    dead_letters: frozenset[tuple[int, int]] = frozenset()


class Execution(NamedTuple):
    """One time that a task's body really ran, as its side effects show (a worker's journal)."""

    task: str
    attempt: int


class Options(Struct, kw_only=True, frozen=True):
    """How strict a check is.

    `require_all_ended`: the test is over and healed: a live task is a finding. `wake_seconds`: how long (log time) a task
    whose dependencies are met may stay blocked at the end of the log. `grace_seconds`: while the hub is busy, commands of
    events younger than this may be invisible yet. `earlier`: prefixes of an earlier report, which must not have changed.
    """

    require_all_ended: bool = False
    wake_seconds: float = 0.0
    grace_seconds: float = 10.0
    earlier: Mapping[int, Prefix] = field(default_factory=dict)


class History(Struct, kw_only=True):
    """Everything that one check reads.

    `partitions`: P of `hub.events`. `events`, `intake`: records by partition in offset order. `starts`: where the topics begin;
    where that is not 0, tasks may begin in the middle, and commands and reports may be gone. `state`: the last value by
    key of each partition of `hub.state` (None or absent: tombstone). `commands`: by topic name (`hub.commands.<pool>`), then
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

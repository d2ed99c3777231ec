"""What a batch gives out beside its rows: events, commands, replies."""

from typing import NamedTuple

from msgspec import Struct

from schemas import TaskReply


class EmittedEvent(NamedTuple):
    """An event of a batch. `namespace`, `taskname`, `root`, `correlation`, `traceparent` are None for workers
    and the engine; `cause` is the CloudEvents id of the report, or the agenda item."""

    data: Struct
    kind: str
    subject: str
    sequence: int
    run: int
    src: str
    from_state: str | None
    to_state: str | None
    cause: str | None
    namespace: str | None
    taskname: str | None
    root: str | None
    correlation: str | None
    traceparent: str | None


class Command(NamedTuple):
    """A record for a worker's inbox; `worker` "*" is everybody in it, `key` the task's id."""

    pool: str
    inbox: int
    worker: str
    key: str
    data: Struct


class Reply(NamedTuple):
    """An answer for the waiting client at (`partition`, `token`) of `hub.replies`."""

    partition: int
    token: bytes
    data: TaskReply

"""The output of a batch besides rows: events, commands, replies."""

from typing import NamedTuple

from msgspec import Struct

from schemas import TaskReply


class EmittedEvent(NamedTuple):
    """An event of a batch. `namespace`, `taskname`, `root`, `correlation` and `traceparent` are None for workers and the
    engine. `cause` is the CloudEvents id of the report, or the timer."""

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
    """A record for the inbox of a worker; `worker` "*" addresses all workers of the inbox, `key` is the task id."""

    pool: str
    inbox: int
    worker: str
    key: str
    data: Struct


class Reply(NamedTuple):
    """A reply to a waiting client, for `partition` of `hub.replies`, with key `token`."""

    partition: int
    token: bytes
    data: TaskReply

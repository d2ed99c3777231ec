"""The output of a batch besides rows: events, commands, replies.

They are structs because a batch has thousands: a named tuple takes several times as long to create.
"""

from msgspec import Struct

from schemas import TaskReply


class EmittedEvent(Struct, frozen=True, gc=False):
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


class Command(Struct, frozen=True, gc=False):
    """A record for the inbox of a worker; `worker` "*" addresses all workers of the inbox, `key` is the task id."""

    pool: str
    inbox: int
    worker: str
    key: str
    data: Struct


class Reply(Struct, frozen=True, gc=False):
    """A reply to a waiting client, for `partition` of `hub.replies`, with key `token`."""

    partition: int
    token: bytes
    data: TaskReply

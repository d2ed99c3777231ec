"""Events of an engine partition; the entity is `engine/<partition>`."""

from typing import Annotated, Literal

from ..fields import TASK, TIME, Host, Pid, about
from .base import EventData


class EngineStarted(EventData, kw_only=True):
    """A new owner took over the partition."""

    partitions: Annotated[int, about("Number of engine partitions of the hub, from 1.", 4)]
    input_offset: Annotated[int, about("Offset of hub.intake at which processing starts.", 42)]
    host: Host = ""
    pid: Pid = 0


class EngineRestored(EventData, kw_only=True):
    """The state was restored."""

    rows: Annotated[int, about("Number of rows of hub.state that were restored.", 120)]
    live_tasks: Annotated[int, about("Number of tasks that have not ended.", 7)]
    snapshot: Annotated[bool, about("Whether a snapshot file was used; absent: false.", True)] = False


class EngineStopped(EventData, kw_only=True):
    """The owner shut down."""

    input_offset: Annotated[int, about("Offset of hub.intake at which the next owner continues.", 42)]


class EngineReportDeadLettered(EventData, kw_only=True):
    """An intake record that is not a valid report was dead-lettered; the event has its offset, hash and the reason."""

    reason: Annotated[str, about("Why the record is invalid, at most 1,024 characters.", "header ce_type is missing")]
    offset: Annotated[int, about("Offset of the record in the partition of hub.intake.", 42)]
    sha256: Annotated[str, about("SHA-256 of the value, 64 hexadecimal digits.", "e3b0c44298fc1c149afbf4c8996fb924" * 2)]
    size_bytes: Annotated[int, about("Size of the value in bytes.", 17)]
    report: Annotated[str | None, about("The ce_type of the record, truncated to 100 bytes; absent: none.", "task.create")] = None
    preview: Annotated[str, about("First 120 bytes of the value as text; absent: the value is empty.", '{"name": 7}')] = ""


class EngineTimerDeadLettered(EventData, kw_only=True):
    """A timer of a task could not be processed because of a bug in the engine; it was dead-lettered and has no effect."""

    timer: Annotated[str, about("Kind of the timer: start, retry, expire, total, attempt, plan, cancel or retire.", "retry")]
    task: Annotated[str, about("Id of the task of the timer.", TASK)]
    due_at: Annotated[str, about("When the timer was due (RFC 3339, UTC).", TIME)]
    reason: Annotated[str, about("The error, at most 1,024 characters.", "KeyError: 'order-7'")]


class EngineStorageChanged(EventData, kw_only=True):
    """The free space of the broker's disk crossed a threshold."""

    level: Annotated[
        Literal["ok", "warning", "low"],
        about(
            "State of the disk: warning (little space left), low (new submissions are rejected) or ok (enough space again).",
            "warning",
        ),
    ]
    usable_bytes: Annotated[
        int, about("Free space that the broker can use, in bytes; -1 if the broker no longer reports it.", 2_000_000_000)
    ]
    total_bytes: Annotated[int, about("Size of the disk in bytes; -1 if the broker no longer reports it.", 64_000_000_000)]


class EngineReportForwarded(EventData, kw_only=True):
    """A misrouted report was forwarded to the correct partition."""

    partition: Annotated[int, about("Partition of hub.intake to which the report was forwarded, from 0.", 1)]
    offset: Annotated[int, about("Offset of the report in its original partition.", 42)]
    report: Annotated[str, about("Type of the report (its ce_type).", "task.created")]

"""What befalls an engine partition. Its entity is `engine/<partition>`."""

from typing import Annotated, Literal

from ..fields import TASK, TIME, Host, Pid, about
from .base import EventData


class EngineStarted(EventData, kw_only=True):
    """An owner took the partition over."""

    partitions: Annotated[int, about("How many engine partitions the hub has, from 1.", 4)]
    input_offset: Annotated[int, about("Offset of hub.intake that is decided first.", 42)]
    host: Host = ""
    pid: Pid = 0


class EngineRestored(EventData, kw_only=True):
    """State was read back."""

    rows: Annotated[int, about("How many rows of hub.state it was built from.", 120)]
    live_tasks: Annotated[int, about("How many tasks have not ended.", 7)]
    snapshot: Annotated[bool, about("A snapshot file was used; absent: false.", True)] = False


class EngineStopped(EventData, kw_only=True):
    """The owner left in order."""

    input_offset: Annotated[int, about("Offset of hub.intake that the next owner decides first.", 42)]


class EngineReportDeadLettered(EventData, kw_only=True):
    """Input that could not be read as a report: kept by hash and place, with the reason."""

    reason: Annotated[str, about("What is wrong with it, at most 1,024 characters.", "header ce_type is missing")]
    offset: Annotated[int, about("Its offset in the partition of hub.intake.", 42)]
    sha256: Annotated[str, about("SHA-256 of its value, 64 hexadecimal digits.", "e3b0c44298fc1c149afbf4c8996fb924" * 2)]
    size_bytes: Annotated[int, about("Size of its value in bytes.", 17)]
    report: Annotated[str | None, about("Its ce_type, cut after 100 bytes; absent: it has none.", "task.create")] = None
    preview: Annotated[str, about("The first 120 bytes of its value as text; absent: the value is empty.", '{"name": 7}')] = ""


class EngineTimerDeadLettered(EventData, kw_only=True):
    """What was due for a task could not be processed, because of a mistake in the engine: it is left out."""

    timer: Annotated[str, about("What was due: start, retry, expire, total, attempt, plan, cancel or retire.", "retry")]
    task: Annotated[str, about("Id of the task that it was due for.", TASK)]
    due_at: Annotated[str, about("When it was due (RFC 3339, UTC).", TIME)]
    reason: Annotated[str, about("What went wrong, at most 1,024 characters.", "KeyError: 'order-7'")]


class EngineStorageChanged(EventData, kw_only=True):
    """The free space of the broker's disk crossed a threshold."""

    level: Annotated[
        Literal["ok", "warning", "low"],
        about("How full it is: warning (little is left), low (new submissions are refused) or ok (enough again).", "warning"),
    ]
    usable_bytes: Annotated[
        int, about("What can still be written to the disk, in bytes; -1 where the broker no longer reports it.", 2_000_000_000)
    ]
    total_bytes: Annotated[int, about("Size of the disk in bytes; -1 where the broker no longer reports it.", 64_000_000_000)]


class EngineReportForwarded(EventData, kw_only=True):
    """A report that lay on the wrong partition was sent on."""

    partition: Annotated[int, about("Partition of hub.intake that it was sent to, from 0.", 1)]
    offset: Annotated[int, about("Its offset in the partition where it lay.", 42)]
    report: Annotated[str, about("Type of the report (its ce_type).", "task.created")]

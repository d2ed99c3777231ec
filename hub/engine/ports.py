"""The interfaces to the broker that the engine's loop uses. Implementations: `over_tcp.py` (any Kafka) and `in_process.py`."""

from collections.abc import AsyncIterator
from typing import NamedTuple, Protocol

from ..kafka import StoredRecord, TransactionalSession


class DiskSpace(NamedTuple):
    """Usable and total bytes of the broker's disk (of a cluster: the fullest one)."""

    usable_bytes: int
    total_bytes: int


#: The value in events if a broker does not report its disk.
UNKNOWN_SPACE = DiskSpace(-1, -1)


class Intake(Protocol):
    """The intake of one partition, read in order from a given position."""

    log_start: int

    async def read(self, max_records: int, timeout_seconds: float) -> list[StoredRecord]:
        """The next records: at once if there are any, else within `timeout_seconds`; may be empty.

        Raises OffsetOutOfRange if the position is outside the log.
        """
        ...

    @property
    def position(self) -> int:
        """The offset after the last read record; records of aborted transactions count as read."""
        ...

    @property
    def end(self) -> int:
        """The end of the log in the latest response, including records after the start of an open transaction: before it is
        reached, reports may be unread."""
        ...

    @property
    def end_at(self) -> float:
        """A time, by the clock of the event loop, shortly before `end` was reported: at that time the log ended at or before
        `end`."""
        ...

    async def close(self) -> None:
        """Release everything."""
        ...


class EngineBroker(Protocol):
    """Where an engine partition reads and writes."""

    async def session(self, partition: int) -> TransactionalSession:
        """An open session with the transactional id of the partition; all earlier owners are fenced on return."""
        ...

    def changelog(self, partition: int, from_offset: int) -> AsyncIterator[StoredRecord]:
        """The committed rows of `hub.state` from an offset (0: the log start) to the end.

        Raises OffsetOutOfRange if the offset is outside the log."""
        ...

    async def intake(self, partition: int, offset: int) -> Intake:
        """The intake, positioned at `offset`."""
        ...

    async def events_end(self, partition: int) -> int:
        """The end offset of the events of the partition: later events are at or after it."""
        ...

    async def pools(self) -> list[str]:
        """The pools that have a commands topic."""
        ...

    async def trim_intake(self, partition: int, before: int) -> None:
        """Delete the records of the intake before an offset (DeleteRecords); no error if they are deleted already.

        Raises HubError."""
        ...

    async def disk_space(self) -> DiskSpace | None:
        """Free space of the broker's disk; None if the broker does not report it. Raises HubError, OSError."""
        ...


def transactional_id(cluster: str, partition: int) -> str:
    """The transactional id of an engine partition, which fences earlier owners."""
    return f"{cluster}.engine.{partition}"


__all__ = ["DiskSpace", "EngineBroker", "Intake", "transactional_id"]

"""What the engine's loop needs of a broker, as small ports. Two adapters: `over_tcp.py` (any Kafka) and `in_process.py`."""

from collections.abc import AsyncIterator
from typing import NamedTuple, Protocol

from ..kafka import StoredRecord, TransactionalSession


class DiskSpace(NamedTuple):
    """Bytes that can still be written to the broker's disk (the fullest one of a cluster), and its size."""

    usable_bytes: int
    total_bytes: int


#: What is written where a broker does not report its disk.
UNKNOWN_SPACE = DiskSpace(-1, -1)


class Intake(Protocol):
    """The intake of one partition, read in order from a position that we set."""

    log_start: int

    async def read(self, max_records: int, timeout_seconds: float) -> list[StoredRecord]:
        """The next records: at once when there are some, else after at most `timeout_seconds` (then maybe none).

        Raises OffsetOutOfRange, loudly, where the position lies outside the log.
        """
        ...

    @property
    def position(self) -> int:
        """The offset after what was read so far (records of transactions that were aborted count as read)."""
        ...

    @property
    def end(self) -> int:
        """The end of the log as the broker last reported it, with what lies after a transaction that is still open: whoever has
        not read up to there may have reports unread."""
        ...

    @property
    def end_at(self) -> float:
        """A time, by the event loop's clock, at which the log had not gone beyond `end` yet: not much before it was reported."""
        ...

    async def close(self) -> None:
        """Release everything."""
        ...


class EngineBroker(Protocol):
    """Where an engine partition reads and writes."""

    async def session(self, partition: int) -> TransactionalSession:
        """An opened session of the partition's transactional id: every earlier owner is fenced when this returns."""
        ...

    def changelog(self, partition: int, from_offset: int) -> AsyncIterator[StoredRecord]:
        """The committed rows of `hub.state` from an offset (0: from the log's start, wherever that is) to its end.

        Raises OffsetOutOfRange where the log does not reach to that offset, or has lost it."""
        ...

    async def intake(self, partition: int, offset: int) -> Intake:
        """The intake, positioned at `offset`."""
        ...

    async def events_end(self, partition: int) -> int:
        """The end offset of the partition's events: later ones lie at or after it."""
        ...

    async def pools(self) -> list[str]:
        """The pools that have a commands topic."""
        ...

    async def trim_intake(self, partition: int, before: int) -> None:
        """Delete the records of the intake before an offset (DeleteRecords); those that are gone already are not an error.

        Raises HubError."""
        ...

    async def disk_space(self) -> DiskSpace | None:
        """The space of the broker's disk; None where the broker does not say. Raises HubError, OSError."""
        ...


def transactional_id(cluster: str, partition: int) -> str:
    """The identity that fences: one per engine partition."""
    return f"{cluster}.engine.{partition}"


__all__ = ["DiskSpace", "EngineBroker", "Intake", "transactional_id"]

"""The port through which a running hub is read."""

from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple, Protocol

from .history import LogRecord


class Span(NamedTuple):
    """Offsets of a partition: the first kept, the one after the last committed, and the one after the last of all."""

    start: int
    committed: int
    end: int


class Source(Protocol):
    """A way to read a hub's topics."""

    async def topics(self) -> dict[str, int]:
        """Number of partitions by topic."""

    async def spans(self, topic: str) -> dict[int, Span]:
        """What each partition of the topic holds now."""

    def read(self, topic: str, partition: int, start: int, end: int) -> AsyncIterator[Sequence[LogRecord]]:
        """Committed records with start <= offset < end, in order, in portions.

        Raises OffsetOutOfRange where `start` has been removed.
        """

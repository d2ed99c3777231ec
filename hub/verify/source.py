"""The interface through which the checker reads a running hub."""

from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple, Protocol

from .history import LogRecord


class Span(NamedTuple):
    """Offsets of a partition: log start, end of committed records, end of all records."""

    start: int
    committed: int
    end: int


class Source(Protocol):
    """A way to read a hub's topics."""

    async def topics(self) -> dict[str, int]:
        """Number of partitions by topic."""

    async def spans(self, topic: str) -> dict[int, Span]:
        """The current offsets of each partition of the topic."""

    def read(self, topic: str, partition: int, start: int, end: int) -> AsyncIterator[Sequence[LogRecord]]:
        """Committed records with start <= offset < end, in order, in chunks.

        Raises OffsetOutOfRange if `start` was removed.
        """

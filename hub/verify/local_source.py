"""Reads the topics of a broker in the same process through its in-process API, for simulations and tests."""

from collections.abc import AsyncIterator, Sequence

from ..broker import BrokerError, LocalBroker
from ..kafka import OffsetOutOfRange, end_of_batches, read_batches
from .history import LogRecord
from .source import Span

FETCH_BYTES = 1 << 20


class LocalSource:
    """The topics of `broker` as a `Source`."""

    def __init__(self, broker: LocalBroker) -> None:
        self._broker = broker

    async def topics(self) -> dict[str, int]:
        """Number of partitions by topic."""
        return self._broker.topics()

    async def spans(self, topic: str) -> dict[int, Span]:
        """The current offsets of each partition of the topic; uncommitted records count once they are on disk."""
        return {partition: self._span(topic, partition) for partition in range(self._broker.topics()[topic])}

    def _span(self, topic: str, partition: int) -> Span:
        committed = self._broker.end(topic, partition)
        fetched = self._broker.fetch(topic, partition, committed, max_bytes=1)
        return Span(fetched.log_start, committed, self._broker.end(topic, partition, committed=False))

    async def read(self, topic: str, partition: int, start: int, end: int) -> AsyncIterator[Sequence[LogRecord]]:
        """Committed records with start <= offset < end, one fetch at a time. Raises OffsetOutOfRange if they were removed."""
        position = start
        while position < end:
            try:
                fetched = self._broker.fetch(topic, partition, position, max_bytes=FETCH_BYTES)
            except BrokerError as error:
                raise OffsetOutOfRange(topic, partition, position) from error
            if not fetched.data:
                return
            records = read_batches(fetched.data, aborted=fetched.aborted)
            yield [record for record in records if position <= record.offset < end]
            position = end_of_batches(fetched.data)

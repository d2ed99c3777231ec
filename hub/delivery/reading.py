"""Reads the partitions of one assignment, without the group: chunks of the wanted records, and the end offsets of the log.

The end offsets come with the records. They are requested only while nothing is read, and after a failure.
"""

import asyncio
import time
from collections.abc import Collection, Mapping
from typing import NamedTuple

from ..kafka import EARLIEST, LATEST, Chunk, ChunkReader, Cluster, Fetcher, FetchSettings, RecordRule, TopicPartition

MAX_WAIT_MS = 5_000
"""How long a broker waits for records before it responds without any."""
OVERDUE_SECONDS = MAX_WAIT_MS / 1000 + 1.5
"""A leader that does not respond to a request for records within this time is reported."""
END_AGE_MS = 2_000
"""The age that an end offset may have while nothing is read."""
WAIT_SECONDS = 60.0
PACE_SECONDS = 0.025
"""The interval between a response and the next request, if all records of the response were read. While events follow each other
quickly, those of this time come in one response, which costs little more than that for a single event. After a longer silence an
event is not delayed: the request for it was sent before."""


class Bounds(NamedTuple):
    """The first offset of a partition and the one after its last visible record."""

    low: int
    high: int


class AssignmentReader:
    """Partitions of a topic. Usage: `open`, `start`; then `read` until it returns nothing, then `wait`."""

    def __init__(self, cluster: Cluster, topic: str, selection: RecordRule) -> None:
        self._fetcher = Fetcher(cluster, FetchSettings(max_wait_ms=MAX_WAIT_MS), role="delivery")
        self._topic = topic
        self._chunks = ChunkReader(self._fetcher.take, selection)
        self._partitions: dict[int, TopicPartition] = {}
        self._requested: dict[int, tuple[int, int]] = {}
        """Time in ms and value of the end offsets that were requested."""
        self._is_waiting = self._is_closed = False
        self._answered_at = -PACE_SECONDS
        self.paused: set[int] = set()

    async def open(self, numbers: Collection[int]) -> dict[int, Bounds]:
        """Connect to the leaders of these partitions; returns their bounds. Raises as `Fetcher.open` and `Fetcher.offsets`."""
        self._partitions = {number: TopicPartition(self._topic, number) for number in sorted(numbers)}
        if not numbers:
            return {}
        partitions = list(self._partitions.values())
        await self._fetcher.open(dict.fromkeys(partitions, 0))
        lows = await self._fetcher.offsets(EARLIEST, partitions)
        highs = await self._fetcher.offsets(LATEST, partitions)
        return {one.partition: Bounds(lows[one], highs[one]) for one in partitions}

    def start(self, positions: Mapping[int, int]) -> None:
        """Read from these positions on."""
        for number, position in positions.items():
            self._fetcher.seek(self._partitions[number], position)

    def read(self, limit: int) -> list[Chunk]:
        """The next chunks, see `ChunkReader.read`. Raises as `Fetcher.take` does."""
        return self._chunks.read(limit)

    async def wait(self) -> None:
        """Wait until there may be more to read, or the reader is closed."""
        loop = asyncio.get_running_loop()
        self._is_waiting = True
        try:
            if (delay := self._answered_at + PACE_SECONDS - loop.time()) > 0:
                await asyncio.sleep(delay)
            if not self._is_closed:
                await self._fetcher.wait(WAIT_SECONDS)
        finally:
            self._is_waiting = False
            self._answered_at = loop.time()

    def position(self, number: int) -> int:
        """The offset after the records that were read and those after them that are not visible; 0 if a part of their batch is
        still to be read."""
        partition = self._partitions[number]
        return 0 if partition == self._chunks.held else self._fetcher.buffer(partition).position

    def pause(self, number: int) -> None:
        """Read no more of this partition, except the rest of a batch."""
        self.paused.add(number)
        self._fetcher.pause(self._partitions[number])

    def resume(self, number: int) -> None:
        """End `pause`."""
        self.paused.discard(number)
        self._fetcher.resume(self._partitions[number])

    async def ends(self, *, ask: bool) -> dict[int, int]:
        """The end offsets by partition. Those that no response tells are requested; with `ask`, all.

        Raises TimeoutError if a broker has not responded to a request for records, and as `Fetcher.offsets` does."""
        asked = [one for number, one in self._partitions.items() if ask or self._is_unknown(number)]
        if asked:
            for one, end in (await self._fetcher.offsets(LATEST, asked)).items():
                self._requested[one.partition] = (_now_ms(), end)
        if self.overdue_seconds:
            raise TimeoutError
        return {number: self._known(number)[1] for number in self._partitions}

    def _is_unknown(self, number: int) -> bool:
        if self._is_waiting and number not in self.paused:
            return False  # the leader responds as soon as there are records
        return _now_ms() - self._known(number)[0] > END_AGE_MS

    def _known(self, number: int) -> tuple[int, int]:
        """When and what was last known of the end of a partition."""
        seen, requested = self._fetcher.buffer(self._partitions[number]).seen, self._requested.get(number, (0, 0))
        return requested if seen is None or seen.at_ms <= requested[0] else (seen.at_ms, seen.end)

    @property
    def overdue_seconds(self) -> float:
        """How long a leader has not responded to a request for records; 0 if all do in time."""
        return max((seconds for one in self._partitions.values() if (seconds := self._overdue(one))), default=0.0)

    def _overdue(self, partition: TopicPartition) -> float:
        _, seconds = self._fetcher.standing(partition)
        return seconds if seconds > OVERDUE_SECONDS else 0.0

    def away(self) -> str:
        """Describe the leaders from which nothing is received."""
        away: dict[str, list[str]] = {}
        for number, partition in self._partitions.items():
            leader, _ = self._fetcher.standing(partition)
            if leader is None:
                away.setdefault("there is no connection to the leader", []).append(f"{self._topic}-{number}")
            elif self._overdue(partition):
                away.setdefault(f"{leader} does not respond, the leader", []).append(f"{self._topic}-{number}")
        return "; ".join(f"{what} of {', '.join(names)}" for what, names in away.items()) or "the leaders respond slowly"

    async def close(self) -> None:
        """Close the connections; `wait` returns."""
        self._is_closed = True
        await self._fetcher.close()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000

"""The engine in the broker's process: implements the interfaces of `ports.py` with the broker's in-process API.

It may process input that is appended but not yet on disk: its output follows the input in the same journal, and the broker
makes neither visible before both are on disk. So `commit` does not wait for the disk: one sync of the journal covers input and
output, and the next batch is decided meanwhile.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence

from ..broker import BrokerError, Fetched, LocalBroker, ProducerId
from ..kafka import (
    BATCH_BYTES_MAX,
    EVENTS,
    INTAKE,
    STATE,
    OffsetOutOfRange,
    Record,
    RecordTooLarge,
    SessionFailed,
    SessionFenced,
    StoredRecord,
    TopicPartition,
    TransactionalSession,
    build_batches,
    commands_topic,
    end_of_batches,
    read_batches,
)
from ..protocol import ErrorCode
from .ports import DiskSpace, Intake, transactional_id
from .settings import COMPRESSION

#: Most bytes per read: compressed records may be ten times as large, and the broker's event loop waits while they are decoded.
FETCH_BYTES = 256 * 1024

#: Larger outputs for a partition are written as several batches in the same transaction.
RUN_BYTES_MAX = 4 * 1024 * 1024

#: How long to wait for a topic that does not exist yet, and poll interval (seconds).
RETRY_SECONDS = 5.0
RETRY_PAUSE_SECONDS = 0.01

#: Most bytes of input per batch, because the output must fit into one batch per partition.
TURN_BYTES = 2 * 1024 * 1024

_FENCED = {ErrorCode.INVALID_PRODUCER_EPOCH, ErrorCode.PRODUCER_FENCED}


class InProcessSession:
    """The implementation of `TransactionalSession` on `LocalBroker`. A commit is in one block of the journal, so it needs no
    transaction; a marker after its events shows which were committed together.

    With `behind_input`, `commit` does not wait until the records are on disk: it returns in the turn of the event loop after
    that in which they were appended. Neither they nor the input are visible to others before both are on disk, so the engine
    can continue. `close` waits for the disk.
    """

    def __init__(
        self,
        local: LocalBroker,
        transactional_id: str,
        *,
        transaction_timeout_ms: int = 10_000,
        compression: str = "none",
        retry_seconds: float = RETRY_SECONDS,
        behind_input: bool = False,
    ) -> None:
        self._local = local
        self._timeout_ms = transaction_timeout_ms
        self._compression = compression
        self._retry_seconds = retry_seconds
        self._behind_input = behind_input
        self._owner = ProducerId(transactional_id, -1, -1)
        self._ended: str | None = "it was not opened"

    async def open(self) -> None:
        """Fence the predecessor and abort its transaction."""
        try:
            self._owner = await self._local.init_producer(self._owner.transactional_id, timeout_ms=self._timeout_ms)
        except BrokerError as error:
            raise self._end(error) from error
        self._ended = None

    async def commit(self, outputs: Mapping[TopicPartition, Sequence[Record]]) -> Mapping[TopicPartition, int]:
        """See `TransactionalSession.commit`."""
        if self._ended is not None:
            raise SessionFailed(f"The session of transactional id {self._owner.transactional_id!r} has ended: {self._ended}.")
        batches = self._build(outputs)
        if not batches:
            return {}
        try:
            offsets = await self._append(batches)
        except BrokerError as error:
            raise self._end(error) from error
        if self._behind_input:
            self._local.request_flush()
            await asyncio.sleep(0)  # so that the block is written before the caller continues
        else:
            self._ended = "its last commit was interrupted"
            await self._local.stable()
            self._ended = None
        return offsets

    def _build(self, outputs: Mapping[TopicPartition, Sequence[Record]]) -> dict[TopicPartition, Sequence[bytes]]:
        built: dict[TopicPartition, Sequence[bytes]] = {}
        for place, records in outputs.items():
            if not records:
                continue
            batches = build_batches(records, RUN_BYTES_MAX, compression=self._compression)
            if (largest := max(map(len, batches))) > BATCH_BYTES_MAX:
                raise RecordTooLarge(place.topic, largest, BATCH_BYTES_MAX)
            built[place] = batches
        return built

    async def _append(self, batches: Mapping[TopicPartition, Sequence[bytes]]) -> dict[TopicPartition, int]:
        """Append the batches atomically; waits for topics that do not exist yet. Returns the offset of the first record of each
        partition."""
        marked = [place for place in batches if place.topic == EVENTS]
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._retry_seconds
        while True:
            try:
                return self._local.append_together_soon(self._owner, batches, marked=marked)
            except BrokerError as error:
                if error.code is not ErrorCode.UNKNOWN_TOPIC_OR_PARTITION or loop.time() > deadline:
                    raise
            await asyncio.sleep(RETRY_PAUSE_SECONDS)

    def _end(self, error: BrokerError) -> SessionFenced | SessionFailed:
        self._ended = str(error)
        return _session_error(error)

    async def close(self) -> None:
        """Wait until everything committed is on disk."""
        self._ended = self._ended or "closed by its owner"
        await self._local.stable()


def _session_error(error: BrokerError) -> SessionFenced | SessionFailed:
    if error.code in _FENCED:
        return SessionFenced(str(error))
    return SessionFailed(str(error))


class InProcessIntake:
    """The intake up to the append position; respects the last stable offset and aborted transactions there."""

    def __init__(self, local: LocalBroker, partition: int, offset: int) -> None:
        self._local = local
        self._partition = partition
        self._position = offset
        self._buffer: list[StoredRecord] = []
        self._end = offset
        self._end_at = 0.0
        self.log_start = self._look(1).log_start

    @property
    def position(self) -> int:
        """See Intake."""
        return self._buffer[0].offset if self._buffer else self._position

    @property
    def end(self) -> int:
        """See Intake."""
        return self._end

    @property
    def end_at(self) -> float:
        """See Intake."""
        return self._end_at

    async def read(self, max_records: int, timeout_seconds: float) -> list[StoredRecord]:
        """The next records. Other tasks of the broker's event loop run first."""
        if self._buffer or timeout_seconds <= 0 or self._local.end(INTAKE, self._partition, unsynced=True) > self._position:
            await asyncio.sleep(0)
        else:
            await self._local.wait(INTAKE, self._partition, self._position, timeout_seconds=timeout_seconds, unsynced=True)
        if not self._buffer:
            self._fetch()
        return self._take(max_records)

    def _look(self, max_bytes: int) -> Fetched:
        """Fetch at the position. Raises OffsetOutOfRange."""
        try:
            return self._local.fetch(INTAKE, self._partition, self._position, max_bytes=max_bytes, unsynced=True)
        except BrokerError as error:
            if error.code is ErrorCode.OFFSET_OUT_OF_RANGE:
                raise OffsetOutOfRange(INTAKE, self._partition, self._position) from error
            raise

    def _fetch(self) -> None:
        while not self._buffer:
            self._end = self._local.end(INTAKE, self._partition, committed=False, unsynced=True)
            self._end_at = asyncio.get_running_loop().time()
            if self._position == self._end:
                return
            fetched = self._look(FETCH_BYTES)
            if self._position >= fetched.end or not fetched.data:
                return
            last, records = _decode(fetched.data, fetched.aborted)
            self._buffer = [record for record in records if record.offset >= self._position]
            self._position = min(last, fetched.end)

    def _take(self, max_records: int) -> list[StoredRecord]:
        size = 0
        for count, record in enumerate(self._buffer):
            size += len(record.value or b"")
            if count == max_records or (size > TURN_BYTES and count > 0):
                taken, self._buffer = self._buffer[:count], self._buffer[count:]
                return taken
        taken, self._buffer = self._buffer, []
        return taken

    async def close(self) -> None:
        """Nothing to release."""


def _decode(data: bytes, aborted: Sequence[tuple[int, int]]) -> tuple[int, list[StoredRecord]]:
    """Returns the offset after the last batch in `data` (base offset + last offset delta + 1), and the visible records."""
    return end_of_batches(data), read_batches(data, aborted=aborted)


class InProcessBroker:
    """Implements `EngineBroker` on `LocalBroker`. `cluster` is the prefix of the transactional ids; `compression`: see
    `LoopSettings`."""

    def __init__(self, local: LocalBroker, *, cluster: str = "hub", compression: str = COMPRESSION) -> None:
        self._local = local
        self._cluster = cluster
        self._compression = compression

    async def session(self, partition: int) -> TransactionalSession:
        """An open session; earlier owners are fenced."""
        session = InProcessSession(
            self._local, transactional_id(self._cluster, partition), compression=self._compression, behind_input=True
        )
        await session.open()
        return session

    async def changelog(self, partition: int, from_offset: int) -> AsyncIterator[StoredRecord]:
        """The committed rows, in order, up to the end at the time of the call. Only rows on disk: a snapshot must not contain
        rows that the log may lose."""
        await self._local.stable()
        end = self._local.end(STATE, partition)
        log_start = self._local.fetch(STATE, partition, end, max_bytes=1).log_start
        if from_offset and not log_start <= from_offset <= end:
            raise OffsetOutOfRange(STATE, partition, from_offset)
        position = max(from_offset, log_start)
        while position < end:
            fetched = self._local.fetch(STATE, partition, position, max_bytes=FETCH_BYTES)
            if not fetched.data:
                return  # everything up to the end was removed by compaction
            last, records = _decode(fetched.data, fetched.aborted)
            for record in records:
                if position <= record.offset < end:
                    yield record
            assert last > position, "a fetch returns batches that end after the position"
            position = last
            await asyncio.sleep(0)

    async def intake(self, partition: int, offset: int) -> Intake:
        """The intake, positioned at `offset`."""
        return InProcessIntake(self._local, partition, offset)

    async def events_end(self, partition: int) -> int:
        """The end offset of the events of the partition."""
        return self._local.end(EVENTS, partition, unsynced=True)

    async def pools(self) -> list[str]:
        """The pools that have a commands topic."""
        prefix = commands_topic("")
        return [topic.removeprefix(prefix) for topic in self._local.topics() if topic.startswith(prefix)]

    async def trim_intake(self, partition: int, before: int) -> None:
        """See EngineBroker."""
        try:
            await self._local.delete_records(INTAKE, partition, before)
        except BrokerError as error:
            raise SessionFailed(f"The records of {INTAKE}-{partition} could not be deleted: {error}.") from error

    async def disk_space(self) -> DiskSpace | None:
        """See EngineBroker."""
        total, usable = self._local.disk_space()
        return DiskSpace(usable, total)

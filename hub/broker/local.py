"""The in-process API of the broker: no sockets, no encoding.

It offers what an engine partition needs: a producer identity, atomic appends to several partitions, and reads. A reader may
also read records that are appended but not yet on disk: records that it appends as a result come later in the same journal, and
become visible only when both are on disk.
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple, TypeVar

from ..protocol import ErrorCode
from .batches import BatchHeader, check_batch
from .broker import Broker
from .errors import BrokerError
from .log import PartitionLog
from .timing import Deferred

Partition = tuple[str, int]
_Place = TypeVar("_Place", bound=Partition)


class ProducerId(NamedTuple):
    """An initialised transactional producer. It owns its transactional id until another one is initialised with it."""

    transactional_id: str
    producer_id: int
    epoch: int


class Fetched(NamedTuple):
    """Result of a read."""

    data: bytes
    """Complete batches; the first may begin before the requested offset."""
    aborted: list[tuple[int, int]]
    """(producer id, first offset) of aborted transactions in the data; empty for readers of uncommitted records."""
    log_start: int
    end: int
    """The first offset that is not yet visible to this reader."""


class LocalBroker:
    """The in-process API. Use it on the broker's event loop only."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._state = broker.state

    # --- topics

    async def create_topic(
        self, name: str, partitions: int, configs: Mapping[str, str] | None = None, *, exist_ok: bool = False
    ) -> None:
        """Create a topic; returns when it is on disk. Raises `BrokerError`, but with `exist_ok` not if the topic exists."""
        if not (exist_ok and name in self._state.topics):
            self._require_writable()
            self._state.topics.create(name, partitions, dict(configs or {}))
        await _result(self._state.when_stable(None))

    async def delete_topic(self, name: str) -> None:
        """Delete a topic; returns when that is on disk. Raises `BrokerError`."""
        topic = self._state.topics.get(name)
        if topic is None:
            raise BrokerError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, name)
        self._state.topics.delete(topic)
        await _result(self._state.when_stable(None))

    def topics(self) -> dict[str, int]:
        """Number of partitions by topic."""
        return {topic.name: len(topic.logs) for topic in self._state.topics.values()}

    # --- groups

    async def commit_offsets(self, group: str, offsets: Mapping[Partition, int]) -> None:
        """Commit offsets of a group without members; returns when they are on disk. Raises `BrokerError`."""
        self._require_writable()
        error = self._broker.groups.offsets.check_commit(group, -1, "", None)
        if error is not ErrorCode.NONE:
            raise BrokerError(error, f"group {group} has active members")
        for partition in offsets:
            self._log(*partition)
        self._broker.groups.offsets.commit(group, [(*partition, offset, -1, "") for partition, offset in offsets.items()])
        await _result(self._state.when_stable(None))

    def committed_offsets(self, group: str) -> dict[Partition, int]:
        """The committed offsets of a group; empty for an unknown group."""
        found = self._broker.groups.groups.get(group)
        return {} if found is None else {partition: entry.offset for partition, entry in found.offsets.items()}

    # --- writing

    async def delete_records(self, topic: str, partition: int, before: int) -> None:
        """Delete the records before offset `before`; returns when that is on disk. No effect if they are deleted already.
        Allowed on a full disk, because it frees space. Raises `BrokerError` if the offset is after the stable end of the
        log."""
        log = self._log(topic, partition)
        if before > log.stable_end:
            raise BrokerError(ErrorCode.OFFSET_OUT_OF_RANGE, f"{topic}-{partition} ends at {log.stable_end}, got {before}")
        if before > log.start:
            self._state.topics.delete_records(log, before)
            await _result(self._state.when_stable(None))

    def disk_space(self) -> tuple[int, int]:
        """(total, usable) bytes of the file system of the data directory. Raises OSError."""
        return self._state.storage.disk_space()

    async def init_producer(self, transactional_id: str, *, timeout_ms: int) -> ProducerId:
        """Initialise a transactional producer: fences its predecessor and aborts an open transaction. Raises `BrokerError`."""
        self._require_writable()
        result = self._broker.transactions.init_producer(transactional_id, timeout_ms)
        if result.error is not ErrorCode.NONE:
            raise BrokerError(result.error, transactional_id)
        await _result(self._state.when_stable(None))
        return ProducerId(transactional_id, result.producer_id, result.epoch)

    async def append_together(
        self, owner: ProducerId, batches: Mapping[_Place, Sequence[bytes]], *, marked: Collection[_Place] = ()
    ) -> dict[_Place, int]:
        """Append batches to one or several partitions atomically, if `owner` still owns its transactional id. Returns the base
        offset of the first batch of each partition when they and everything appended before are on disk.

        All batches are in one block of the journal: after a crash all exist or none, and they become visible at the same time.
        So they need no transaction, and have no producer id. After the batches of the partitions `marked` a commit marker
        shows readers of the log which records were committed together.

        Changes memory before the first await, so calls take effect in call order. Raises `BrokerError`; then nothing was
        appended."""
        offsets = self.append_together_soon(owner, batches, marked=marked)
        await _result(self._state.when_stable(None))
        return offsets

    def append_together_soon(
        self, owner: ProducerId, batches: Mapping[_Place, Sequence[bytes]], *, marked: Collection[_Place] = ()
    ) -> dict[_Place, int]:
        """`append_together` without waiting for the disk: do not acknowledge the records before `stable` has returned."""
        self._require_writable()
        error, entry = self._broker.transactions.check(*owner)
        if entry is None:
            raise BrokerError(error, owner.transactional_id)
        if entry.open:
            raise BrokerError(ErrorCode.CONCURRENT_TRANSACTIONS, f"{owner.transactional_id} has an open transaction")
        if not batches or not all(batches.values()):
            raise BrokerError(ErrorCode.INVALID_REQUEST, "there are no batches, or none for one of the partitions")
        checked: list[tuple[PartitionLog, bytes, BatchHeader]] = []
        firsts = {}
        for partition, given in batches.items():
            firsts[partition] = len(checked)
            checked += [self._checked(partition, batch) for batch in given]
        offsets = self._broker.transactions.append_owned(entry, checked, [self._log(*partition) for partition in marked])
        return {partition: offsets[first] for partition, first in firsts.items()}

    def _checked(self, partition: Partition, batch: bytes) -> tuple[PartitionLog, bytes, BatchHeader]:
        log = self._log(*partition)
        error, header = check_batch(batch, log.settings.message_bytes_max)
        if header is None:
            raise BrokerError(error, f"a batch for {partition[0]}-{partition[1]}")
        if header.producer_id >= 0:
            raise BrokerError(ErrorCode.INVALID_RECORD, f"a batch for {partition[0]}-{partition[1]} has a producer id")
        return log, batch, header

    async def append(self, topic: str, partition: int, batch: bytes) -> int:
        """Append a batch without producer id; returns its base offset when it is on disk. Raises `BrokerError`."""
        offset = self.append_soon(topic, partition, batch)
        await _result(self._state.when_stable(None))
        return offset

    def append_soon(self, topic: str, partition: int, batch: bytes) -> int:
        """`append` without waiting for the disk: do not acknowledge the batch before `stable` has returned."""
        self._require_writable()
        return self._state.append(*self._checked((topic, partition), batch))

    def request_flush(self) -> None:
        """Request that all changes so far are written now, without waiting for them."""
        self._state.pending.request_flush()

    async def stable(self) -> None:
        """Wait until all changes so far are on disk."""
        await _result(self._state.when_stable(None))

    def _require_writable(self) -> None:
        if not self._state.storage.writable:
            raise BrokerError(ErrorCode.KAFKA_STORAGE_ERROR, "the disk is full; free space or shorten the retention of topics")

    def _log(self, topic: str, partition: int) -> PartitionLog:
        log = self._state.log(topic, partition)
        if log is None:
            raise BrokerError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"{topic}-{partition}")
        return log

    # --- reading

    def fetch(
        self,
        topic: str,
        partition: int,
        offset: int,
        *,
        max_bytes: int,
        committed: bool = True,
        unsynced: bool = False,
    ) -> Fetched:
        """Complete batches from the one that contains `offset`: at least one if any is visible, then up to `max_bytes`.

        Raises `BrokerError` (OFFSET_OUT_OF_RANGE, UNKNOWN_TOPIC_OR_PARTITION)."""
        log = self._log(topic, partition)
        end = log.visible_end(committed=committed, unsynced=unsynced)
        if not log.start <= offset <= (log.end if unsynced else log.stable_end):
            raise BrokerError(
                ErrorCode.OFFSET_OUT_OF_RANGE, f"{topic}-{partition} has offsets {log.start} to {log.end}, got {offset}"
            )
        data, aborted = log.read(offset, max_bytes, committed=committed, unsynced=unsynced)
        return Fetched(data, aborted, log.start, end)

    def end(self, topic: str, partition: int, *, committed: bool = True, unsynced: bool = False) -> int:
        """The first offset that is not yet visible to such a reader. Raises `BrokerError`."""
        return self._log(topic, partition).visible_end(committed=committed, unsynced=unsynced)

    async def wait(
        self,
        topic: str,
        partition: int,
        offset: int,
        *,
        timeout_seconds: float,
        committed: bool = True,
        unsynced: bool = False,
    ) -> bool:
        """Wait until the visible end is after `offset`; False on timeout. Raises `BrokerError`."""
        log = self._log(topic, partition)
        if log.visible_end(committed=committed, unsynced=unsynced) > offset:
            return True
        loop = asyncio.get_running_loop()
        arrived: asyncio.Future[bool] = loop.create_future()

        def look() -> None:
            if not arrived.done():
                gone = self._state.log(topic, partition) is not log
                if gone or log.visible_end(committed=committed, unsynced=unsynced) > offset:
                    arrived.set_result(not gone)

        waiters = log.append_waiters if unsynced else log.waiters
        waiters[look] = None

        def give_up() -> None:
            if not arrived.done():
                arrived.set_result(False)

        timer = loop.call_later(timeout_seconds, give_up)
        try:
            return await arrived
        finally:
            timer.cancel()
            waiters.pop(look, None)


async def _result(deferred: Deferred) -> object:
    """Wait for a deferred response."""
    if deferred.done:
        return deferred.value
    future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
    deferred.then(lambda value: None if future.done() else future.set_result(value))
    return await future

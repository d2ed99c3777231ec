"""The engine's ports in a process of its own: each request to the broker's core takes time and may never be answered, and a
transaction is one request for each partition and then its end, as over TCP."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from hub.broker import Broker, LocalBroker
from hub.broker.batches import read_header
from hub.engine.in_process import InProcessBroker
from hub.engine.ports import DiskSpace, Intake, transactional_id
from hub.kafka import (
    INTAKE,
    ConnectionLost,
    OffsetOutOfRange,
    Record,
    SessionFailed,
    SessionFenced,
    StoredRecord,
    TopicPartition,
    TransactionalSession,
    build_batches,
    read_batches,
)
from hub.protocol import ErrorCode

from .broker import end_of
from .network import FETCH_BYTES, delay

if TYPE_CHECKING:
    from .world import World

T = TypeVar("T")

#: What is not answered after this time is given up: it may have happened, or may still happen (seconds).
ANSWER_SECONDS = 3.0
TRANSACTION_TIMEOUT_MS = 10_000
RUN_BYTES_MAX = 4 << 20

_FENCED = {ErrorCode.INVALID_PRODUCER_EPOCH, ErrorCode.PRODUCER_FENCED, ErrorCode.INVALID_PRODUCER_ID_MAPPING}


class Requests:
    """Requests of one process to the broker's core. A request that is under way arrives though its sender has died."""

    def __init__(self, world: "World") -> None:
        self._world = world

    def ask(self, request: Callable[[Broker], T], *, durable: bool = False) -> "asyncio.Future[T]":
        """The answer of the core; `durable`: when what it did is on disk. It fails with ConnectionLost where none comes, and with
        what `request` raises."""
        answer = _Answer(self._world.loop)
        self._world.outside.later(self._delay(), self._arrive, request, answer, durable)
        return answer.future

    def _delay(self) -> float:
        world = self._world
        late = world.chance.uniform(0.2, 6.0) if world.chance.random() < world.weather.late / 4 else 0.0
        return delay(world) + late

    def _arrive(self, request: Callable[[Broker], T], answer: "_Answer", durable: bool) -> None:
        broker = self._world.broker
        if broker.local is None:
            return
        try:
            result = broker.apply(request)
        except Exception as error:
            self._world.outside.later(self._delay(), answer.fail, error)
            return
        if durable:
            broker.when_stable(lambda: self._answer(answer, result))
        else:
            self._answer(answer, result)

    def _answer(self, answer: "_Answer", result: object) -> None:
        if self._world.chance.random() >= self._world.weather.unacknowledged / 4:
            self._world.outside.later(self._delay(), answer.give, result)


class _Answer:
    """A future, and the end of the time that is left for it."""

    __slots__ = ("_late", "future")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.future: asyncio.Future[Any] = loop.create_future()
        self._late = loop.call_later(ANSWER_SECONDS, self._give_up)

    def _give_up(self) -> None:
        self.fail(ConnectionLost("the simulated broker does not answer"))

    def fail(self, error: Exception) -> None:
        self._late.cancel()
        if not self.future.done():
            self.future.set_exception(error)

    def give(self, result: object) -> None:
        self._late.cancel()
        if not self.future.done():
            self.future.set_result(result)


class NetworkSession:
    """A `TransactionalSession` in the repaired protocol (KIP-890): a new epoch with every transaction."""

    def __init__(self, requests: Requests, transactional_id: str) -> None:
        self._requests = requests
        self._id = transactional_id
        self._producer = -1, -1
        self._ended = True

    async def open(self) -> None:
        """See TransactionalSession."""
        identity = await self._requests.ask(
            lambda core: core.transactions.init_producer(self._id, TRANSACTION_TIMEOUT_MS), durable=True
        )
        _check(identity.error)
        self._producer, self._ended = (identity.producer_id, identity.epoch), False

    async def commit(self, outputs: Mapping[TopicPartition, Sequence[Record]]) -> Mapping[TopicPartition, int]:
        """See TransactionalSession."""
        if self._ended:
            raise SessionFailed("the session has ended")
        places = {place: records for place, records in outputs.items() if records}
        if not places:
            return {}
        self._ended = True
        asked = [(place, self._produce(place, batch)) for place, records in places.items() for batch in self._build(records)]
        await asyncio.wait([answer for _, answer in asked])
        offsets = dict(reversed([(place, answer.result()) for place, answer in asked]))
        ended = await self._requests.ask(
            lambda core: core.transactions.end(self._id, *self._producer, commit=True, bump=True), durable=True
        )
        _check(ended.error)
        self._producer, self._ended = (ended.producer_id, ended.epoch), False
        return offsets

    def _build(self, records: Sequence[Record]) -> Sequence[bytes]:
        producer_id, epoch = self._producer
        return build_batches(records, RUN_BYTES_MAX, producer_id=producer_id, producer_epoch=epoch)

    def _produce(self, place: TopicPartition, batch: bytes) -> "asyncio.Future[int]":
        return self._requests.ask(lambda core: self._append(core, place, batch))

    def _append(self, core: Broker, place: TopicPartition, batch: bytes) -> int:
        log, header = core.state.log(*place), read_header(batch)
        if log is None or not core.storage.writable:
            raise SessionFailed(f"{place} cannot be written")
        identity = self._id, header.producer_id, header.producer_epoch
        _check(core.transactions.check_produce(*identity, place.topic, log, implicit=True))
        error, seen_at = log.check_producer(header)
        _check(error)
        return core.state.append(log, batch, header) if seen_at is None else seen_at

    async def close(self) -> None:
        """See TransactionalSession."""
        self._ended = True


def _check(error: ErrorCode) -> None:
    if error in _FENCED:
        raise SessionFenced(error.name)
    if error is not ErrorCode.NONE:
        raise SessionFailed(error.name)


class NetworkIntake:
    """The intake as a committed reader outside the broker's process sees it."""

    def __init__(self, world: "World", requests: Requests, partition: int, offset: int) -> None:
        self._world = world
        self._requests = requests
        self._partition = partition
        self._next = offset
        self._buffer: list[StoredRecord] = []
        self._more = asyncio.Event()
        self._watched: Broker | None = None
        self.log_start = 0
        self.end = offset + 1
        self.end_at = asyncio.get_running_loop().time()

    async def open(self) -> "NetworkIntake":
        """Find the start of the log. Raises OffsetOutOfRange."""
        await self._fetch()
        return self

    @property
    def position(self) -> int:
        """See Intake."""
        return self._buffer[0].offset if self._buffer else self._next

    async def read(self, max_records: int, timeout_seconds: float) -> list[StoredRecord]:
        """See Intake."""
        if not self._buffer:
            if timeout_seconds > 0 and not self._more.is_set():
                await self._wait(timeout_seconds)
            await self._world.engines.turn()
            await self._fetch()
        taken, self._buffer = self._buffer[:max_records], self._buffer[max_records:]
        return taken

    async def _wait(self, timeout_seconds: float) -> None:
        timer = self._world.loop.call_later(timeout_seconds, self._more.set)
        await self._more.wait()
        timer.cancel()

    async def _fetch(self) -> None:
        self._more.clear()
        asked_at = asyncio.get_running_loop().time()
        self.log_start, end, after, found = await self._requests.ask(self._look)
        self._buffer = [record for record in found if record.offset >= self._next]
        self._next, self.end, self.end_at = max(self._next, after), end, asked_at

    def _look(self, core: Broker) -> tuple[int, int, int, list[StoredRecord]]:
        if self._watched is not core:
            self._watched = core
            self._world.broker.watch(INTAKE, self._partition, self._more.set)
        log = core.state.log(INTAKE, self._partition)
        assert log is not None
        end = log.visible_end(committed=False)
        if not log.start <= self._next <= end:
            raise OffsetOutOfRange(INTAKE, self._partition, self._next)
        fetched = LocalBroker(core).fetch(INTAKE, self._partition, self._next, max_bytes=FETCH_BYTES)
        after = end_of(fetched.data) if fetched.data else self._next
        return fetched.log_start, end, after, read_batches(fetched.data, aborted=fetched.aborted)

    async def close(self) -> None:
        """See Intake."""


class NetworkBroker:
    """The engine's ports; see the module."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._requests = Requests(world)

    async def session(self, partition: int) -> TransactionalSession:
        """See EngineBroker."""
        session = NetworkSession(self._requests, transactional_id("hub", partition))
        await session.open()
        return session

    async def _port(self) -> InProcessBroker:
        """The door, after the time that a request takes."""
        return InProcessBroker(await self._requests.ask(LocalBroker, durable=True))

    async def changelog(self, partition: int, from_offset: int) -> AsyncIterator[StoredRecord]:
        """See EngineBroker."""
        records = (await self._port()).changelog(partition, from_offset)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):  # a broker that crashed meanwhile never has its changelog on disk
                record = await anext(records, None)
        except TimeoutError as late:
            raise ConnectionLost("the simulated broker does not answer") from late
        while record is not None:
            yield record
            record = await anext(records, None)

    async def intake(self, partition: int, offset: int) -> Intake:
        """See EngineBroker."""
        return await NetworkIntake(self._world, self._requests, partition, offset).open()

    async def events_end(self, partition: int) -> int:
        """See EngineBroker."""
        return await (await self._port()).events_end(partition)

    async def pools(self) -> list[str]:
        """See EngineBroker."""
        return await (await self._port()).pools()

    async def trim_intake(self, partition: int, before: int) -> None:
        """See EngineBroker."""
        await self._requests.ask(lambda core: _delete_records(core, partition, before), durable=True)

    async def disk_space(self) -> DiskSpace | None:
        """See EngineBroker."""
        total, usable = await self._requests.ask(lambda core: core.storage.disk_space())
        return DiskSpace(usable, total)


def _delete_records(core: Broker, partition: int, before: int) -> None:
    log = core.state.log(INTAKE, partition)
    assert log is not None
    if before > log.stable_end:
        raise ConnectionLost(f"{INTAKE}-{partition} ends at {log.stable_end}, before {before}")
    if before > log.start:
        core.state.record("delete_records", log.key.topic_number, partition, before)

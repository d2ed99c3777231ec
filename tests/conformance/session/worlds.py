"""The environments for tests of transactional sessions: a broker, a factory of sessions, and an independent reader.

To add an implementation, append a `SessionFactory` to `SESSION_FACTORIES`; all tests of this folder then run with it.
"""

import asyncio
import contextlib
import operator
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import pytest
from aiokafka.admin import NewTopic

from hub.engine.in_process import InProcessSession
from hub.kafka import (
    ClassicSession,
    Cluster,
    Kip890Session,
    PartitionReader,
    Record,
    StoredRecord,
    TopicPartition,
    TransactionalSession,
    make_admin,
    read_all,
)
from tests.brokers import broker_and_loop, unique

MARKER_SECONDS = 0.3
T = TypeVar("T")
Outputs = Mapping[TopicPartition, Sequence[Record]]


@dataclass
class World:
    """A broker and one kind of session on it. `make` takes a cluster, a transactional id and settings."""

    bootstrap: str
    make: Callable[..., TransactionalSession]
    at_once: bool = False
    """Whether a commit can be over before anybody could cancel it."""

    def session(self, transactional_id: str, **settings: Any) -> TransactionalSession:
        """A session, not open yet."""
        return self.make(Cluster.of(self.bootstrap), transactional_id, **settings)

    async def topic(self, partitions: int = 1) -> str:
        """A new topic."""
        name = unique("topic")
        await self.create(name, partitions)
        return name

    async def create(self, name: str, partitions: int) -> None:
        """Create a topic that takes batches of 8 MiB."""
        admin = make_admin(Cluster.of(self.bootstrap))
        try:
            await admin.start()
            config = {"max.message.bytes": str(8 << 20)}
            answer = await admin.create_topics([NewTopic(name, partitions, 1, topic_configs=config)])
            assert [error[1] for error in answer.topic_errors] == [0]
        finally:
            await admin.close()

    async def committed(self, topic: str, partition: int = 0) -> list[StoredRecord]:
        """What a reader of committed records can see. Apache Kafka acknowledges the end of a transaction before its markers are
        in all partitions, so this waits a while for a log without open transactions."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(MARKER_SECONDS):
                while operator.ne(*await self.ends(topic, partition)):
                    await asyncio.sleep(0.005)
        return [record async for record in read_all(Cluster.of(self.bootstrap), topic, partition, 0)]

    async def values(self, topic: str, partition: int = 0) -> list[bytes | None]:
        """The values of `committed`."""
        return [record.value for record in await self.committed(topic, partition)]

    async def visible(self, topic: str, partition: int, count: int) -> list[bytes | None]:
        """The values of `committed` as soon as there are `count`."""
        async with asyncio.timeout(60):
            while len(values := await self.values(topic, partition)) < count:
                await asyncio.sleep(0.01)
        return values

    async def ends(self, topic: str, partition: int = 0) -> tuple[int, int]:
        """(last stable offset, end of the log): different while a transaction is open."""
        stable = await self._end(topic, partition, committed=True)
        return stable, await self._end(topic, partition, committed=False)

    async def _end(self, topic: str, partition: int, *, committed: bool) -> int:
        async with PartitionReader(Cluster.of(self.bootstrap), committed=committed) as reader:
            await reader.open(topic, partition, 0)
            return await reader.end_offset()

    async def abandon(self, transactional_id: str, outputs: Outputs, *, transaction_timeout_ms: int = 60_000) -> None:
        """Take the id, produce, and vanish before the end of the transaction. What was produced is in the log: the embedded
        broker acknowledges it before it is on disk."""
        session = Kip890Session(Cluster.of(self.bootstrap), transactional_id, transaction_timeout_ms=transaction_timeout_ms)
        await session.open()
        for batches in session._build_rounds(outputs):
            for (topic, partition), first in (await session._produce(batches)).items():
                while await self._end(topic, partition, committed=False) <= first:
                    await asyncio.sleep(0.005)
        await session.close()


class SessionFactory(NamedTuple):
    """`enter` gets pytest's request (for fixtures) and gives a world for one test."""

    name: str
    enter: Callable[[pytest.FixtureRequest], AbstractContextManager[World]]
    marks: Sequence[pytest.MarkDecorator] = ()


def over_tcp(
    kind: Callable[..., TransactionalSession], fixture: str
) -> Callable[[pytest.FixtureRequest], AbstractContextManager[World]]:
    """A world on the broker of a session fixture."""

    @contextmanager
    def enter(request: pytest.FixtureRequest) -> Iterator[World]:
        yield World(request.getfixturevalue(fixture), kind)

    return enter


SESSION_FACTORIES = [
    SessionFactory("kip890-embedded", over_tcp(Kip890Session, "embedded_bootstrap")),
    SessionFactory("classic-embedded", over_tcp(ClassicSession, "embedded_bootstrap")),
    SessionFactory("kip890-kafka", over_tcp(Kip890Session, "kafka_bootstrap"), [pytest.mark.kafka]),
    SessionFactory("classic-kafka", over_tcp(ClassicSession, "kafka_bootstrap"), [pytest.mark.kafka]),
]


def record(value: bytes | str, key: bytes | None = b"key") -> Record:
    """A record of now."""
    return Record(key, value.encode() if isinstance(value, str) else value, (), int(time.time() * 1000))


class _OnBrokersLoop:
    """An in-process session seen from the test's loop: every call runs on the broker's."""

    def __init__(self, loop: asyncio.AbstractEventLoop, session: InProcessSession) -> None:
        self._loop, self._session = loop, session

    def _there(self, call: Coroutine[Any, Any, T]) -> "asyncio.Future[T]":
        return asyncio.wrap_future(asyncio.run_coroutine_threadsafe(call, self._loop))

    async def open(self) -> None:
        await self._there(self._session.open())

    async def commit(self, outputs: Outputs) -> Mapping[TopicPartition, int]:
        return await self._there(self._session.commit(outputs))

    async def close(self) -> None:
        await self._there(self._session.close())


@contextmanager
def in_process(request: pytest.FixtureRequest) -> Iterator[World]:
    """A broker of its own, and sessions inside its process."""
    with broker_and_loop() as (server, loop):

        def make(cluster: Cluster, transactional_id: str, **settings: Any) -> TransactionalSession:
            return _OnBrokersLoop(loop, InProcessSession(server.local, transactional_id, **settings))

        yield World(server.bootstrap, make, at_once=True)


SESSION_FACTORIES.append(SessionFactory("in-process", in_process))

"""KIP-890: an epoch per transaction. Raw requests, because no ordinary Python client speaks it."""

import datetime
from collections.abc import AsyncIterator
from typing import Any

import pytest
from kio.schema.errors import ErrorCode
from kio.static.primitive import Records, i8, i16, i32, i32Timedelta, i64

from hub.broker import BrokerServer

from .client import LateClock, RawClient, batch, kio_class, values_of


class Session:
    """A transactional producer of the repaired protocol, one request at a time."""

    def __init__(self, client: RawClient, transactional_id: str = "tx") -> None:
        self.client = client
        self.transactional_id = transactional_id
        self.producer_id = self.epoch = -1
        self.sequence = 0

    async def open(self, timeout_ms: int = 10_000) -> None:
        answer = await self.client.ask(
            "init_producer_id",
            5,
            transactional_id=self.transactional_id,
            transaction_timeout=i32Timedelta.parse(datetime.timedelta(milliseconds=timeout_ms)),
        )
        assert answer.error_code is ErrorCode.none
        self.producer_id, self.epoch, self.sequence = answer.producer_id, answer.producer_epoch, 0

    async def produce(self, *values: bytes, topic: str = "t", partition: int = 0) -> ErrorCode:
        raw = batch(values, producer_id=self.producer_id, epoch=self.epoch, sequence=self.sequence, transactional=True)
        data = kio_class("produce", 12, "request", "TopicProduceData")(
            name=topic,
            partition_data=(
                kio_class("produce", 12, "request", "PartitionProduceData")(index=i32(partition), records=Records(raw)),
            ),
        )
        answer = await self.client.ask(
            "produce",
            12,
            transactional_id=self.transactional_id,
            acks=i16(-1),
            timeout=i32Timedelta.parse(datetime.timedelta(seconds=1)),
            topic_data=(data,),
        )
        error: ErrorCode = answer.responses[0].partition_responses[0].error_code
        self.sequence += len(values)
        return error

    async def commit_offset(self, group: str, offset: int) -> ErrorCode:
        partition = kio_class("txn_offset_commit", 5, "request", "TxnOffsetCommitRequestPartition")(
            partition_index=i32(0), committed_offset=i64(offset), committed_metadata=""
        )
        topic = kio_class("txn_offset_commit", 5, "request", "TxnOffsetCommitRequestTopic")(name="t", partitions=(partition,))
        answer = await self.client.ask(
            "txn_offset_commit",
            5,
            transactional_id=self.transactional_id,
            group_id=group,
            producer_id=i64(self.producer_id),
            producer_epoch=i16(self.epoch),
            generation_id=i32(-1),
            member_id="",
            group_instance_id=None,
            topics=(topic,),
        )
        error: ErrorCode = answer.topics[0].partitions[0].error_code
        return error

    async def end(self, *, commit: bool = True, identity: tuple[int, int] | None = None) -> Any:
        producer_id, epoch = identity or (self.producer_id, self.epoch)
        answer = await self.client.ask(
            "end_txn",
            5,
            transactional_id=self.transactional_id,
            producer_id=i64(producer_id),
            producer_epoch=i16(epoch),
            committed=commit,
        )
        if answer.error_code is ErrorCode.none:
            self.producer_id, self.epoch, self.sequence = answer.producer_id, answer.producer_epoch, 0
        return answer

    @property
    def identity(self) -> tuple[int, int]:
        return self.producer_id, self.epoch


async def open_session(client: RawClient, server: BrokerServer, timeout_ms: int = 10_000) -> Session:
    await server.local.create_topic("t", 2, exist_ok=True)
    session = Session(client)
    await session.open(timeout_ms)
    return session


@pytest.fixture
async def client(broker: BrokerServer) -> AsyncIterator[RawClient]:
    async with RawClient(broker.host, broker.port) as raw:
        yield raw


def committed(server: BrokerServer, partition: int = 0) -> list[bytes]:
    """Values that a committed reader sees from the start (no aborted ranges expected)."""
    fetched = server.local.fetch("t", partition, 0, max_bytes=1 << 30)
    assert not fetched.aborted
    return values_of(fetched.data)


async def test_the_feature_is_announced(client: RawClient) -> None:
    answer = await client.ask("api_versions", 3, client_software_name="x", client_software_version="1")
    features = {entry.name: entry.max_version_level for entry in answer.finalized_features}
    assert features == {"transaction.version": 2}


async def test_every_transaction_gets_a_new_epoch(broker: BrokerServer, client: RawClient) -> None:
    session = await open_session(client, broker)
    for number in range(3):
        assert session.epoch == number
        assert await session.produce(b"%d" % number) is ErrorCode.none
        assert await session.commit_offset("g", number) is ErrorCode.none
        assert committed(broker) == [b"%d" % earlier for earlier in range(number)]
        assert (await session.end()).error_code is ErrorCode.none
    assert committed(broker) == [b"0", b"1", b"2"]
    assert broker.broker.groups.groups["g"].offsets["t", 0].offset == 2


async def test_a_repeated_commit_is_answered_with_the_new_epoch(broker: BrokerServer, client: RawClient) -> None:
    session = await open_session(client, broker)
    await session.produce(b"x")
    old = session.identity
    await session.end()
    new = session.identity
    for _ in range(3):
        again = await session.end(identity=old)
        assert (again.error_code, again.producer_id, again.producer_epoch) == (ErrorCode.none, *new)
    assert (await session.end(identity=old, commit=False)).error_code is ErrorCode.invalid_txn_state
    assert committed(broker) == [b"x"]


async def test_a_late_end_is_fenced_once_the_next_transaction_began(broker: BrokerServer, client: RawClient) -> None:
    session = await open_session(client, broker)
    await session.produce(b"1")
    old = session.identity
    await session.end()
    await session.produce(b"2")
    for commit in (True, False):
        assert (await session.end(identity=old, commit=commit)).error_code is ErrorCode.producer_fenced
    await session.end()
    assert committed(broker) == [b"1", b"2"]


async def test_a_late_produce_of_an_earlier_transaction_is_refused(broker: BrokerServer, client: RawClient) -> None:
    session = await open_session(client, broker)
    await session.produce(b"1")
    late = Session(client)
    late.producer_id, late.epoch, late.sequence = session.producer_id, session.epoch, session.sequence
    await session.end()
    assert await late.produce(b"late") is ErrorCode.invalid_producer_epoch
    await session.produce(b"2")
    assert await late.produce(b"late") is ErrorCode.invalid_producer_epoch
    await session.end()
    assert committed(broker) == [b"1", b"2"]


async def test_a_batch_sent_twice_is_stored_once(broker: BrokerServer, client: RawClient) -> None:
    session = await open_session(client, broker)
    await session.produce(b"1")
    session.sequence = 0
    assert await session.produce(b"1") is ErrorCode.none
    session.sequence = 5
    assert await session.produce(b"gap") is ErrorCode.out_of_order_sequence_number
    await session.end()
    assert committed(broker) == [b"1"]


async def test_a_transaction_without_records(broker: BrokerServer, client: RawClient) -> None:
    session = await open_session(client, broker)
    assert (await session.end(commit=True)).error_code is ErrorCode.invalid_txn_state
    epoch = session.epoch
    assert (await session.end(commit=False)).error_code is ErrorCode.none
    assert session.epoch == epoch + 1


async def test_a_successor_fences_and_aborts(broker: BrokerServer, client: RawClient) -> None:
    old = await open_session(client, broker)
    await old.produce(b"lost")
    new = await open_session(client, broker)
    assert await old.produce(b"lost too") is ErrorCode.invalid_producer_epoch
    assert await old.commit_offset("g", 1) is ErrorCode.invalid_producer_epoch
    assert (await old.end()).error_code is ErrorCode.producer_fenced
    assert (await old.end(commit=False)).error_code is ErrorCode.producer_fenced
    assert await new.produce(b"kept") is ErrorCode.none
    await new.end()
    fetched = broker.local.fetch("t", 0, 0, max_bytes=1 << 20)
    assert fetched.aborted == [(old.producer_id, 0)]
    assert values_of(fetched.data) == [b"lost", b"kept"]


async def test_the_epoch_runs_out_and_a_new_producer_id_takes_over(short_epoch_broker: BrokerServer) -> None:
    async with RawClient(short_epoch_broker.host, short_epoch_broker.port) as client:
        session = await open_session(client, short_epoch_broker)
        seen, aborted = [session.identity], []
        for number in range(12):
            assert await session.produce(b"%d" % number) is ErrorCode.none
            commit = number % 3 != 2
            if not commit:
                aborted.append(b"%d" % number)
            old = session.identity
            await session.end(commit=commit)
            again = await session.end(commit=commit, identity=old)
            assert (again.error_code, again.producer_id, again.producer_epoch) == (ErrorCode.none, *session.identity)
            other = await session.end(commit=not commit, identity=old)
            assert other.error_code is ErrorCode.invalid_txn_state
            seen.append(session.identity)
        assert len({producer_id for producer_id, _ in seen}) > 2
        assert seen == sorted(set(seen))
        assert max(epoch for _, epoch in seen) == 3
        fetched = short_epoch_broker.local.fetch("t", 0, 0, max_bytes=1 << 20)
        assert len(fetched.aborted) == len(aborted)
        old = session.identity
        await session.produce(b"open")
        successor = await open_session(client, short_epoch_broker)
        assert successor.identity > old


@pytest.mark.parametrize("transactions_before", [0, 3])
async def test_a_time_out_aborts_and_fences(short_epoch_broker: BrokerServer, clock: LateClock, transactions_before: int) -> None:
    async with RawClient(short_epoch_broker.host, short_epoch_broker.port) as client:
        session = await open_session(client, short_epoch_broker, timeout_ms=600_000)
        for _ in range(transactions_before):
            await session.produce(b"x")
            await session.end()
        await session.produce(b"late")
        end = short_epoch_broker.local.end("t", 0)
        clock.advance(short_epoch_broker, 601)
        assert await short_epoch_broker.local.wait("t", 0, end, timeout_seconds=60)
        assert (await session.end()).error_code is ErrorCode.producer_fenced
        assert await session.produce(b"later") is ErrorCode.invalid_producer_epoch
        await session.open()
        assert await session.produce(b"next") is ErrorCode.none
        assert (await session.end()).error_code is ErrorCode.none


async def test_committed_offsets_of_an_open_transaction_are_unstable(broker: BrokerServer, client: RawClient) -> None:
    session = await open_session(client, broker)
    await session.commit_offset("g", 3)
    topic = kio_class("offset_fetch", 7, "request", "OffsetFetchRequestTopic")(name="t", partition_indexes=(i32(0),))
    for require_stable, expected in ((True, ErrorCode.unstable_offset_commit), (False, ErrorCode.none)):
        answer = await client.ask("offset_fetch", 7, group_id="g", topics=(topic,), require_stable=require_stable)
        assert answer.topics[0].partitions[0].error_code is expected
        assert answer.topics[0].partitions[0].committed_offset == -1
    await session.end()
    answer = await client.ask("offset_fetch", 7, group_id="g", topics=(topic,), require_stable=True)
    assert answer.topics[0].partitions[0].committed_offset == 3


async def test_coordinators_are_found(broker: BrokerServer, client: RawClient) -> None:
    answer = await client.ask("find_coordinator", 4, key_type=i8(1), coordinator_keys=("a", "b"))
    assert [(entry.key, entry.port) for entry in answer.coordinators] == [("a", broker.port), ("b", broker.port)]

"""The check of a running embedded broker with real transactions, markers and aborted records."""

from itertools import groupby

import pytest

from hub.broker import BrokerServer, LocalBroker
from hub.broker.batches import read_header
from hub.errors import ConfigurationError
from hub.kafka import Cluster, Record, build_batch
from hub.kafka.clients import make_transactional_producer
from hub.verify import LocalSource, Span, verify, verify_source

from .conftest import PARTITIONS
from .log_builder import Entry, LogBuilder
from .scenarios import ENDING, good_log


class Writer:
    """Transactions of one producer, as an engine outside of the broker's process writes them."""

    def __init__(self, local: LocalBroker, name: str) -> None:
        self._local, self._name = local, name
        self._producer: tuple[int, int] | None = None

    async def commit(self, batches: dict[tuple[str, int], list[Record]]) -> None:
        if self._producer is None:
            _, *identity = await self._local.init_producer(self._name, timeout_ms=10_000)
            self._producer = identity[0], identity[1]
        producer, epoch = self._producer
        state, transactions = self._local._state, self._local._broker.transactions
        for place, records in batches.items():
            log = state.log(*place)
            assert log is not None
            raw = build_batch(records, producer_id=producer, producer_epoch=epoch, base_sequence=0, transactional=True)
            assert not transactions.check_produce(self._name, producer, epoch, place[0], log, implicit=True)
            state.append(log, raw, read_header(raw))
        ended = transactions.end(self._name, producer, epoch, commit=True, bump=True)
        self._producer = ended.producer_id, ended.epoch
        await self._local.stable()


def record(entry: Entry) -> Record:
    row = entry.row()
    return Record(row.key, row.value, list(row.headers), row.timestamp_ms)


async def write(local: LocalBroker, log: LogBuilder) -> None:
    """Put a built log on the broker: one transaction per cause, and one for rows and commands."""
    for partition in log.partitions:
        if partition.intake:
            await local.append("hub.intake", partition.number, build_batch([record(entry) for entry in partition.intake]))
        writer = Writer(local, f"test.engine.{partition.number}")
        for _, events in groupby(partition.events, lambda entry: entry.body["src"].rpartition("/")[0]):
            await writer.commit({("hub.events", partition.number): [record(entry) for entry in events]})
        rows = [Record(key, value, [], log.now_ms) for key, value in log.state()[partition.number].items()]
        outputs = {("hub.state", partition.number): rows}
        if partition.number == 0:
            outputs["hub.commands.default", 3] = [record(command) for command in log.commands]
        await writer.commit(outputs)


async def test_nothing_is_found_on_a_good_log(broker: BrokerServer) -> None:
    log = good_log(PARTITIONS, ENDING)
    await write(broker.local, log)
    seen: list[str] = []
    report = await verify_source(
        LocalSource(broker.local),
        require_all_ended=True,
        acknowledged=[name for name, task in log.tasks.items() if task.id == task.root],
        progress=lambda topic, done, offsets: seen.append(topic),
    )
    assert report.ok, report.render()
    assert report.exact
    assert report.events == len(list(log.all_events()))
    assert report.commands == len(log.commands)
    assert {"hub.events", "hub.state", "hub.intake", "hub.commands.default"} <= set(seen)
    assert {"I1", "I2", "I10", "I23", "I31", "R1"} <= set(report.checked)


async def test_a_missing_event_is_found(broker: BrokerServer) -> None:
    log = good_log(PARTITIONS)
    log.partitions[0].events.remove(log.partitions[0].events[9])
    await write(broker.local, log)
    report = await verify_source(LocalSource(broker.local))
    assert "I3" in report.counts, report.render()


async def test_an_acknowledged_submission_that_is_nowhere_is_found(broker: BrokerServer) -> None:
    await write(broker.local, good_log(PARTITIONS))
    report = await verify_source(LocalSource(broker.local), acknowledged=["lost"])
    assert set(report.counts) == {"I1"}


async def test_a_second_check_compares_the_log_with_what_the_first_one_read(broker: BrokerServer) -> None:
    log = good_log(PARTITIONS, ENDING)
    await write(broker.local, log)
    before = await verify_source(LocalSource(broker.local))
    again = await verify_source(LocalSource(broker.local), earlier=before.prefixes)
    assert again.ok, again.render()
    assert "I9" in again.checked


async def test_rows_that_are_newer_than_the_events_are_read_with_their_events(broker: BrokerServer) -> None:
    """What is committed between two topics' reading is found in the next round: the cut is exact again."""
    log = good_log(PARTITIONS)
    await write(broker.local, log)
    source = LateSource(broker.local)
    report = await verify_source(source)
    assert report.ok, report.render()
    assert report.exact
    assert source.wrote


class LateSource(LocalSource):
    """Commits one more event (of the engine) and its row while the commands are being read."""

    def __init__(self, local: LocalBroker) -> None:
        super().__init__(local)
        self._local = local
        self.wrote = False

    async def spans(self, topic: str) -> dict[int, Span]:
        if topic == "hub.state" and not self.wrote:
            self.wrote = True
            await self._write_more()
        return await super().spans(topic)

    async def _write_more(self) -> None:
        log = good_log(PARTITIONS)
        known = len(log.partitions[1].events)
        log.take_over(1)
        more = [record(entry) for entry in log.partitions[1].events[known:]]
        rows = [(key, log.state()[1][key]) for key in (b"engine/1", b"!meta")]
        await Writer(self._local, "test.engine.1").commit(
            {
                ("hub.events", 1): more,
                ("hub.state", 1): [Record(key, value, [], log.now_ms) for key, value in rows],
            }
        )


async def test_a_broker_without_a_hub_is_named_as_such() -> None:
    server = BrokerServer(None)
    await server.start()
    with pytest.raises(ConfigurationError, match=r"hub\.events"):
        await verify_source(LocalSource(server.local))
    await server.stop()


async def test_over_the_network_nothing_is_found_on_a_good_log(broker: BrokerServer) -> None:
    log = good_log(PARTITIONS, ENDING)
    await write(broker.local, log)
    report = await verify(Cluster.of(f"127.0.0.1:{broker.port}"), require_all_ended=True, acknowledged=["plain-0"])
    assert report.ok, report.render()
    assert report.exact
    assert report.events == len(list(log.all_events()))
    assert report.commands == len(log.commands)


async def test_over_the_network_a_lost_command_is_found(broker: BrokerServer) -> None:
    log = good_log(PARTITIONS)
    del log.commands[3]
    await write(broker.local, log)
    report = await verify(Cluster.of(f"127.0.0.1:{broker.port}"))
    assert set(report.counts) == {"I23"}, report.render()


async def test_what_an_aborted_transaction_wrote_is_not_read(broker: BrokerServer) -> None:
    await write(broker.local, good_log(PARTITIONS, ENDING))
    producer = make_transactional_producer(Cluster.of(f"127.0.0.1:{broker.port}"), "dead", transaction_timeout_ms=10_000)
    await producer.start()
    await producer.begin_transaction()
    await producer.send_and_wait("hub.events", b"no event", partition=0)
    during = await verify(Cluster.of(f"127.0.0.1:{broker.port}"), require_all_ended=True, settle_seconds=0.1)
    await producer.abort_transaction()
    await producer.stop()
    after = await verify(Cluster.of(f"127.0.0.1:{broker.port}"), require_all_ended=True)
    assert set(during.counts) == {"I33"}, during.render()
    assert after.ok, after.render()

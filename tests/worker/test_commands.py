"""Arbitrary records in a worker's inbox: only commands for this worker are executed, and later ones are not affected."""

import asyncio
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import convert, json
from structlog.testing import capture_logs

from hub import TaskRegistry
from hub.kafka import BrokerUnreachable, Cluster, Outgoing, Sender, commands_topic, make_producer
from hub.worker import Worker
from hub.worker.announcements import Announcements
from hub.worker.attempts import Attempt
from hub.worker.commands import CommandReader
from hub.worker.holdings import Holdings
from hub.worker.shared import Locked
from schemas import COMMANDS, ExecuteAttempt, MalformedRecord
from tests.brokers import broker_and_loop
from tests.components.running import Running, running, until
from tests.records import PATIENT, Damage, Example, WholeRecord, binary, example_of, hostile_records

from .desks import LoneDesk

INCARNATION = "0198-incarnation"
PARTITIONS = 4
MESSAGE_MAX = 800

tasks = TaskRegistry()
ran: list[str] = []


@tasks.task("quick")
async def quick() -> str:
    ran.append("quick")
    return "done"


def examples(incarnation: str) -> dict[str, list[Example]]:
    headers = {"worker": incarnation.encode(), "content-type": b"application/json"}
    return {kind: [Example(example_of(struct), headers, b"t")] for kind, struct in COMMANDS.items()}


EXAMPLES = examples(INCARNATION)
FOR_EVERYBODY = examples("*")
ENDS = ("attempt.completed", "attempt.failed", "attempt.cancelled", "attempt.released")


def reader() -> CommandReader:
    fresh = CommandReader(INCARNATION)
    fresh.partitions = PARTITIONS
    return fresh


@PATIENT
@given(st.lists(hostile_records(EXAMPLES), min_size=1, max_size=20))
def test_any_record_is_a_command_or_malformed(records: list[WholeRecord]) -> None:
    commands = reader()
    for offset, record in enumerate(records):
        try:
            command = commands.decode(record.stored(offset))
        except MalformedRecord as error:
            refusal = str(error)
            assert len(refusal) <= MESSAGE_MAX, refusal
            assert refusal.isprintable()
        else:
            assert command is None or 0 <= getattr(command, "partition", 0) < PARTITIONS


def test_records_that_are_not_commands_cost_one_log_line() -> None:
    commands, source = reader(), Damage(EXAMPLES, structured_mode=False, huge_bytes_max=70_000)
    with capture_logs() as lines:
        for seed in range(1_000):
            commands.read(source.record(Random(seed)).stored(seed))
    assert commands.malformed > 100
    assert [line["action"] for line in lines] == ["worker_command_malformed"]
    assert len(str(lines)) < 1_000


@pytest.mark.parametrize("kind", COMMANDS)
def test_a_partition_that_is_not_there_is_named(kind: str) -> None:
    fields = json.decode(binary(kind, EXAMPLES[kind][0]).value or b"")
    if "partition" not in fields:
        return
    for partition in (-1, PARTITIONS, 10**30):
        record = binary(kind, Example({**fields, "partition": partition}, EXAMPLES[kind][0].headers))
        with pytest.raises(MalformedRecord, match=f"partition: must be between 0 and {PARTITIONS - 1}, got"):
            reader().decode(record.stored(0))


@pytest.mark.parametrize("field", ["task", "root", "token", "name"])
def test_an_id_that_cannot_be_is_named(field: str) -> None:
    record = binary("attempt.execute", Example(example_of(ExecuteAttempt, **{field: ""}), {"worker": b"*"}))
    with pytest.raises(MalformedRecord, match=field):
        reader().decode(record.stored(0))


@PATIENT
@given(st.lists(hostile_records(FOR_EVERYBODY), min_size=1, max_size=20))
def test_after_any_records_the_next_command_runs_and_nothing_ends_twice(records: list[WholeRecord]) -> None:
    said = asyncio.run(run_after([*records, *records]))
    ended = [report["token"] for kind, report in said if kind in ENDS]
    assert ended.count("good") == 1
    assert len(ended) == len(set(ended))


async def run_after(records: list[WholeRecord]) -> list[tuple[str, dict[str, Any]]]:
    """What a worker without a broker reports of these records and of a well-formed command after them."""
    lone, commands = LoneDesk(tasks, partitions=PARTITIONS), reader()
    good = Example(example_of(ExecuteAttempt, task="good", token="good", name="quick"), {"worker": b"*"})
    for offset, record in enumerate([*records, binary("attempt.execute", good)]):
        if (command := commands.read(record.stored(offset))) is not None:
            await lone.desk.take(command)
    await until(lambda: any(kind in ENDS and report["token"] == "good" for kind, report in lone.reports.kept))
    lone.desk.close()
    assert lone.failures == []
    return lone.reports.kept


# The two threads of a worker


def test_a_start_is_claimed_once_by_whichever_thread_is_first() -> None:
    starts = Locked(Announcements())
    attempts = [Attempt(convert(example_of(ExecuteAttempt, token=str(number)), ExecuteAttempt), 0.0) for number in range(2_000)]
    for attempt in attempts:
        with starts as inside:
            inside.add(attempt, 0.0)

    def older() -> list[Attempt]:
        with starts as inside:
            return inside.claim_older(1.0)

    def each() -> list[Attempt]:
        claimed = []
        for attempt in attempts:
            with starts as inside:
                claimed += [attempt] if inside.claim(attempt) else []
        return claimed

    def pending() -> list[Attempt]:
        with starts as inside:
            return inside.claim_all()

    with ThreadPoolExecutor(4) as threads:
        futures = [threads.submit(work) for work in (older, older, each, pending)]
    claimed = [attempt for future in futures for attempt in future.result()]
    assert len(claimed) == len(set(claimed)) == len(attempts)


def test_credit_that_moves_is_neither_lost_nor_made() -> None:
    shared = Locked(Holdings(64, PARTITIONS))

    def work(partition: int) -> None:
        for number in range(500):
            with shared as holdings:
                holdings.accept(partition, str(number))
            with shared as holdings:
                holdings.move_credit((partition + number) % PARTITIONS)
                holdings.put_down(partition)
                holdings.settle(partition, str(number))

    with ThreadPoolExecutor(PARTITIONS) as threads:
        list(threads.map(work, range(PARTITIONS)))
    with shared as holdings:
        credits = [holdings.credit(partition, hung=0, refused=False) for partition in range(PARTITIONS)]
        assert (sum(credits), min(credits) >= 1) == (64, True)
        assert [holdings.held(partition) for partition in range(PARTITIONS)] == [[]] * PARTITIONS


# A start that fails


class Unreachable(Sender):
    """Connects, and stores nothing."""

    async def send(self, outgoing: Outgoing, *, timeout_seconds: float = 60.0) -> None:
        raise BrokerUnreachable("127.0.0.1:1", "away")


async def test_a_worker_whose_start_fails_says_why_and_leaves_nothing_open() -> None:
    with broker_and_loop() as (server, _):
        async with running(server.bootstrap, tasks, workers=0) as world:
            made: list[Unreachable] = []

            def make() -> Unreachable:
                made.append(Unreachable(Cluster.of(world.bootstrap)))
                return made[-1]

            threads_before = threading.active_count()
            worker = Worker(world.bootstrap, tasks, make_reports=make)
            with pytest.raises(BrokerUnreachable):
                await worker.run(handle_signals=False)
            assert len(made) == 2
            for reports in made:
                assert not reports._producer._directory._pool._connections
            await until(lambda: threading.active_count() <= threads_before)


async def test_a_worker_that_finds_no_broker_can_be_stopped() -> None:
    worker = Worker("127.0.0.1:1", tasks)
    with pytest.raises(BrokerUnreachable):
        await worker.run(handle_signals=False)
    await worker.stop()


# Over a broker


@pytest.fixture
async def world() -> AsyncIterator[Running]:
    with broker_and_loop() as (server, _):
        async with running(server.bootstrap, tasks, foreign=True, slots=4) as world:
            yield world


async def test_a_running_worker_survives_its_inbox(world: Running) -> None:
    worker, source = world.workers[0], Damage(FOR_EVERYBODY, structured_mode=False, huge_bytes_max=300_000)
    producer = make_producer(Cluster.of(world.bootstrap))
    await producer.start()
    try:
        for seed in range(60):
            record = source.record(Random(seed))
            await producer.send_and_wait(
                commands_topic("default"), record.value, key=record.key, partition=worker.inbox, headers=record.headers
            )
    finally:
        await producer.stop()
    assert await world.hub.run("quick", timeout_seconds=60) == "done"
    assert worker.stats()["malformed"] > 5

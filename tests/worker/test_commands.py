"""Whatever lies in a worker's inbox: it is a command of this worker or it is not, and the next one is run."""

import asyncio
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
from hub.kafka import BrokerUnreachable, Outgoing, commands_topic, make_producer
from hub.worker import Worker, WorkerSettings
from hub.worker.announcements import Announcements
from hub.worker.attempts import Attempt
from hub.worker.commands import CommandReader
from hub.worker.holdings import Holdings
from schemas import COMMANDS, MalformedRecord, RunAttempt
from tests.brokers import broker_and_loop
from tests.components.running import Running, running, until
from tests.records import PATIENT, Damage, Example, WholeRecord, binary, example_of, hostile_records

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
        with pytest.raises(MalformedRecord, match="partition"):
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
    worker, said = idle_worker(tasks, PARTITIONS)
    good = Example(example_of(RunAttempt, task="good", token="good", name="quick"), {"worker": b"*"})
    for offset, record in enumerate([*records, binary("attempt.run", good)]):
        await worker._take(record.stored(offset))
    await until(lambda: any(kind in ENDS and report["token"] == "good" for kind, report in said))
    worker._threads.shutdown(wait=False)
    return said


def idle_worker(registry: TaskRegistry, partitions: int) -> tuple[Worker, list[tuple[str, dict[str, Any]]]]:
    """A worker without a broker, and what it reports."""
    worker = Worker("127.0.0.1:1", registry, WorkerSettings(slots=4))
    said: list[tuple[str, dict[str, Any]]] = []
    worker._loop, worker.partitions, worker._commands.partitions = asyncio.get_running_loop(), partitions, partitions
    worker._holdings.open(partitions)

    async def post(outgoing: Outgoing, *_: object) -> None:
        said.append((dict(outgoing.headers)["ce_type"].decode(), json.decode(outgoing.value)))

    worker._sender.post = post  # type: ignore[assignment]
    return worker, said


# The two threads of a worker


def test_a_start_is_claimed_once_by_whichever_thread_is_first() -> None:
    starts = Announcements()
    attempts = [Attempt(convert(example_of(RunAttempt, token=str(number)), RunAttempt), 0.0) for number in range(2_000)]
    for attempt in attempts:
        starts.add(attempt)
    with ThreadPoolExecutor(4) as threads:
        older = [threads.submit(starts.claim_older, 1.0) for _ in range(2)]
        each = threads.submit(lambda: [attempt for attempt in attempts if starts.claim(attempt)])
        pending = threads.submit(starts.claim_all)
    claimed = [attempt for future in (*older, each, pending) for attempt in future.result()]
    assert len(claimed) == len(set(claimed)) == len(attempts)


def test_credit_that_moves_is_neither_lost_nor_made() -> None:
    holdings = Holdings(64)
    holdings.open(PARTITIONS)

    def work(partition: int) -> None:
        for number in range(500):
            holdings.accept(partition, str(number))
            holdings.move_credit((partition + number) % PARTITIONS)
            holdings.put_down(partition)
            holdings.settle(partition, str(number))

    with ThreadPoolExecutor(PARTITIONS) as threads:
        list(threads.map(work, range(PARTITIONS)))
    credits = [holdings.credit(partition, hung=0, refused=False) for partition in range(PARTITIONS)]
    assert (sum(credits), min(credits) >= 1) == (64, True)
    assert [holdings.held(partition) for partition in range(PARTITIONS)] == [[]] * PARTITIONS


# A start that fails


async def test_a_worker_whose_start_fails_says_why_and_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    with broker_and_loop() as (server, _):
        async with running(server.bootstrap, tasks, workers=0) as world:
            worker = Worker(world.bootstrap, tasks)

            async def fails(*_: object, **__: object) -> None:
                raise BrokerUnreachable(world.bootstrap, "away")

            monkeypatch.setattr(worker._sender, "send", fails)
            with pytest.raises(BrokerUnreachable):
                await worker.run(handle_signals=False)
            assert worker._heartbeats is not None
            assert not worker._heartbeats._thread.is_alive()
            assert worker._sender._producer is not None
            assert worker._sender._producer._closed


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
    producer = make_producer(world.bootstrap)
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

"""A hub survives more than single kills: resumed zombies, long suspensions, repeated records, garbage, joining and leaving
processes."""

import asyncio
import signal
from pathlib import Path
from typing import Any

import pytest
from msgspec import json

from hub.client import Hub
from hub.kafka import EVENTS, INTAKE, Cluster, ensure_topics, make_producer, read_all
from schemas import Event, decode_event

from .load import Load, during
from .processes import Installation

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


async def events_of(bootstrap: str, partitions: int = 1) -> list[Event]:
    """Every event there is, partition by partition."""
    return [
        decode_event(record.value, record.headers)
        for partition in range(partitions)
        async for record in read_all(Cluster.of(bootstrap), EVENTS, partition)
    ]


async def test_an_engine_that_was_stopped_while_another_took_over_changes_nothing_when_it_goes_on(tmp_path: Path) -> None:
    async with Installation(tmp_path, partitions=4) as hub:
        await hub.broker(engine=False)
        await zombie_comes_back(hub, tasks=240)


@pytest.mark.kafka
async def test_on_apache_kafka_a_zombie_engine_changes_nothing(tmp_path: Path, private_kafka: str) -> None:
    await ensure_topics(Cluster.of(private_kafka), partitions=4)
    async with Installation(tmp_path, bootstrap=private_kafka, partitions=4) as hub:
        await zombie_comes_back(hub, tasks=240)


async def zombie_comes_back(hub: Installation, *, tasks: int) -> None:
    """SIGSTOP an engine under load until another owns its partitions and has worked on; SIGCONT it; let it all end."""
    first, _ = await hub.together(hub.engine("engine-1"), hub.worker())
    load = Load(hub.bootstrap, tasks, ms=50)
    running = asyncio.get_running_loop().create_task(load.run(timeout_seconds=150))
    await load.submitted.wait()
    first.signal(signal.SIGSTOP)
    await hub.engine("engine-2")
    before = load.ended
    async with asyncio.timeout(60):
        while load.ended < min(before + tasks // 16, tasks // 4):
            await asyncio.sleep(0.05)
    first.signal(signal.SIGCONT)
    await running
    hub.owes_the_end_of(load.acknowledged)


@pytest.mark.parametrize("harm", ["leave", "kill"])
async def test_two_engines_and_three_workers_share_the_work_and_go_on_when_one_of_each_goes(tmp_path: Path, harm: str) -> None:
    async with Installation(tmp_path, partitions=4) as hub:
        await hub.broker(engine=False)
        engines = await hub.together(*(hub.engine(f"engine-{n}") for n in range(2)))
        workers = await hub.together(*(hub.worker(f"worker-{n}") for n in range(3)))

        async def one_of_each_goes() -> None:
            for process in (engines[0], workers[0]):
                if harm == "kill":
                    await process.kill()
                else:
                    assert await process.stop() == 0

        load = Load(hub.bootstrap, 400)
        await during(load, one_of_each_goes, times=1, timeout_seconds=150, seed=1)
        hub.owes_the_end_of(load.acknowledged)
        started = [event for event in await events_of(hub.bootstrap, 4) if event.type == "task.dispatched"]
        assert {event.data.worker for event in started} == {worker.about["incarnation"] for worker in workers}


@pytest.mark.parametrize("inside", [True, False], ids=["engine-inside", "engine-apart"])
async def test_when_everything_was_stopped_for_longer_than_a_lease_no_live_worker_loses_one(tmp_path: Path, inside: bool) -> None:
    async with Installation(tmp_path) as hub:
        await hub.broker(engine=inside)
        await hub.together(hub.worker(lease_seconds=3.0), *([] if inside else [hub.engine()]))
        async with Hub(hub.bootstrap) as client:
            handle = await client.submit("held")
            await until_state(client, handle.id, "running")
            for process in hub.processes.values():
                process.signal(signal.SIGSTOP)
            await asyncio.sleep(7)  # The behaviour itself: two leases pass.
            for process in hub.processes.values():
                process.signal(signal.SIGCONT)
            hub.let_go()
            assert await handle.result(timeout_seconds=60) == "done"
        types = [event.type for event in await events_of(hub.bootstrap)]
        assert "attempt.lease_expired" not in types
        assert types.count("task.dispatched") == 1


async def until_state(client: Hub, task: str, state: str) -> None:
    """Wait until the task is in `state`."""
    async with asyncio.timeout(60):
        while (await client.get(task)).state != state:
            await asyncio.sleep(0.02)


async def test_the_tasks_of_a_killed_worker_run_again_when_its_lease_is_over(tmp_path: Path) -> None:
    """How soon, is judged in the time of the log: the end of the lease and the next command are one decision."""
    async with Installation(tmp_path) as hub:
        await hub.broker(engine=True)
        victim = await hub.worker("victim", lease_seconds=4.0)
        async with Hub(hub.bootstrap) as client:
            handle = await client.submit("held")
            await until_state(client, handle.id, "running")
            heir = await hub.worker("heir", lease_seconds=4.0)
            await victim.kill()
            hub.let_go()
            assert await handle.result(timeout_seconds=60) == "done"
        log = [event for event in await events_of(hub.bootstrap) if event.subject == handle.id]
        first, second = (event for event in log if event.type == "task.dispatched")
        [expired] = (event for event in log if event.type == "attempt.lease_expired")
        assert first.data.worker == victim.about["incarnation"]
        assert second.data.worker == heir.about["incarnation"]
        assert second.time == expired.time, "the heir has a free slot: it gets the task with the end of the lease"


async def test_a_worker_that_cannot_renew_its_leases_stops_what_it_runs_and_goes_on_with_the_next_broker(tmp_path: Path) -> None:
    async with Installation(tmp_path) as hub:
        broker = await hub.broker(engine=True)
        worker = await hub.worker(lease_seconds=4.0)
        async with Hub(hub.bootstrap) as client:
            handle = await client.submit("held")
            await until_state(client, handle.id, "running")
            await broker.kill()
            async with asyncio.timeout(60):
                while "worker_leases_lost" not in worker.errors():
                    await asyncio.sleep(0.02)
            hub.let_go()
            await broker.start()
            assert await handle.result(timeout_seconds=60) == "done"
            assert (await client.get(handle.id)).attempt == 2
        hub.owes_the_end_of([handle.id])


async def test_a_submission_repeated_after_its_end_and_after_restarts_of_everything_makes_one_task(tmp_path: Path) -> None:
    headers = [("ce_specversion", b"1.0"), ("ce_type", b"task.created"), ("ce_source", b"/shop"), ("ce_id", b"order-1")]
    value = b'{"name": "step"}'
    async with Installation(tmp_path) as hub:
        broker = await hub.broker(engine=True)
        worker = await hub.worker()

        async def publish() -> None:
            producer = make_producer(Cluster.of(hub.bootstrap))
            await producer.start()
            try:
                await producer.send_and_wait(INTAKE, value, key=b"anything", headers=headers)
            finally:
                await producer.stop()

        async def until(kind: str, count: int) -> list[Event]:
            async with asyncio.timeout(60):
                while True:
                    events = await events_of(hub.bootstrap)
                    if [event.type for event in events].count(kind) >= count:
                        return events
                    await asyncio.sleep(0.05)

        await publish()
        await publish()
        await until("task.completed", 1)
        await until("task.deduplicated", 1)
        for process in (worker, broker):
            await process.kill()
        for process in (broker, worker):
            await process.start()
        await publish()
        events = await until("task.deduplicated", 2)
        assert [event.type for event in events].count("task.created") == 1
        assert len((tmp_path / "journal").read_text().splitlines()) == 1


GARBAGE: list[tuple[str, bytes | None, list[tuple[str, bytes]]]] = [
    ("random bytes", bytes(range(256)), []),
    ("no value", None, []),
    ("broken JSON", b'{"name": "step"', [("ce_type", b"task.created"), ("ce_source", b"/x"), ("ce_id", b"1")]),
    ("wrong types", b'{"name": 7}', [("ce_type", b"task.created"), ("ce_source", b"/x"), ("ce_id", b"2")]),
    ("unknown field", b'{"name": "step", "prioritty": 1}', [("ce_type", b"task.created"), ("ce_source", b"/x"), ("ce_id", b"3")]),
    (
        "900 KB",
        b'{"name": "step", "args": {"x": "' + b"y" * 900_000 + b'"}}',
        [("ce_type", b"task.created"), ("ce_source", b"/x"), ("ce_id", b"4")],
    ),
    ("unknown type", b"{}", [("ce_type", b"task.exploded"), ("ce_source", b"/x"), ("ce_id", b"5")]),
    ("a type that is not text", b"{}", [("ce_type", b"\xff\xfe"), ("ce_source", b"/x"), ("ce_id", b"6")]),
    ("no source", b'{"name": "step"}', [("ce_type", b"task.created")]),
    (
        "a report of nobody",
        json.encode({"task": "x"}),
        [("ce_type", b"attempt.completed"), ("ce_source", b"/x"), ("ce_id", b"7")],
    ),
]


async def test_garbage_on_the_intake_is_set_aside_with_a_reason_and_everything_else_goes_on(
    empty_bootstrap: str, tmp_path: Path
) -> None:
    await ensure_topics(Cluster.of(empty_bootstrap), partitions=4)
    async with Installation(tmp_path, bootstrap=empty_bootstrap, partitions=4) as hub:
        await hub.together(hub.engine(), hub.worker())
        producer = make_producer(Cluster.of(empty_bootstrap))
        await producer.start()
        try:
            for _, value, headers in GARBAGE:
                for partition in range(4):
                    await producer.send_and_wait(INTAKE, value, key=b"x", partition=partition, headers=headers)
        finally:
            await producer.stop()
        async with Hub(empty_bootstrap) as client:
            handles = await client.submit_many([{"name": "step"}] * 8)
            for handle in handles:
                await handle.result(timeout_seconds=60)
        events = await events_of(empty_bootstrap, 4)
        kinds = [event.type for event in events]
        aside = [event for event in events if event.type in ("engine.report_dead_lettered", "task.rejected")]
        forwarded = kinds.count("engine.report_forwarded")
        assert len(aside) + forwarded >= len(GARBAGE) * 4
        assert all(event.data.reason for event in aside)


async def test_what_was_acknowledged_by_plain_clients_survives_a_kill_of_broker_and_engine(tmp_path: Path) -> None:
    async with Installation(tmp_path) as hub:
        broker = await hub.broker(engine=True)
        producer = make_producer(Cluster.of(hub.bootstrap), linger_ms=1)
        await producer.start()
        sent: list[str] = []
        try:

            async def publish(index: int) -> None:
                headers: Any = [("ce_type", b"task.created"), ("ce_source", b"/plain"), ("ce_id", b"%d" % index)]
                task = f"plain-{index}"
                await producer.send_and_wait(INTAKE, json.encode({"name": "step", "id": task}), headers=headers)
                sent.append(task)

            async with asyncio.TaskGroup() as group:
                for index in range(100):
                    group.create_task(publish(index))
        finally:
            await producer.stop()
        await broker.restart()
        await hub.worker()
        async with asyncio.timeout(60):
            while [event.type for event in await events_of(hub.bootstrap)].count("task.completed") < 100:
                await asyncio.sleep(0.1)
        hub.owes_the_end_of(sent)

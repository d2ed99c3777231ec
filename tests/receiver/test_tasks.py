"""Notifications over a real socket, and the tasks that they create in a hub."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from hub import Hub, TaskRegistry
from hub.engine import EngineSettings
from hub.kafka import EVENTS, Cluster, ensure_topics, read_all
from hub.receiver import AlertIntake, AlertOutcome, AlertTasks
from hub.receiver import intake as intake_module
from hub.testing import HubInMemory
from schemas import decode_event, task_id_of_key
from tests.brokers import broker_in_thread
from tests.components.running import PARTITIONS, running, until
from tests.ports import free_port
from tests.receiver.alerts import STARTED, alert, notify, receiving

tasks = TaskRegistry()
REPAIR = AlertTasks("repair")


@tasks.task("repair")
async def repair(alert: dict[str, Any]) -> str:
    """Answers what it repaired."""
    return f"{alert['labels']['alertname']} since {alert['startsAt']}"


@tasks.task("wait")
async def wait(alert: dict[str, Any]) -> None:
    """Does not end by itself."""
    await asyncio.Event().wait()


class Receiver:
    """An address, and the numbers of alerts by outcome."""

    def __init__(self, address: str, counts: Counter[str]) -> None:
        self.address = address
        self.counts = counts


@asynccontextmanager
async def receiver(hub: Hub, alert_tasks: AlertTasks = REPAIR, *, store_seconds: float = 10.0) -> AsyncIterator[Receiver]:
    """A receiver that creates tasks in `hub`."""
    counts: Counter[str] = Counter()

    def count(outcome: AlertOutcome, number: int) -> None:
        counts[outcome.value] += number

    async with receiving(AlertIntake(hub, alert_tasks, count, store_seconds=store_seconds).accept) as address:
        yield Receiver(address, counts)


def created(hub: HubInMemory) -> list[str]:
    return [event.subject for event in hub.events if event.type == "task.created"]


async def test_an_alert_runs_its_task() -> None:
    async with HubInMemory(tasks) as hub, receiver(hub) as at:
        answer = await notify(at.address, alert())
        assert (answer.status, answer.json) == (200, {"alerts": {"submitted": 1}})
        event = await hub.wait_for("task.completed")
        assert bytes(event.data.result) == f'"DiskFull since {STARTED}"'.encode()
        assert event.correlationid == "c64a1bd4f5a1c6a5"
        (first,) = hub.events_of(event.subject, "task.created")
        assert first.data.tags == {"hub_origin": "alert", "alertname": "DiskFull"}
        assert at.counts == {"submitted": 1}


async def test_repeated_notifications_create_one_task_also_after_a_restart_of_the_receiver() -> None:
    async with HubInMemory(tasks, engine=EngineSettings(retention_seconds=10)) as hub:
        async with receiver(hub) as at:
            answers = [await notify(at.address, alert(), alert()), await notify(at.address, alert(annotations={"value": "97"}))]
            assert [one.json["alerts"] for one in answers] == [{"submitted": 1, "repeated": 1}, {"repeated": 1}]
        await hub.advance(minutes=2)  # the hub forgets ended tasks, but not idempotency keys
        async with receiver(hub) as at:
            assert (await notify(at.address, alert())).status == 200
            assert (await notify(at.address, alert(annotations={"value": "98"}))).status == 200
        await hub.settle()
        assert len(created(hub)) == 1
        assert not [event for event in hub.events if event.type == "task.rejected"]


async def test_a_changed_annotation_after_a_restart_creates_no_second_task() -> None:
    async with HubInMemory(tasks) as hub:
        for value in ("97", "98"):
            async with receiver(hub) as at:
                assert (await notify(at.address, alert(annotations={"value": value}))).status == 200
                await hub.settle()
        assert len(created(hub)) == 1
        assert [event.data.code for event in hub.events if event.type == "task.rejected"] == ["idempotency_conflict"]


async def test_an_alert_that_fires_again_later_creates_another_task() -> None:
    async with HubInMemory(tasks) as hub, receiver(hub) as at:
        await notify(at.address, alert())
        await notify(at.address, alert(startsAt="2026-01-02T09:30:00Z"))
        await hub.settle()
        assert len(set(created(hub))) == 2


async def test_alerts_of_the_hub_itself_create_no_task() -> None:
    async with HubInMemory(tasks) as hub, receiver(hub) as at:
        own = [alert(labels={"hub_origin": origin}, fingerprint=origin) for origin in ("task", "rule")]
        answer = await notify(at.address, *own, alert())
        assert answer.json == {"alerts": {"ignored": 2, "submitted": 1}}
        await hub.settle()
        assert len(created(hub)) == 1
        assert at.counts == {"ignored": 2, "submitted": 1}


async def test_a_rejected_alert_does_not_prevent_the_others() -> None:
    async with HubInMemory(tasks) as hub, receiver(hub, AlertTasks()) as at:
        answer = await notify(at.address, alert(), alert(labels={"hub_task": "repair"}, fingerprint="b"))
        assert answer.status == 400
        assert answer.json["error"] == "alerts[0].labels.hub_task: is missing, and the service has no --task"
        assert at.counts == {"rejected": 1, "submitted": 1}
        await hub.wait_for("task.completed")


async def test_a_resolved_alert_does_nothing_by_default() -> None:
    async with HubInMemory(tasks) as hub, receiver(hub, AlertTasks("wait")) as at:
        await notify(at.address, alert())
        await hub.wait_for("task.started")
        assert (await notify(at.address, alert(status="resolved"))).json == {"alerts": {"resolved": 1}}
        await hub.settle()
        assert not [event for event in hub.events if event.type == "task.cancelled"]


async def test_a_resolved_alert_cancels_its_task_on_request() -> None:
    async with HubInMemory(tasks) as hub, receiver(hub, AlertTasks("wait", cancel_resolved=True)) as at:
        await notify(at.address, alert())
        await hub.wait_for("task.started")
        assert (await notify(at.address, alert(status="resolved"))).json == {"alerts": {"cancelled": 1}}
        event = await hub.wait_for("task.cancelled")
        assert (event.data.reason, event.data.by) == ("the alert is resolved", "alertmanager")
        answers = [
            await notify(at.address, alert(status="resolved")),
            await notify(at.address, alert(status="resolved", fingerprint="b")),
        ]
        assert [one.json for one in answers] == [{"alerts": {"resolved": 1}}] * 2  # ended; never seen
        await hub.settle()
        assert not [event for event in hub.events if event.type == "task.rejected"]


async def test_the_receiver_remembers_a_bounded_number_of_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake_module, "REMEMBERED_MAX", 2)
    async with HubInMemory(tasks) as hub, receiver(hub) as at:
        for fingerprint in ("a", "b", "a", "c", "a", "b"):
            await notify(at.address, alert(fingerprint=fingerprint))
        await hub.settle()
        assert at.counts == {"submitted": 4, "repeated": 2}  # b was forgotten, not a, which was repeated
        assert len(created(hub)) == 3  # the engine finds that b is a duplicate


async def test_truncated_notifications_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with HubInMemory(tasks) as hub, receiver(hub) as at:
        await notify(at.address, alert(), truncatedAlerts=3)
    (record,) = [one for one in caplog.records if getattr(one, "action", "") == "alerts_truncated"]
    assert "truncated=3" in record.getMessage()


async def test_without_a_broker_the_response_is_503_and_the_repetition_creates_one_task(tmp_path: Path) -> None:
    port = free_port()
    with broker_in_thread(tmp_path, port=port) as broker:
        await ensure_topics(Cluster.of(broker.bootstrap), partitions=PARTITIONS)
        hub = Hub(broker.bootstrap)
        await hub.start()
    try:
        async with receiver(hub, store_seconds=0.5) as at:
            refused = await notify(at.address, alert())
            assert (refused.status, at.counts) == (503, {"failed": 1})
            with broker_in_thread(tmp_path, port=port) as broker:
                async with running(broker.bootstrap, tasks) as world:
                    await until(lambda: accepted(at))
                    task = task_id_of_key("default", f"alert-c64a1bd4f5a1c6a5-{STARTED}")
                    await until(lambda: has_completed(world.hub, task))
                    assert await created_on(broker.bootstrap) == [task]
            assert at.counts["submitted"] == 1
    finally:
        await hub.stop()


async def accepted(at: Receiver) -> bool:
    return (await notify(at.address, alert())).status == 200


async def has_completed(hub: Hub, task: str) -> bool:
    return (await hub.get(task)).state == "completed"


async def created_on(bootstrap: str) -> list[str]:
    """The tasks that were created, from the log."""
    found = []
    for partition in range(PARTITIONS):
        async for record in read_all(Cluster.of(bootstrap), EVENTS, partition):
            event = decode_event(record.value, record.headers)
            if event.type == "task.created":
                found.append(event.subject)
    return found

"""`hub status`: every process of a hub, from the cluster and from the supervisor's file."""

import asyncio
import json
import signal
import sys
from pathlib import Path
from subprocess import run
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError

from hub.errors import Unreachable
from hub.kafka import EVENTS, Cluster, ensure_topics, make_admin, make_consumer, make_producer
from hub.runtime.status import _one_of
from tests.brokers import delete_topics
from tests.cli.running import hub_inside

from .conftest import DEADLINE_SECONDS, HUB, HubUps, environment, run_task

IMPATIENT_HUB = [
    sys.executable,
    "-P",
    "-c",
    "from hub.kafka import reader; reader.OPEN_SECONDS = 2.0; from hub.cli import main; main()",
]
"""The hub, which otherwise waits for ten seconds for a topic to appear."""


async def status(folder: Path, *arguments: str) -> dict[str, Any]:
    """What `hub status --json` says."""
    found: dict[str, Any] = json.loads(await shown(folder, "--json", *arguments))
    return found


async def shown(folder: Path, *arguments: str) -> str:
    """What `hub status` shows."""
    done = await asyncio.to_thread(hub_inside, "status", *arguments, folder=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


async def test_every_process_is_told_with_role_pid_partitions_and_lag(hub_up: HubUps, tmp_path: Path) -> None:
    up = hub_up("--worker", "app:tasks", "--partitions", "2").ready()
    await run_task(up.address, "add", {"a": 1})
    found = await status(tmp_path, "--data", "data")
    by_role = {process["role"]: process for process in found["processes"]}
    assert set(by_role) == {"supervisor", "broker+engine", "worker", "delivery"}
    assert by_role["supervisor"]["pid"] == up.process.pid
    assert {name: up.children()[name]["pid"] for name in up.children()} == {
        role: by_role[role]["pid"] for role in by_role if role != "supervisor"
    }
    assert by_role["broker+engine"]["partitions"] == [0, 1]
    assert by_role["worker"]["about"]["tasks"] == ["add", "hold"]
    assert by_role["delivery"]["partitions"] == [0, 1]
    assert [(one["subscriber"], one["state"]) for one in found["subscribers"]] == [("console", "connected")]

    async with asyncio.timeout(DEADLINE_SECONDS):
        while [process["lag"] for process in found["processes"] if process["role"] in ("broker+engine", "delivery")] != [0, 0]:
            found = await status(tmp_path, "--data", "data")
    assert up.end() == 0


async def test_from_the_cluster_alone(hub_up: HubUps, tmp_path: Path) -> None:
    up = hub_up("--worker", "app:tasks", "--workers", "2", "--separate-engine").ready()
    pids = {name: child["pid"] for name, child in up.children().items()}
    found = {(one["role"], one["pid"]) for one in (await status(tmp_path, "--bootstrap", up.address))["processes"]}
    assert ("supervisor", up.process.pid) in found, "its broker says where the data is"
    assert ("broker", pids["broker"]) in found
    (tmp_path / "data" / "run.json").unlink()
    seen = (await status(tmp_path, "--bootstrap", up.address, "--data", "elsewhere"))["processes"]
    assert sorted((process["role"], process["pid"]) for process in seen) == sorted(
        [("engine", pids["engine"]), ("worker", pids["worker-1"]), ("worker", pids["worker-2"]), ("delivery", pids["delivery"])]
    )
    up.end(signal.SIGTERM)


async def test_people_get_a_table(hub_up: HubUps, tmp_path: Path) -> None:
    up = hub_up("--no-subscribers").ready()
    settings = environment() | {"HUB_DATA": "data"}
    done = await asyncio.to_thread(run, [*HUB, "status"], cwd=tmp_path, env=settings, capture_output=True, text=True, check=True)
    first, columns, *rows = done.stdout.partition("\n\n")[0].splitlines()
    assert first == f"hub at {up.address}, 1 partition"
    assert columns.split() == ["ROLE", "PID", "HOST", "STATE", "PARTITIONS", "LAG", "RESTARTS", "ABOUT"]
    assert [row.split()[0] for row in rows] == ["supervisor", "broker+engine"]
    found = await status(tmp_path, "--data", "data")
    assert {one["topic"]: one["bytes"] > 0 for one in found["topics"]}["hub.events"], "the engine has started"
    assert 0 < found["disk"]["usable_bytes"] < found["disk"]["total_bytes"]
    assert up.end() == 0


@pytest.mark.kafka
async def test_each_topic_has_a_size_and_the_disk_its_free_space(private_kafka: str, tmp_path: Path) -> None:
    await delete_topics(private_kafka)
    await ensure_topics(Cluster.of(private_kafka), partitions=2)
    producer = make_producer(Cluster.of(private_kafka))
    await producer.start()
    try:
        await producer.send_and_wait("hub.replies", bytes(500_000), partition=3)
    finally:
        await producer.stop()
    found = await status(tmp_path, "--bootstrap", private_kafka)
    sizes = {one["topic"]: one["bytes"] for one in found["topics"]}
    assert sizes.keys() == {"hub.intake", "hub.events", "hub.state", "hub.replies", "hub.commands.default"}
    assert 500_000 < sizes["hub.replies"] < 510_000
    assert sizes["hub.events"] == 0
    assert 0 < found["disk"]["usable_bytes"] < found["disk"]["total_bytes"]
    assert found["disk"]["unanswered"] == []
    table = await shown(tmp_path, "--bootstrap", private_kafka)
    assert "hub.replies           488.4 KiB" in table
    assert "are free on the broker's disk" in table


async def test_a_subscriber_without_a_delivery_process_is_shown_with_its_lag(empty_bootstrap: str, tmp_path: Path) -> None:
    cluster = Cluster.of(empty_bootstrap)
    await ensure_topics(cluster, partitions=2)
    producer = make_producer(cluster)
    await producer.start()
    for partition in (0, 0, 0, 1):
        await producer.send_and_wait(EVENTS, b"an event", partition=partition)
    await producer.stop()
    consumer = make_consumer(cluster, group="hub.sub.alerts")
    await consumer.start()
    committed = {TopicPartition(EVENTS, 0): 1, TopicPartition(EVENTS, 1): 0}
    consumer.assign(list(committed))
    await consumer.commit(committed)
    await consumer.stop()
    found = await status(tmp_path, "--bootstrap", empty_bootstrap)
    # Groups of other tests on the same cluster stay: Kafka's client cannot delete groups.
    ours = [one for one in found["subscribers"] if one["subscriber"] == "alerts"]
    assert ours == [{"subscriber": "alerts", "state": "disconnected", "lag": 3, "lag_seconds": None}]
    words = [line.split() for line in (await shown(tmp_path, "--bootstrap", empty_bootstrap)).splitlines()]
    assert ["alerts", "3", "no", "delivery", "process", "is", "connected"] in words


async def test_a_hub_whose_topics_are_incomplete_is_one_error(empty_bootstrap: str, tmp_path: Path) -> None:
    await ensure_topics(Cluster.of(empty_bootstrap), partitions=2)
    admin = make_admin(Cluster.of(empty_bootstrap))
    await admin.start()
    await admin.delete_topics(["hub.state"])
    await admin.close()
    command = [*IMPATIENT_HUB, "status", "--bootstrap", empty_bootstrap]
    done = await asyncio.to_thread(run, command, cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert done.returncode in (2, 3)
    assert "hub.state" in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr


def test_what_the_network_does_is_an_error_that_names_the_broker() -> None:
    failures = ExceptionGroup("a", [ExceptionGroup("b", [KafkaConnectionError("gone"), ValueError("later")])])
    error = _one_of(Cluster.of("127.0.0.1:1"), failures)
    assert isinstance(error, Unreachable)
    assert "127.0.0.1:1" in str(error)
    assert "gone" in str(error)

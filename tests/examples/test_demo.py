"""The demo from end to end, and its events as seen by any Kafka consumer."""

import json
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from hub.cli.demo import problems
from hub.cli.tree import TaskView, TreeView
from hub.demo import EXPECTED
from schemas import CATALOGUE
from tests.cli.running import hub, served


@pytest.fixture(scope="module")
def demo() -> Iterator[str]:
    """A hub on which the demo ran twice; its address."""
    with served(partitions=4) as bootstrap:
        for _ in range(2):
            done = hub("demo", "--exit", "--bootstrap", bootstrap)
            assert done.returncode == 0, done.stdout + done.stderr
        yield bootstrap


async def records_of(bootstrap: str) -> list["ConsumerRecord[bytes, bytes]"]:
    """All committed records of `hub.events`, with a plain consumer."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, isolation_level="read_committed", enable_auto_commit=False)
    await consumer.start()
    try:
        partitions = [TopicPartition("hub.events", number) for number in range(4)]
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        ends = await consumer.end_offsets(partitions)
        records = []
        while any([await consumer.position(partition) < ends[partition] for partition in partitions]):
            for found in (await consumer.getmany(timeout_ms=100)).values():
                records += found
        return records
    finally:
        await consumer.stop()


def test_the_demo_starts_its_own_hub_and_ends_well() -> None:
    done = hub("demo", "--exit")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    for told in ("task.retry_scheduled", "task.scheduled", "packed 8 of 8", "All steps ended as expected", "This hub stops now"):
        assert told in done.stdout
    assert "\x1b" not in done.stdout


async def test_its_events_are_valid_cloudevents_of_the_catalogue(demo: str) -> None:
    for record in await records_of(demo):
        headers = {name: value.decode() for name, value in record.headers}
        assert headers["ce_specversion"] == "1.0"
        assert headers["content-type"] == "application/json"
        assert headers["ce_type"] in CATALOGUE
        assert headers["ce_id"]
        assert headers["ce_source"].startswith("/hub/")
        assert headers["ce_subject"]
        assert datetime.fromisoformat(headers["ce_time"]).tzinfo is not None
        assert isinstance(json.loads(record.value or b"")["data"], dict)


async def test_sequences_have_no_gap_and_ids_are_unique(demo: str) -> None:
    runs: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    ids: list[tuple[str, str]] = []
    sources: list[str] = []
    for record in await records_of(demo):
        headers = {name: value.decode() for name, value in record.headers}
        body = json.loads(record.value or b"")
        runs[record.partition, body["entity"], body["run"]].append(body["sequence"])
        ids.append((headers["ce_source"], headers["ce_id"]))
        sources.append(body["src"])
    assert len(ids) == len(set(ids))
    assert len(sources) == len(set(sources))
    for run, sequences in runs.items():
        assert sequences == list(range(1, len(sequences) + 1)), run
    assert sum(entity.startswith("task/") for _, entity, _ in runs) == 12, "two orders of five steps each"


async def test_the_shape_that_it_is_to_show_is_on_the_log(demo: str) -> None:
    seen: dict[str, int] = defaultdict(int)
    for record in await records_of(demo):
        seen[dict(record.headers)["ce_type"].decode()] += 1
    for event_type in ("attempt.failed", "task.retry_scheduled", "task.scheduled", "workflow.completed"):
        assert seen[event_type] == 2, event_type
    assert seen["task.progressed"] >= 2


def test_the_checker_agrees(demo: str) -> None:
    assert hub("verify", "--require-all-ended", "--bootstrap", demo).returncode == 0


def test_a_step_that_ended_otherwise_is_named() -> None:
    view = TreeView("root")
    view.tasks["root"] = TaskView(id="root", label="order", name="order", state="failed")
    view.tasks["1"] = TaskView(id="1", label="charge", name="charge-card", state="failed", attempt=3)
    wrong = problems(view, {"charge": EXPECTED["charge"], "pack": EXPECTED["pack"]})
    assert wrong == [
        "The order is failed, not completed.",
        "The step charge is failed after 3 attempts, not completed after 2.",
        "The step pack was not created.",
    ]

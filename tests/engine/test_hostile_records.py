"""Arbitrary records in `hub.intake`: none makes a partition raise, exceed the size of a record or cause a finding, and the
next valid record is processed as usual.

HUB_RECORDS: number of generated records (default 12,000).
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hub.engine.encode import check_fits, encode
from hub.kafka import INTAKE, Record, partition_of
from schemas import REPORTS
from tests.engine import harness
from tests.engine.harness import World
from tests.records import PATIENT, Example, WholeRecord, hostile_records

pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")

RECORDS = int(os.environ.get("HUB_RECORDS", "12000"))

#: Records of one example of Hypothesis, and how many of them are decided together.
RECORDS_MIN, RECORDS_MAX = 40, 60
TOGETHER = 7

HEADERS = {"ce_specversion": b"1.0", "ce_source": b"/test", "content-type": b"application/json", "replyto": b"0:token"}
RETRY = {"max_attempts": 3, "backoff": {"initial": 1, "multiplier": 2, "max": 60}, "jitter": 0.1, "timeout": True}
SPEC = {"name": "a", "args": {"n": 1}, "queue": "default", "priority": 1, "retry": RETRY, "timeouts": {"start": 5, "total": 60}}


def prepared(partition: int = 0, partitions: int = 1) -> World:
    """A partition with a worker, a running task, a workflow, a retrying and a delayed task."""
    world = World(partition=partition, partitions=partitions)
    world.worker(options={"a": {"retry": {"max_attempts": 2}, "timeout_seconds": 9.0}})
    for name, fields in _prelude(partition, partitions).items():
        world.submit(id=name, **fields)
    world.step()
    for command in world.dispatched():
        if command.root == _id("retrying", partition, partitions):
            world.fail(command)
    world.step()
    return world


def _id(name: str, partition: int, partitions: int) -> str:
    """An id that begins with `name` and belongs to the partition."""
    return next(text for number in range(1_000) if partition_of(text := f"{name}{number}", partitions) == partition)


def _prelude(partition: int, partitions: int) -> Mapping[str, dict[str, Any]]:
    def name(text: str) -> str:
        return _id(text, partition, partitions)

    return {
        name("running"): {"name": "a"},
        name("retrying"): {"name": "a"},
        name("delayed"): {"name": "a", "start_after": 50.0},
        name("flow"): {"name": "w", "tasks": {"x": {"name": "a"}, "y": {"name": "c", "depends_on": ["x"]}}},
    }


def examples(world: World) -> dict[str, Sequence[Example]]:
    """Well-formed reports of every type about what there is in a prepared world."""
    task = _id("running", world.number, world.partitions)
    flow = _id("flow", world.number, world.partitions)
    lease = world.engine.state.tasks[task].row.lease
    assert lease is not None
    about = {"task": task, "root": task, "attempt": 1, "dispatch": 1, "token": lease.token, "incarnation": "w1", "number": 5}
    worker = {"incarnation": "w1", "pool": "default", "inbox": 3, "queues": ["default"], "slots": 4, "credit": 4}
    definition = {
        "name": "a",
        "version": "1",
        "namespace": "n",
        "queue": "q",
        "priority": 3,
        "retry": RETRY,
        "timeout_seconds": 9.0,
    }
    worker |= {"lease_seconds": 10.0, "host": "h", "pid": 1, "revision": 1, "definitions": [definition, {"name": "c"}]}
    error = {"type": "E", "message": "no", "stacktrace": "...", "retryable": True}
    values: dict[str, list[dict[str, Any]]] = {
        "task.created": [
            {**SPEC, "id": "new"},
            {**SPEC, "idempotency_key": "k", "idempotency_window": 60},
            {**SPEC, "tags": {"t": "v"}, "annotations": {"a": "b"}, "description": "d", "correlation_id": "c"},
            {
                "name": "w",
                "id": "flow2",
                "tasks": {"p": SPEC, "q": {**SPEC, "depends_on": ["p", {"task": "p", "on": "ended"}][:1]}},
            },
            {**SPEC, "root_id": flow, "key": "z", "depends_on": ["x"]},
            {"name": "w", "root_id": flow, "tasks": {"u": {"name": "a"}, "v": {"name": "a", "depends_on": ["u"]}}},
        ],
        "task.cancel": [{"id": task, "reason": "r", "by": "me"}, {"id": flow, "root": flow}, {"id": "nobody"}],
        "task.await": [{"id": task, "root": task, "wait": True}, {"id": "nobody", "wait": False}],
        "attempt.started": [about],
        "attempt.progressed": [{**about, "percent": 5.0, "message": "m"}],
        "attempt.completed": [{**about, "result": {"r": 1}, "ran_seconds": 1.0}],
        "attempt.failed": [{**about, "error": error, "retry_after": 1.0, "timed_out": False, "ran_seconds": 1.0}],
        "attempt.cancelled": [about],
        "attempt.released": [{**about, "reason": "drain"}],
        "definition.deprecate": [
            {"name": "a", "version": "1", "reason": "r", "by": "me"},
            {"name": "a", "version": "9", "namespace": "n"},
        ],
        "worker.registered": [worker, {**worker, "incarnation": "w2", "pool": "other"}],
        "worker.heartbeat": [worker, {**worker, "holding": [lease.token, "x"]}],
        "worker.draining": [worker],
        "worker.stopped": [{**worker, "incarnation": "w2"}],
        "worker.lost": [{"incarnation": "w2", "reason": "killed"}],
        "event.observed": [
            {"entity": "subscriber/s", "event": "subscriber.started", "data": {"use": "console", "host": "h", "pid": 1}},
            {"entity": "subscriber/s", "event": "subscriber.stopped", "data": {}},
            {"entity": "alert/r/k", "event": "alert.fired", "data": {"rule": "r", "key": "k", "labels": {"a": "b"}}},
        ],
    }
    return {
        kind: [Example(value, {**HEADERS, "ce_id": f"{kind}-{number}".encode()}, b"key") for number, value in enumerate(of_kind)]
        for kind, of_kind in values.items()
    }


def batches(world: World) -> st.SearchStrategy[list[WholeRecord]]:
    """Records for the intake of a prepared world."""
    records = hostile_records(examples(world), structured_mode=True, shrinkable=False)
    return st.lists(records, min_size=RECORDS_MIN, max_size=RECORDS_MAX)


ONE = prepared()
TWO = prepared(1, 2)
PROFILE = settings(
    PATIENT,
    max_examples=max(1, RECORDS // RECORDS_MIN // 2),
    suppress_health_check=[*PATIENT.suppress_health_check, HealthCheck.filter_too_much],
)


def test_every_report_has_an_example_that_is_taken() -> None:
    world = prepared()
    assert set(examples(world)) == set(REPORTS)
    for kind, of_kind in examples(world).items():
        for example in of_kind:
            fresh = prepared()
            fresh.put(kind, example.payload, replyto=example.headers["replyto"])
            fresh.step()
            assert "engine.report_dead_lettered" not in fresh.types(), (kind, example)


@PROFILE
@given(batches(ONE))
def test_no_record_stops_the_only_partition(records: list[WholeRecord]) -> None:
    survives(prepared(), records)


@PROFILE
@given(batches(TWO))
def test_no_record_stops_one_of_two_partitions(records: list[WholeRecord]) -> None:
    survives(prepared(1, 2), records)


def survives(world: World, records: Sequence[WholeRecord]) -> None:
    for begin in range(0, len(records), TOGETHER):
        for record in records[begin : begin + TOGETHER]:
            world.topics.append(INTAKE, world.number, Record(*record, timestamp_ms=0))
        batch = world.step(seconds=0.1)
        check_fits(encode(batch, world.number))
    _goes_on(world)
    world.crash()
    world.step(seconds=3.0)
    report = world.topics.verify()
    assert report.ok, report.render()
    if harness.watched is not None:
        harness.watched.clear()  # It is checked: thousands of worlds need not stay in memory until the test ends.


def _goes_on(world: World) -> None:
    """A worker that comes now gets the task that comes now, in spite of all before it."""
    name = _id("after", world.number, world.partitions)
    world.worker("w9", names=["only"], queues=["q9"])
    world.submit(id=name, name="only", queue="q9")
    world.step()
    (command,) = [command for command in world.dispatched() if command.task == name]
    world.complete(command, 1, incarnation="w9")
    world.step()
    assert world.types(name)[-1] == "task.completed"

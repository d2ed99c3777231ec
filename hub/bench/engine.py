"""`EnginePartition` alone: no broker, no clock, no event loop. Measures CPU microseconds per no-op task from its submission to
its end, with and without encoding the records.
"""

import statistics
import time
from typing import Any

from msgspec import json

from schemas import ExecuteAttempt
from schemas import reports as r

from ..core import Known
from ..engine import DecidedBatch, EnginePartition, encode
from ..kafka import StoredRecord
from .figures import spread

START_US = 1_700_000_000_000_000
KNOWN = Known(time_watermark_us=START_US, pools=frozenset({"default"}))
BATCH_TASKS = 500
WORKER = "bench-worker"


class _Feed:
    """Builds reports as records of the intake."""

    def __init__(self) -> None:
        self.offset = 0

    def record(self, kind: str, value: Any, **headers: bytes) -> StoredRecord:
        attributes = [
            ("ce_specversion", b"1.0"),
            ("ce_type", kind.encode()),
            ("ce_source", b"/bench"),
            ("ce_id", b"b%d" % self.offset),
            *headers.items(),
        ]
        record = StoredRecord(self.offset, 0, b"key", json.encode(value), attributes)
        self.offset += 1
        return record


def measure_engine(tasks: int, rounds: int, *, encoded: bool = True) -> dict[str, Any]:
    """Microseconds per task for deciding and for encoding, and events per task. Every round has the same batches of
    `BATCH_TASKS` tasks."""
    decide, write, events = [], [], 0
    for _ in range(rounds):
        deciding, writing, events = _round(tasks, encoded=encoded)
        decide.append(deciding / tasks * 1e6)
        write.append(writing / tasks * 1e6)
    whole = [deciding + writing for deciding, writing in zip(decide, write, strict=True)]
    median = statistics.median(whole)
    return {
        "bench": "engine",
        "tasks": tasks,
        "rounds": rounds,
        "tasks_per_second": round(1e6 / median, 1),
        "us_per_task": round(median, 2),
        "us_per_task_deciding": round(statistics.median(decide), 2),
        "us_per_task_encoding": round(statistics.median(write), 2),
        "events_per_task": round(events / tasks, 2),
        "seconds": round(median * tasks / 1e6, 4),
        "spread": {"us_per_task": spread(whole)},
    }


def _round(tasks: int, *, encoded: bool) -> tuple[float, float, int]:
    """Run `tasks` tasks in a new partition. Returns (seconds deciding, seconds encoding, number of events)."""
    engine, feed = EnginePartition(0, 1), _Feed()
    engine.take_over(START_US, rows=0, host="bench", pid=1, pools=["default"])
    about = {"incarnation": WORKER, "pool": "default", "inbox": 0, "definitions": [{"name": "bench-noop"}]}
    slots = {"queues": ["default"], "slots": BATCH_TASKS, "credit": BATCH_TASKS}
    engine.process([feed.record("worker.registered", {**about, **slots})], START_US, KNOWN)
    deciding = writing = 0.0
    events = 0
    for first in range(0, tasks, BATCH_TASKS):
        count = min(BATCH_TASKS, tasks - first)
        submissions = [
            feed.record("task.created", {"name": "bench-noop", "id": f"task-{first + index:031d}"}, replyto=b"0:token")
            for index in range(count)
        ]
        timed, batch = _process(engine, submissions, encoded=encoded)
        ended, after = _process(engine, _completions(feed, batch), encoded=encoded)
        deciding += timed[0] + ended[0]
        writing += timed[1] + ended[1]
        events += len(batch.events) + len(after.events)
    return deciding, writing, events


def _process(engine: EnginePartition, records: list[StoredRecord], *, encoded: bool) -> tuple[tuple[float, float], DecidedBatch]:
    """Process records. Returns ((seconds deciding, seconds encoding), batch)."""
    began = time.perf_counter()
    batch = engine.process(records, START_US, KNOWN)
    decided = time.perf_counter()
    if encoded:
        encode(batch, 0)
    return (decided - began, time.perf_counter() - decided), batch


def _completions(feed: _Feed, batch: DecidedBatch) -> list[StoredRecord]:
    """The worker's reports for the attempts that the batch dispatched."""
    commands = [command.data for command in batch.commands if isinstance(command.data, ExecuteAttempt)]
    return [
        feed.record(
            "attempt.completed",
            r.AttemptCompleted(
                task=command.task,
                root=command.root,
                attempt=command.attempt,
                dispatch=command.dispatch,
                token=command.token,
                incarnation=WORKER,
                number=1,
            ),
        )
        for command in commands
    ]

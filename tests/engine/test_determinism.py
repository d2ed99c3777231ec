"""A batch is a function of the partition's rows, the records and what the loop knows: decided again, by another owner or
another process, it has the same bytes, regardless of the offsets of its commit."""

import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from hub.core.state.tasks import TaskTable
from hub.engine.encode import encode
from hub.engine.partition import DecidedBatch, EnginePartition
from tests.engine.harness import World

from .schedule import STEPS, Schedule, healed

ROOT = Path(__file__).parents[2]

Call = tuple[str, tuple[Any, ...], dict[str, Any]]


class Recorded(EnginePartition):
    """An engine partition that remembers what it was asked, and what it answered."""

    def __init__(self, *about: Any) -> None:
        super().__init__(*about)
        self.about = about
        self.calls: list[Call] = []
        self.batches: list[Any] = []

    def restore(self, rows: Any, now_us: int, timed: Any = ()) -> int:
        kept = list(rows)
        self.calls.append(("restore", (kept, now_us, timed), {}))
        return super().restore(kept, now_us, timed)

    def extend_deadlines(self, gap_us: int) -> None:
        self.calls.append(("extend_deadlines", (gap_us,), {}))
        super().extend_deadlines(gap_us)

    def take_over(self, now_us: int, **more: Any) -> DecidedBatch:
        more["pools"] = list(more["pools"])  # The world's own list grows.
        return self._kept("take_over", super().take_over(now_us, **more), now_us, **more)

    def leave(self, now_us: int) -> DecidedBatch:
        return self._kept("leave", super().leave(now_us), now_us)

    def process(self, records: Any, now_us: int, known: Any, **more: Any) -> DecidedBatch:
        return self._kept("process", super().process(records, now_us, known, **more), list(records), now_us, known, **more)

    def _kept(self, name: str, batch: DecidedBatch, *given: Any, **more: Any) -> DecidedBatch:
        self.calls.append((name, given, more))
        self.batches.append(encode(batch, self.partition))
        return batch

    def again(self) -> list[Any]:
        """The batches of another partition that is asked the same, and never learns what became of them."""
        other = EnginePartition(*self.about)
        batches = []
        for name, given, more in self.calls:
            answer = getattr(other, name)(*given, **more)
            if isinstance(answer, DecidedBatch):
                batches.append(encode(answer, self.partition))
        return batches


class RecordedWorld(World):
    """A world whose partitions are recorded."""

    def _fresh(self) -> EnginePartition:
        engine = Recorded(self.number, self.partitions, self.settings)
        self.__dict__.setdefault("owners", []).append(engine)
        return engine


@pytest.mark.parametrize("seed", range(12))
def test_the_same_reports_are_decided_in_the_same_way_whatever_became_of_the_batches(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    owners = recorded(seed, monkeypatch)
    assert sum(len(owner.batches) for owner in owners) > 10
    for owner in owners:
        assert owner.again() == owner.batches


@pytest.mark.parametrize("seed", range(12, 20))
def test_it_makes_no_difference_which_waiting_tasks_rest(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    owners = recorded(seed, monkeypatch)
    rested: list[str] = []

    class Counted(TaskTable):
        def rest(self, task_id: str, encoded: bytes) -> None:
            rested.append(task_id)
            super().rest(task_id, encoded)

    monkeypatch.setattr("hub.core.state.partition.REST_US", -(10**18))
    monkeypatch.setattr("hub.core.state.partition.READY_ACTIVE_MAX", -1)
    monkeypatch.setattr("hub.core.state.partition.TaskTable", Counted)
    for owner in owners:
        assert owner.again() == owner.batches
    assert rested


def recorded(seed: int, monkeypatch: pytest.MonkeyPatch) -> list[Recorded]:
    """The owners of the partitions of a schedule."""
    monkeypatch.setattr("tests.engine.schedule.World", RecordedWorld)
    schedule = Schedule(seed)
    for _ in range(STEPS):
        schedule.one()
    return [owner for world in schedule.worlds for owner in world.__dict__["owners"]]


def digest(seeds: range) -> str:
    """A hash of every record that the hubs of these seeds wrote."""
    found = sha256()
    for seed in seeds:
        for place, records in sorted(healed(seed).topics.everything().items()):
            for record in records:
                found.update(repr((*place, record.offset, record.key, record.value, list(record.headers))).encode())
    return found.hexdigest()


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_another_process_writes_the_same_bytes(hash_seed: str) -> None:
    code = "from tests.engine.test_determinism import digest; print(digest(range(6)))"
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.strip() == digest(range(6))

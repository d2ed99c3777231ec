"""Figures of a partition: what is counted from events agrees with the state, whatever happens."""

from collections import Counter

import pytest

from hub.core import LIVE
from hub.engine.figures import (
    LOOKED_AT_MAX,
    OTHER,
    QUEUES_MAX,
    UNCOUNTED_BATCHES_MAX,
    UNCOUNTED_BYTES_MAX,
    UNCOUNTED_EVENTS_MAX,
    PartitionFigures,
    QueueBacklog,
)
from hub.engine.partition import DecidedBatch
from tests.engine.harness import SECOND, World
from tests.engine.schedule import healed


class FiguredWorld(World):
    """A partition whose batches are counted when they are committed, as its loop does."""

    def __init__(self, **options: object) -> None:
        self.figures = PartitionFigures()
        super().__init__(**options)  # type: ignore[arg-type]

    def take_over(self) -> None:
        """Begin to count."""
        self.figures.end()
        self.figures.begin(self.engine.state, self.engine.restored)
        super().take_over()

    def commit(self, batch: DecidedBatch) -> None:
        """Count, and compare with the state."""
        super().commit(batch)
        self.figures.committed(batch.events, 0, batch.now_us, self.figures.clock())
        self.figures.count()
        self.check()

    def check(self) -> None:
        """Every task, and every queue."""
        rows = [task.row for task in self.engine.state.tasks.values() if task.row.state in LIVE]
        found = {(*name, state): number for name, states in self.figures.active.items() for state, number in states.items()}
        assert found == Counter((row.namespace, row.name, row.state) for row in rows)
        assert self.figures.live_tasks == len(rows)
        depths = Counter(row.queue for row in rows if row.state == "ready")
        queues = self.figures.queues(self.now_us)
        assert {queue: one.depth for queue, one in queues.items() if one.depth} == depths


@pytest.mark.parametrize("seed", range(12))
def test_tasks_by_state_and_queue_are_those_of_the_state_after_every_batch(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.engine.schedule.World", FiguredWorld)
    healed(seed)


def quiet_world() -> FiguredWorld:
    world = FiguredWorld()
    world.worker(credit=1)
    world.step()
    return world


def test_a_retried_task_arrives_and_ends_once() -> None:
    world = quiet_world()
    world.submit(name="a", id="t", retry={"max_attempts": 2, "backoff": [5], "jitter": 0})
    world.step()
    world.fail(world.dispatched()[0])
    world.step()
    assert (world.figures.arrivals, world.figures.completions) == ({"default": 1}, {})
    world.step(seconds=5.25)
    world.complete(world.dispatched()[0])
    world.step()
    assert (world.figures.arrivals, world.figures.completions) == ({"default": 1}, {"default": 1})
    delays = world.figures.timer_delays["retry"]
    assert delays.count == 1
    assert delays.sum == pytest.approx(0.25, abs=0.001)


def test_a_task_that_is_cancelled_before_it_was_dispatched_completes_nothing() -> None:
    world = quiet_world()
    world.submit(name="nobody", id="t")
    world.step()
    world.put("task.cancel", {"id": "t"})
    world.step()
    assert (world.figures.arrivals, world.figures.completions) == ({"default": 1}, {})
    assert world.figures.queues(world.now_us) == {}


def test_the_age_of_a_queue_is_that_of_its_longest_waiting_task_whatever_its_priority() -> None:
    world = quiet_world()
    world.submit(name="nobody", id="low", priority=-10)
    world.step()
    world.submit(name="nobody", id="high", priority=10)
    world.step(seconds=30)
    now_us = world.now_us + 10 * SECOND
    assert world.figures.queues(now_us) == {"default": QueueBacklog(2, 40.0)}


def test_of_a_long_queue_the_age_is_that_of_the_tasks_that_are_dispatched_next() -> None:
    world = quiet_world()
    world.submit(name="nobody", id="low", priority=-10)
    world.step(seconds=1)
    for number in range(LOOKED_AT_MAX):
        world.submit(name="nobody", id=f"t{number}")
    world.step(seconds=30)
    assert world.figures.queues(world.now_us + SECOND) == {"default": QueueBacklog(LOOKED_AT_MAX + 1, 1.0)}


def test_the_number_of_queues_whose_totals_are_kept_is_limited() -> None:
    world = quiet_world()
    for number in range(QUEUES_MAX + 5):
        world.submit(name="nobody", id=f"t{number}", queue=f"q{number}")
    world.step()
    assert (len(world.figures.arrivals), world.figures.arrivals[OTHER]) == (QUEUES_MAX + 1, 5)


def test_workers_are_counted_by_pool_and_state_on_their_home_partition() -> None:
    world = quiet_world()
    world.worker("w2", pool="gpu")
    world.step()
    world.worker("w2", pool="gpu", kind="worker.draining")
    world.step()
    assert Counter(world.figures.workers()) == {("default", "active"): 1, ("gpu", "draining"): 1}
    world.figures.end()
    assert list(world.figures.workers()) == []
    assert (world.figures.owned, world.figures.live_tasks, world.figures.queues(0)) == (False, 0, {})


def test_batches_are_counted_together_after_some_of_them_or_when_the_partition_is_given_up() -> None:
    figures, batches = PartitionFigures(clock=lambda: 1.5), []

    class Kept(World):
        def commit(self, batch: DecidedBatch) -> None:
            super().commit(batch)
            batches.append(batch)

    world = Kept()
    figures.begin(world.engine.state, world.engine.restored)
    world.submit(name="nobody", id="t")
    world.step()
    (created,) = [batch for batch in batches if any(event.to_state == "ready" for event in batch.events)]
    for number in range(UNCOUNTED_BATCHES_MAX):
        assert figures.batch_seconds.count == 0
        figures.decided(0.25, number)
    assert (figures.batch_seconds.count, figures.batch_records.count) == (UNCOUNTED_BATCHES_MAX, UNCOUNTED_BATCHES_MAX)
    needed = -(-UNCOUNTED_EVENTS_MAX // len(created.events))
    for _ in range(needed):
        assert (figures.commit_seconds.count, figures.waiting) == (0, {})
        figures.committed(created.events, 0, created.now_us, 1.0)
    assert (figures.commit_seconds.count, figures.commit_seconds.highest, figures.waiting) == (needed, 0.5, {"default": needed})
    figures.committed(created.events, UNCOUNTED_BYTES_MAX, created.now_us, 1.0)
    assert figures.commit_seconds.count == needed + 1, "large events are not kept"
    figures.committed(created.events, 0, created.now_us, 1.0)
    figures.end()
    assert (figures.commit_seconds.count, figures.arrivals, figures.waiting) == (needed + 2, {"default": needed + 2}, {})
    for _ in range(UNCOUNTED_BATCHES_MAX):
        assert figures.commit_seconds.count == needed + 2
        figures.committed([], 0, created.now_us, 1.0)
    assert figures.commit_seconds.count == needed + 2 + UNCOUNTED_BATCHES_MAX

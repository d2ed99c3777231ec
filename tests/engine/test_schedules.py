"""Random schedules, each on one seed (see `schedule.py`). Afterwards everything must heal, the checker must find nothing, and the
durable state must be the fold of the log.

`HUB_SEEDS=20000` runs so many; `HUB_SEED=123` runs the one that failed.
"""

import functools
import os
from collections import Counter
from typing import NamedTuple

import msgspec
import pytest

from hub.core.state import PartitionState
from hub.core.time.timers import TIMEOUT_SLACK_US
from schemas import TERMINAL_STATES
from tests.engine.harness import World, check_fold

from .schedule import STEPS, Schedule, healed

SEEDS = [int(os.environ["HUB_SEED"])] if "HUB_SEED" in os.environ else range(int(os.environ.get("HUB_SEEDS", "120")))


def rows_of_tasks(world: World) -> dict[bytes, bytes]:
    """What the changelog holds of tasks, ended or not."""
    return {key: value for key, value in world.rows.items() if key.startswith((b"task/", b"args/", b"plan/"))}


@pytest.fixture(autouse=True)
def the_checker_agrees() -> None:
    """Every schedule here is checked by `story_of`, or compared with another one; see conftest.py for other tests."""


class Story(NamedTuple):
    """What one schedule told: its types of events, and how often each run of a task was created and ended, by partition."""

    types: frozenset[str]
    created: list[Counter[tuple[str, int]]]
    ended: list[Counter[tuple[str, int]]]


@functools.cache
def story_of(seed: int) -> Story:
    """Run the schedule of `seed` and check everything that must be true of it. Raises AssertionError."""
    schedule = healed(seed)
    story = _story(schedule)
    for world in schedule.worlds:
        check_fold(world)
        assert not world.engine.state.held, "nobody holds anything"
        assert not world.engine.state.dependents, "nobody waits for anything"
        before = rows_of_tasks(world)
        world.crash()
        assert rows_of_tasks(world) == before
        assert all(value.startswith(b'{"ended"') for value in before.values())
    report = schedule.verify()
    assert report.ok, report.render()
    return story


def _story(schedule: Schedule) -> Story:
    events = [world.events for world in schedule.worlds]
    return Story(
        frozenset(event.type for some in events for event in some),
        [Counter((event.subject, event.run) for event in some if event.type == "task.created") for some in events],
        [Counter((event.subject, event.run) for event in some if event.to_state in TERMINAL_STATES) for some in events],
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_every_schedule_heals_and_its_log_tells_one_true_story(seed: int) -> None:
    try:
        story_of(seed)
    except BaseException as error:
        error.add_note(f"Again: HUB_SEED={seed} python -m pytest tests/engine/test_schedules.py")
        raise


def test_the_same_seed_gives_the_same_records() -> None:
    first, second = healed(7).topics, healed(7).topics
    assert first.everything() == second.everything()


def test_what_schedules_are_for_happens_in_them() -> None:
    """No kind of event that one hub in memory can emit stays away from the seeds of every run."""
    assert not EMITTED.difference(*(story_of(seed).types for seed in range(60)))


EMITTED = {
    "task.rejected", "task.deduplicated", "task.scheduled", "task.dependency_satisfied", "task.retry_scheduled",
    "task.cancel_requested", "task.expired", "task.skipped", "attempt.granted", "attempt.started", "attempt.failed",
    "attempt.timed_out", "attempt.lost", "attempt.lease_expired", "attempt.cancelled", "attempt.released",
    "attempt.superseded", "attempt.report_rejected", "workflow.expanded", "workflow.steps_ready", "workflow.completed",
    "workflow.failed", "workflow.cancelled", "worker.draining", "worker.stopped", "worker.lost", "worker.heartbeat_missed",
    "engine.report_forwarded", "engine.report_dead_lettered",
}  # fmt: skip


@pytest.mark.parametrize("seed", range(7, 27))
def test_a_restored_partition_is_the_one_that_was_lost(seed: int) -> None:
    schedule = Schedule(seed)
    for _ in range(STEPS):
        schedule.one()
    for world in schedule.worlds:
        world.step()
        before = derived(world.engine.state)
        world.crash()
        assert derived(world.engine.state) == before


def derived(state: PartitionState) -> dict[str, object]:
    """All that a partition knows of its tasks, as values; of timers and start deadlines those that still mean something."""
    tasks = {task.id: task for task in state.tasks.values()}
    blocked = {task.id for task in tasks.values() if task.row.state == "blocked"}
    dispatched = {(task.id, task.row.lease.token) for task in tasks.values() if task.row.state == "dispatched" and task.row.lease}
    return {
        "rows": {name: msgspec.json.encode(task.row) for name, task in tasks.items()},
        "arguments": {name: bytes(task.args) for name, task in tasks.items()},
        "results": {name: bytes(task.result) for name, task in tasks.items()},
        "children": {name: None if task.children is None else sorted(task.children) for name, task in tasks.items()},
        "counts": (state.live, state.planned),
        "ready": sorted(state.ready.waiting),
        "held": {worker: holding for worker, holding in state.held.items() if holding},
        "dependents": {name for after in state.dependents.values() for name, _ in after} & blocked,
        "timers": {timer[1:] for timer in state.agenda.entries() if means_something(state, *timer)},
        "starts": {(name, token) for _, name, token in state.start_deadlines} & dispatched,
    }


def means_something(state: PartitionState, due_us: int, kind: str, name: str, mark: int) -> bool:
    """Whether a timer of the agenda is one that its task's row has not moved past."""
    task = state.tasks.get(name)
    if task is None or task.ended or kind in ("cancel", "plan"):
        return False  # Slices are due at once, and begin again after a restore.
    row = task.row
    due = {"start": row.timers.start, "retry": row.timers.retry, "expire": row.timers.expire, "total": row.timers.total}
    if kind == "attempt":  # Looked at once, it waits a little longer for the worker's own report.
        return row.timers.attempt is not None and due_us in (row.timers.attempt, row.timers.attempt + TIMEOUT_SLACK_US)
    return due_us == due[kind] and mark in (0, row.dispatch)


def test_every_created_run_ends_once() -> None:
    """Counted by hand, so that the checker is not the only one to say so."""
    for seed in range(60):
        story = story_of(seed)
        assert story.created == story.ended
        assert {count for runs in story.created for count in runs.values()} == {1}

"""Options of a registration apply if the submission does not set them, also when the engine ends an attempt."""

from typing import Any

import pytest

from schemas import ExecuteAttempt
from tests.engine.harness import World, check_fold, check_log

RETRY = {"max_attempts": 5, "backoff": [1.0], "jitter": 0.0}


def world_with(options: dict[str, Any], **settings: Any) -> World:
    world = World()
    world.worker(options={"a": options}, **settings)
    world.step()
    return world


def run_of(world: World, **fields: Any) -> ExecuteAttempt:
    world.submit(**{"id": "t", "name": "a", **fields})
    world.step()
    (command,) = world.dispatched()
    return command


def start(world: World, command: ExecuteAttempt) -> None:
    world.report(command, "attempt.started", number=1)
    world.step()


def test_the_command_and_the_log_say_what_holds() -> None:
    world = world_with({"retry": RETRY, "timeout_seconds": 7.0})
    command = run_of(world)
    assert (command.max_attempts, command.timeout_seconds, command.delivery) == (5, 7.0, "at_least_once")
    policy = world.last("task.dispatched").data.policy
    assert (policy.retry.max_attempts, policy.retry.backoff, policy.timeout_seconds) == (5, [1.0], 7.0)
    assert world.last("task.created").data.policy == policy
    assert world.last("worker.registered").data.definitions == ["*/a@1", "*/b@1"]
    check_fold(world)


def test_the_submission_wins_part_by_part() -> None:
    world = world_with({"retry": RETRY, "timeout_seconds": 7.0, "delivery": "at_most_once"})
    command = run_of(world, retry={"max_attempts": 2}, delivery="at_least_once")
    assert (command.max_attempts, command.timeout_seconds, command.delivery) == (2, 7.0, "at_least_once")


def test_a_timeout_that_the_engine_finds_is_retried_by_the_registered_policy() -> None:
    world = world_with({"retry": RETRY, "timeout_seconds": 3.0}, lease_seconds=60.0)
    start(world, run_of(world))
    world.step(seconds=4.0)
    assert world.last("attempt.timed_out").data.timeout_seconds == 3.0
    scheduled = world.last("task.retry_scheduled").data
    assert (scheduled.delay, scheduled.cause) == (1.0, "timeout")
    check_log(world)
    check_fold(world)


def test_a_lost_worker_counts_against_the_registered_bound() -> None:
    world = world_with({"retry": {**RETRY, "max_lost": 0}})
    command = run_of(world)
    start(world, command)
    world.put("worker.lost", {"incarnation": "w1", "reason": "killed"})
    world.step()
    assert world.last("task.failed").data.kind == "lost"
    assert world.last("task.failed").data.max_attempts == 5


def test_at_most_once_holds_for_a_submission_by_name() -> None:
    world = world_with({"delivery": "at_most_once"})
    command = run_of(world)
    assert (command.delivery, command.max_attempts) == ("at_most_once", 1)
    start(world, command)
    assert "attempt.granted" in world.types("t")
    world.fail(command)
    world.step()
    assert world.last("task.failed").data.kind == "exhausted"
    check_fold(world)


@pytest.mark.parametrize("crash", [False, True])
def test_it_is_fixed_when_the_task_is_created_whoever_runs_the_next_attempt(crash: bool) -> None:
    world = world_with({"retry": RETRY})
    world.fail(run_of(world))
    world.put("worker.stopped", {**_about(), "slots": 10, "credit": 0})
    world.step()
    if crash:
        world.crash()
    world.worker("w2", options={"a": {"retry": {"max_attempts": 1}, "timeout_seconds": 1.0}})
    world.step(seconds=2.0)
    (command,) = world.dispatched()
    assert (command.attempt, command.max_attempts, command.timeout_seconds) == (2, 5, None)
    world.complete(command, 1, incarnation="w2")
    world.step()
    assert world.last("task.completed").data.max_attempts == 5
    check_log(world)
    check_fold(world)


def test_a_new_owner_finds_the_options_in_its_rows() -> None:
    world = world_with({"retry": RETRY})
    world.crash()
    world.worker(kind="worker.heartbeat")
    assert run_of(world).max_attempts == 5, "a heartbeat repeats what may be out of date: it changes nothing"


def test_what_a_worker_registers_after_a_submission_that_waits_holds_from_its_first_dispatch() -> None:
    world = World()
    world.submit(id="t", name="a", retry={"max_attempts": 2})
    world.step()
    assert world.last("task.created").data.unresolved
    world.worker(options={"a": {"retry": RETRY, "timeout_seconds": 7.0}})
    world.step()
    (command,) = world.dispatched()
    assert (command.version, command.max_attempts, command.timeout_seconds) == ("1", 2, 7.0)
    assert world.last("task.dispatched").data.version == "1"
    world.fail(command)
    world.until_quiet()
    (command,) = world.dispatched()
    assert (command.version, command.attempt, world.last("task.dispatched").data.version) == ("1", 2, None)
    check_fold(world)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"retry": {"max_attempts": 0}}, "definitions[0].retry.max_attempts"),
        ({"retry": {"backoff": [1.0] * 2_000}}, "definitions[0].retry.backoff"),
        ({"timeout_seconds": -1.0}, "definitions[0].timeout_seconds"),
    ],
)
def test_options_that_cannot_hold_are_refused_by_their_field(options: dict[str, Any], field: str) -> None:
    world = World()
    world.worker(options={"a": options})
    world.step()
    assert field in world.last("engine.report_dead_lettered").data.reason


def test_steps_take_queue_and_priority_of_their_workflow_unless_they_give_their_own() -> None:
    world = world_with({}, queues=["default", "slow", "fast"])
    steps = {"x": {"name": "a"}, "y": {"name": "a", "queue": "fast", "priority": 1}}
    world.submit(id="w", name="w", queue="slow", priority=9, tasks=steps)
    world.step()
    assert {command.key: (command.queue, command.priority) for command in world.dispatched()} == {
        "x": ("slow", 9),
        "y": ("fast", 1),
    }
    world.submit(root_id="w", key="z", name="a")
    world.step()
    assert [(command.queue, command.priority) for command in world.dispatched()] == [("slow", 9)]


def _about() -> dict[str, Any]:
    return {"incarnation": "w1", "pool": "default", "inbox": 3, "queues": ["default"], "lease_seconds": 10.0}

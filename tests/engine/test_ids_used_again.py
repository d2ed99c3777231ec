"""An id that is used again, when the earlier task is forgotten or its idempotency window is over: nothing of the earlier run, in
the ready order or among the timers, has an effect on the later one."""

from typing import Any

import pytest

from hub.engine.partition import EngineSettings

from .harness import SECOND, START_US, World

#: With these an ended task is forgotten after a second.
SHORT = EngineSettings(retention_seconds=1.0)


def use_again(world: World, first: dict[str, Any], second: dict[str, Any], *, seconds: float = 200.0) -> str:
    """Submit a task, cancel it before it starts, and after `seconds` submit another one with its id; returns the id."""
    world.submit(**first)
    world.step()
    task = world.events[-1].subject
    assert task is not None
    world.put("task.cancel", {"id": task})
    world.step()
    world.step(seconds=seconds)
    world.submit(**second)
    world.step()
    assert world.types(task).count("task.created") == 2
    return task


AGAIN = [{"id": "t"}, {"idempotency_key": "nightly", "idempotency_window": 60}]


@pytest.mark.parametrize("again", AGAIN)
def test_a_worker_of_the_earlier_queue_does_not_get_the_later_task(again: dict[str, Any]) -> None:
    world = World(settings=SHORT)
    task = use_again(world, {**again, "name": "a", "queue": "q1"}, {**again, "name": "b", "queue": "q2"})
    assert world.types(task)[-2:] == ["task.created", "task.ready"]
    world.worker("earlier", names=["a"], queues=["q1"])
    world.step()
    assert world.dispatched() == []
    world.worker("later", names=["b"], queues=["q2"])
    world.step()
    (command,) = world.dispatched()
    assert (command.name, command.queue) == ("b", "q2")


@pytest.mark.parametrize("again", AGAIN)
def test_a_worker_of_both_queues_gets_the_later_task_once(again: dict[str, Any]) -> None:
    world = World(settings=SHORT)
    task = use_again(world, {**again, "name": "a", "queue": "q1"}, {**again, "name": "a", "queue": "q2"})
    assert world.types(task)[-2:] == ["task.created", "task.ready"]
    world.worker("both", names=["a"], queues=["q1", "q2"])
    world.step()
    (command,) = world.dispatched()
    assert (command.task, command.queue) == (task, "q2")


def test_a_start_time_of_an_earlier_run_of_an_id_starts_nothing() -> None:
    world = World(settings=EngineSettings(retention_seconds=10))
    first = {"name": "nobody", "id": "t"}
    use_again(world, {**first, "start_after": 200}, {**first, "start_after": 1_000}, seconds=80)
    world.step(seconds=999)
    assert world.types("t")[-1] == "task.scheduled"
    world.step(seconds=1)
    assert world.types("t")[-1] == "task.ready"


def test_a_deadline_of_the_earlier_task_is_not_the_cause_of_the_later_one_expiring() -> None:
    world = World(settings=SHORT)
    first = {"name": "a", "id": "t"}
    use_again(world, {**first, "not_start_after": 250}, {**first, "not_start_after": 140}, seconds=120)
    world.step(seconds=150)  # both deadlines are over
    assert world.events[-1].type == "task.expired"
    assert world.events[-1].src.startswith(f"agenda/0/expire:t.0/{(START_US + 260 * SECOND) // 1000}/")


def test_a_timeout_of_an_earlier_attempt_is_not_the_cause_of_the_end_of_a_later_one() -> None:
    world = World(settings=SHORT)
    world.worker(lease_seconds=1000.0)
    ends_us = []
    for timeout, seconds in ((250, 120), (140, 0)):
        world.submit(name="a", id="t", timeouts={"attempt": timeout})
        world.step()
        (command,) = world.dispatched()
        world.report(command, "attempt.started", number=1)
        world.step()
        ends_us.append(world.now_us + timeout * SECOND)
        if seconds:
            world.complete(command)
            world.step()
            world.step(seconds=seconds)
            world.worker(kind="worker.heartbeat", lease_seconds=1000.0)
            world.step()
    assert ends_us[0] < ends_us[1]
    world.step(seconds=150)
    (over,) = [event for event in world.events if event.type == "attempt.timed_out"]
    assert over.src.startswith(f"agenda/0/attempt:t.1/{ends_us[1] // 1000}/")


def test_an_outdated_timer_is_not_the_cause_of_what_an_earlier_one_began(world: World) -> None:
    world.worker(lease_seconds=300.0)
    world.submit(name="a", id="old", timeouts={"total": 5})
    world.step()
    world.complete(*world.dispatched())
    world.step()
    world.submit(name="w", id="wf", tasks={f"s{number}": {"name": "nobody"} for number in range(450)}, timeouts={"total": 4})
    world.step()
    while world.engine.state.planned:
        world.step()
    world.step(seconds=4.2)
    world.worker(kind="worker.heartbeat")
    world.step(seconds=2)
    while world.state_of("wf") not in ("failed", "timed_out"):
        world.step()
    causes = {event.src.split(":")[1].split(".")[0] for event in world.events if event.rootid == "wf" and "agenda/" in event.src}
    assert causes == {"wf"}

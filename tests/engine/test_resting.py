"""Tasks at rest: in memory only as their encoded rows, until they are used."""

import pytest

from hub.core.rows.task import INLINE_ARGS_BYTES_MAX

from .harness import World

HOUR = 3600.0


def resting(world: World) -> int:
    return world.engine.state.tasks.resting


@pytest.mark.parametrize("crash", [False, True])
def test_a_delayed_task_rests_until_it_is_due(world: World, crash: bool) -> None:
    world.submit(name="a", id="t", args={"n": 1}, start_after=HOUR, tags={"k": "v"})
    world.step()
    assert resting(world) == 1
    if crash:
        world.crash()
        assert (resting(world), world.engine.state.live) == (1, 1)
    world.step(seconds=HOUR - 1)
    assert resting(world) == 1
    world.worker("w2")
    world.step(seconds=2)
    (command,) = world.dispatched()
    assert (command.task, bytes(command.args), command.tags) == ("t", b'{"n":1}', {"k": "v"})
    assert resting(world) == 0
    world.report(command, "attempt.completed", incarnation="w2", result=1)
    world.step()
    assert world.state_of("t") == "completed"


def test_the_timers_of_a_restored_partition_are_swept_only_once_many_were_added(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sweep(*_: object) -> None:
        raise AssertionError("all timers belong to known tasks")

    monkeypatch.setattr("hub.core.state.partition.TIDY_FROM", 5)
    for number in range(8):
        world.submit(name="a", id=f"t{number}", start_after=HOUR)
    world.step()
    world.crash()
    with monkeypatch.context() as patch:
        patch.setattr("hub.core.state.agenda.Agenda.keep", sweep)
        world.step()
    assert resting(world) == 8


def test_a_task_that_is_looked_at_rests_again_and_its_client_gets_the_outcome(world: World) -> None:
    world.submit(name="a", id="t", start_after=HOUR)
    world.step()
    world.put("task.await", {"id": "t", "wait": False}, replyto=b"0:look")
    world.put("task.await", {"id": "t", "wait": True}, replyto=b"0:wait")
    world.step()
    assert resting(world) == 1
    assert world.replies[b"look"]["state"] == "scheduled"
    assert b"wait" not in world.replies
    world.put("task.cancel", {"id": "t"})
    world.step()
    assert resting(world) == 0
    assert (world.replies[b"wait"]["kind"], world.replies[b"wait"]["state"]) == ("ended", "cancelled")


def test_a_task_with_a_row_of_its_own_for_its_arguments_does_not_rest(world: World) -> None:
    world.submit(name="a", id="t", args={"text": "x" * INLINE_ARGS_BYTES_MAX}, start_after=HOUR)
    world.step()
    assert resting(world) == 0
    world.crash()
    assert resting(world) == 0
    world.step(seconds=HOUR + 1)
    world.worker("w2")
    world.step()
    (command,) = world.dispatched()
    assert len(bytes(command.args)) > INLINE_ARGS_BYTES_MAX


def test_ready_tasks_behind_many_others_rest_and_are_dispatched_in_their_order(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub.core.state.partition.READY_ACTIVE_MAX", 5)
    world.worker(kind="worker.heartbeat", credit=0)
    names = [f"t{number}" for number in range(20)]
    for name in names:
        world.submit(name="a", id=name)
    world.step()
    assert resting(world) == 20  # Decided in one batch: all of them are behind others.
    world.crash()
    assert resting(world) == 20
    world.worker("w2", credit=100, slots=100)
    world.step()
    assert [command.task for command in world.dispatched()] == names
    assert resting(world) == 0


def test_timers_that_are_due_at_the_same_time_have_the_same_order_after_a_crash() -> None:
    decided = []
    for crash in (False, True):
        world = World()
        world.worker()
        world.submit(name="a", id="t", start_after=100, not_start_after=100)
        world.step()
        assert resting(world) == 1
        if crash:
            world.crash()
            world.worker()
        before = len(world.events)
        world.step(seconds=101)
        world.step()
        decided.append([event.type for event in world.events[before:] if event.subject == "t"])
    assert decided[0] == decided[1] == ["task.expired"]

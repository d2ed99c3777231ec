"""The decisions of one engine partition: each test is one sentence about behaviour, without I/O."""

import msgspec
import pytest

from hub.core.rows.ended import INLINE_RESULT_BYTES_MAX
from hub.core.tasks.retry import LOST_AT_ONCE
from hub.engine.partition import EnginePartition, EngineSettings, PoisonRecord
from hub.kafka import INTAKE, Record, partition_of
from schemas import ExecuteAttempt, step_id
from schemas import events as e
from schemas.tasks import ARGS_BYTES_MAX, INLINE_RESULTS_BYTES_MAX, RESULT_BYTES_MAX
from schemas.tracing import span_id_of

from .harness import SECOND, START_US, World, check_log

DIAMOND = {
    "name": "order",
    "id": "root",
    "tasks": {
        "reserve": {"name": "a"},
        "charge": {"name": "a", "depends_on": ["reserve"]},
        "pack": {"name": "b", "depends_on": ["reserve"]},
        "ship": {"name": "b", "depends_on": ["charge", "pack"]},
    },
}


def run_one(world: World, **fields: object) -> ExecuteAttempt:
    world.submit(**{"name": "a", "id": "t", **fields})
    world.step()
    (command,) = world.dispatched()
    return command


def told_to_stop(world: World) -> list[tuple[str, str]]:
    """The task and the reason of each `attempt.cancel`."""
    commands = [msgspec.json.decode(data) for kind, _, data in world.commands if kind == "attempt.cancel"]
    return [(command["task"], command["reason"]) for command in commands]


def test_the_happy_path_is_five_events(world: World) -> None:
    world.complete(run_one(world), {"ok": 1})
    world.step()
    assert world.types("t") == ["task.created", "task.ready", "task.dispatched", "task.started", "task.completed"]
    assert world.state_of("t") == "completed"


def test_a_batch_writes_each_row_once(world: World) -> None:
    world.complete(run_one(world))
    assert [key for key, _ in world.step().rows] == [b"task/t", b"!meta"]


def test_a_start_that_is_reported_is_not_told_twice(world: World) -> None:
    command = run_one(world)
    world.report(command, "attempt.started", number=1)
    world.step()
    world.complete(command)
    world.step()
    assert world.types("t").count("task.started") == 1


def test_a_waiter_gets_the_result(world: World) -> None:
    world.put("task.created", {"name": "a", "id": "t"}, replyto=b"2:tok")
    world.step()
    world.complete(world.dispatched()[0], 42)
    world.step()
    assert world.replies[b"tok"]["result"] == 42


def test_a_late_waiter_is_answered_from_the_ended_index(world: World) -> None:
    world.complete(run_one(world), 42)
    world.step()
    world.crash()
    world.put("task.await", {"id": "t"}, replyto=b"2:late")
    world.put("task.await", {"id": "nobody"}, replyto=b"2:unknown")
    world.step()
    assert world.replies[b"late"]["result"] == 42
    assert world.replies[b"unknown"]["kind"] == "unknown"


def test_who_waits_for_a_live_task_is_answered_at_its_end_and_who_asks_for_its_state_at_once(world: World) -> None:
    command = run_one(world)
    world.put("task.await", {"id": "t"}, replyto=b"2:waits")
    world.put("task.await", {"id": "t", "wait": False}, replyto=b"2:asks")
    world.step()
    assert {token: reply["state"] for token, reply in world.replies.items()} == {b"asks": "dispatched"}
    world.complete(command, 42)
    world.step()
    assert world.replies[b"waits"]["result"] == 42


def test_who_waits_for_an_ended_step_of_a_live_workflow_is_answered_at_once(world: World) -> None:
    world.submit(**DIAMOND)
    world.step()
    world.complete(world.dispatched()[0], 42)
    world.put("task.await", {"id": step_id("root", "reserve"), "root": "root"}, replyto=b"2:late")
    world.step()
    assert (world.replies[b"late"]["kind"], world.replies[b"late"]["result"]) == ("ended", 42)


@pytest.mark.parametrize("attempts", [1, 2])
def test_a_late_waiter_is_told_the_error_of_a_task_that_failed_and_none_of_one_that_succeeded_in_the_end(
    world: World, attempts: int
) -> None:
    world.fail(run_one(world, retry={"max_attempts": attempts, "backoff": [0]}))
    world.until_quiet(0)
    for command in world.dispatched():
        world.complete(command)
    world.step()
    world.put("task.await", {"id": "t"}, replyto=b"2:late")
    world.step()
    reply = world.replies[b"late"]
    assert (reply["state"], reply.get("error", {}).get("message")) == (("failed", "no") if attempts == 1 else ("completed", None))


def test_of_too_many_clients_that_wait_for_a_task_the_last_are_answered(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hub.core.state.waiters.WAITERS_MAX", 3)
    command = run_one(world)
    for token in (b"a", b"b", b"c", b"d", b"e", b"e"):
        world.put("task.await", {"id": "t"}, replyto=b"2:" + token)
    world.step()
    world.complete(command)
    world.step()
    assert world.replies.keys() == {b"c", b"d", b"e"}


def test_a_submission_sent_twice_makes_one_task_also_after_its_end_and_a_restart(world: World) -> None:
    world.put("task.created", {"name": "a", "args": {"n": 1}}, id="same", source="/shop")
    world.put("task.created", {"name": "a", "args": {"n": 1}}, id="same", source="/shop")
    world.step()
    (command,) = world.dispatched()
    world.complete(command)
    world.step()
    world.crash()
    world.worker("w2")
    world.put("task.created", {"name": "a", "args": {"n": 1}}, id="same", source="/shop")
    world.step()
    assert world.types().count("task.created") == 1
    assert world.types().count("task.deduplicated") == 2
    assert not world.dispatched()


def test_a_key_with_another_payload_is_a_conflict_and_with_the_same_one_a_duplicate(world: World) -> None:
    world.submit(name="a", idempotency_key="k", args={"x": 1, "y": 2})
    world.submit(name="a", idempotency_key="k", args={"y": 2, "x": 1})
    world.submit(name="a", idempotency_key="k", args={"x": 2})
    world.step()
    assert world.types().count("task.created") == 1
    assert world.types().count("task.deduplicated") == 1
    assert world.last("task.rejected").data.code == "idempotency_conflict"


@pytest.mark.parametrize(("step", "event"), [("a", "task.deduplicated"), ("b", "task.rejected")])
def test_a_workflow_is_a_duplicate_only_with_the_same_steps(world: World, step: str, event: str) -> None:
    world.submit(name="w", id="root", tasks={"x": {"name": "a"}})
    world.submit(name="w", id="root", tasks={"x": {"name": step}})
    world.step()
    assert event in world.types()
    assert event == "task.deduplicated" or world.last(event).data.code == "id_conflict"


def test_an_added_step_has_its_idempotency_key_and_one_without_has_none(world: World) -> None:
    world.submit(name="w", id="root", tasks={"x": {"name": "a"}})
    world.submit(name="a", root_id="root", idempotency_key="k", idempotency_window=7)
    world.submit(name="a", root_id="root", key="plain")
    world.step()
    keys = [(event.data.idempotency_key, event.data.idempotency_window) for event in world.events if event.type == "task.created"]
    assert keys == [(None, None), (None, None), ("k", 7), (None, None)]


def test_an_ended_id_begins_a_new_run_after_its_retention(world: World) -> None:
    world.complete(run_one(world))
    world.step()
    world.step(seconds=4000)
    world.worker(kind="worker.heartbeat")
    world.step(seconds=100)
    world.complete(run_one(world))
    world.step()
    runs = {event.run for event in world.events if event.subject == "t"}
    assert len(runs) == 2


def after_a_run_that_would_retry_in(seconds: int) -> World:
    """A world in which the run of the id "t" that was to be retried was cancelled 80 s ago, and is forgotten."""
    world = World(settings=EngineSettings(retention_seconds=10))
    world.worker(lease_seconds=3_000)
    world.fail(run_one(world, retry={"backoff": [seconds], "jitter": 0}))
    world.step()
    world.put("task.cancel", {"id": "t"})
    world.step()
    world.step(seconds=80)
    return world


def retries_after(world: World, command: ExecuteAttempt, seconds: int) -> None:
    """The attempt fails, and the next one is dispatched when its delay is over, not before."""
    world.fail(command)
    world.step()
    world.step(seconds=seconds - 1)
    assert world.types("t")[-1] == "task.retry_scheduled"
    world.step(seconds=1)
    assert world.types("t")[-1] == "task.dispatched"


def test_a_retry_of_an_earlier_run_of_an_id_dispatches_nothing() -> None:
    world = after_a_run_that_would_retry_in(200)
    again = run_one(world, retry={"backoff": [1_000], "jitter": 0})
    world.step(seconds=120)
    assert world.types("t")[-1] == "task.dispatched"
    retries_after(world, again, 1_000)


def test_a_retry_of_an_earlier_run_does_not_end_the_delay_of_a_later_one() -> None:
    world = after_a_run_that_would_retry_in(200)
    retries_after(world, run_one(world, retry={"backoff": [1_000], "jitter": 0}), 1_000)


def test_a_start_deadline_of_an_earlier_run_supersedes_nothing() -> None:
    world = World(settings=EngineSettings(retention_seconds=10))
    world.worker(lease_seconds=3_000)
    world.complete(run_one(world))
    world.step()
    for _ in range(2):
        world.step(seconds=1_450)
        world.worker(kind="worker.heartbeat", lease_seconds=3_000)
    world.step()
    run_one(world)
    world.step(seconds=200)
    assert world.types("t")[-1] == "task.dispatched"
    assert "attempt.superseded" not in world.types("t")


def test_a_diamond_runs_in_order_and_joins(world: World) -> None:
    world.put("task.created", DIAMOND, replyto=b"1:tok")
    world.step()
    order = []
    for _ in range(3):
        for command in world.dispatched():
            order.append(command.key)
            world.complete(command, command.key)
        world.step()
    assert order == ["reserve", "charge", "pack", "ship"]
    assert world.replies[b"tok"]["result"] == {"ship": "ship"}
    assert world.last("workflow.completed").data.completed == 4
    assert msgspec.json.decode(world.rows[b"task/root"])["finished_at"] == world.last("workflow.completed").time
    assert all(not key.startswith(b"plan/") for key in world.rows)


def test_the_results_of_dependencies_are_handed_on(world: World) -> None:
    world.submit(**DIAMOND)
    world.step()
    world.complete(world.dispatched()[0], {"sku": 7})
    world.step()
    assert {key: msgspec.json.decode(value) for key, value in world.dispatched()[0].dependencies.items()} == {
        "reserve": {"sku": 7}
    }


def test_steps_that_become_ready_together_are_named_together(world: World) -> None:
    world.submit(**DIAMOND)
    world.step()
    assert "workflow.steps_ready" not in world.types()
    world.complete(world.dispatched()[0])
    world.step()
    together = world.last("workflow.steps_ready").data
    assert (together.count, together.steps) == (2, ["charge", "pack"])
    assert world.types().count("workflow.steps_ready") == 1


@pytest.mark.parametrize(("size", "given"), [(INLINE_RESULTS_BYTES_MAX, True), (INLINE_RESULTS_BYTES_MAX + 1, False)])
def test_results_that_are_too_large_together_are_omitted_by_their_key(world: World, size: int, given: bool) -> None:
    world.submit(
        name="w", id="root", tasks={"x": {"name": "a"}, "y": {"name": "a"}, "z": {"name": "b", "depends_on": ["x", "y"]}}
    )
    world.step()
    for command in world.dispatched():
        world.complete(command, "x" * 98 if command.key == "x" else "y" * (size - 102))
    world.step()
    (command,) = world.dispatched()
    assert (sorted(command.dependencies), command.dependencies_omitted) == ((["x", "y"], []) if given else (["x"], ["y"]))


@pytest.mark.parametrize("beyond", [0, 1])
def test_the_largest_result_of_a_workflow(world: World, beyond: int) -> None:
    keys = ["k" * 100, "l" * 100]
    world.submit(name="w", id="root", tasks={key: {"name": "a"} for key in keys})
    world.step()
    around = len(msgspec.json.encode(dict.fromkeys(keys, ""))) - len("{")
    for command in world.dispatched():
        world.complete(command, "r" * (0 if command.key == keys[0] else INLINE_RESULTS_BYTES_MAX - around + beyond))
    world.step()
    result = bytes(world.last("workflow.completed").data.result)
    assert len(result) == (len(b"null") if beyond else INLINE_RESULTS_BYTES_MAX + len("{"))


def test_a_failed_step_fails_what_needs_it_and_the_workflow(world: World) -> None:
    world.submit(**DIAMOND)
    world.step()
    world.fail(world.dispatched()[0], retryable=False)
    world.step()
    assert world.state_of("root") == "failed"
    failed = world.last("workflow.failed").data
    assert failed.failed_steps == ["reserve"]
    assert failed.failed == 4
    assert world.last("task.failed").data.error.message == "charge ended failed"


def test_a_step_on_failure_handles_it_and_is_skipped_otherwise(world: World) -> None:
    tasks = {
        "try": {"name": "a", "retry": {"max_attempts": 1}},
        "undo": {"name": "b", "depends_on": [{"task": "try", "on": "failure"}]},
        "always": {"name": "b", "depends_on": [{"task": "undo", "on": "ended"}]},
    }
    world.submit(name="w", id="bad", tasks=tasks)
    world.step()
    world.fail(world.dispatched()[0])
    world.step()
    for _ in range(2):
        for command in world.dispatched():
            world.complete(command)
        world.step()
    assert world.state_of("bad") == "completed"
    world.submit(name="w", id="good", tasks=tasks)
    world.step()
    world.complete(world.dispatched()[0])
    world.step()
    assert world.types(step_id("good", "undo"))[-1] == "task.skipped"
    assert world.last("task.skipped").data.reason == "try ended completed; needed: failure"
    world.complete(world.dispatched()[0])
    world.step()
    assert world.state_of("good") == "completed"


@pytest.mark.parametrize(
    ("tasks", "code", "words"),
    [
        ({"x": {"name": "a", "depends_on": ["y"]}, "y": {"name": "a", "depends_on": ["x"]}}, "cycle", "x -> y -> x"),
        ({"x": {"name": "a", "depends_on": ["x"]}}, "cycle", "depends on itself"),
        ({"x": {"name": "a"}, "y": {"name": "a", "depends_on": ["x", "x"]}}, "invalid_input", "'x' is listed twice"),
        ({"x": {"name": "a", "depends_on": ["gone"]}}, "unknown_dependency", "tasks.x.depends_on"),
        ({"x": {"name": "a", "args": [1]}}, "invalid_input", "tasks.x.args"),
        ({"x": {"name": ""}}, "invalid_input", "tasks.x.name"),
        ({}, "invalid_input", "tasks"),
    ],
)
def test_a_bad_graph_is_refused_whole_naming_the_field(world: World, tasks: object, code: str, words: str) -> None:
    world.submit(name="w", id="bad", tasks=tasks)
    world.step()
    rejected = world.last("task.rejected").data
    assert (rejected.code, words in rejected.reason) == (code, True)
    assert "task.created" not in world.types()


def test_steps_can_be_added_to_a_live_workflow_and_hold_it_open(world: World) -> None:
    world.submit(name="w", id="root", tasks={"x": {"name": "a"}})
    world.step()
    (command,) = world.dispatched()
    world.submit(name="b", root_id="root", key="more", depends_on=["x"])
    world.complete(command, 1)
    world.step()
    (more,) = world.dispatched()
    assert more.key == "more"
    assert "workflow.completed" not in world.types("root")
    world.complete(more, 2)
    world.step()
    assert world.last("workflow.completed").data.steps_total == 2
    world.submit(name="b", root_id="root", key="late")
    world.step()
    assert world.last("task.rejected").data.code == "already_ended"


def test_a_workflow_that_is_being_cancelled_takes_no_more_steps(world: World) -> None:
    world.submit(name="w", id="root", tasks={"x": {"name": "a"}})
    world.step()
    world.put("task.cancel", {"id": "root"})
    world.submit(name="b", root_id="root", key="more")
    world.step()
    assert world.last("task.rejected").data.code == "already_ended"


@pytest.mark.parametrize(("on", "code"), [(step_id("root", "x"), None), ("other", "unknown_dependency")])
def test_an_added_step_may_depend_on_the_id_of_a_task_of_its_workflow_only(world: World, on: str, code: str | None) -> None:
    world.submit(name="w", id="root", tasks={"x": {"name": "a"}})
    world.submit(name="a", id="other")
    world.submit(name="b", root_id="root", key="more", depends_on=[on])
    world.step()
    assert [event.data.code for event in world.events if event.type == "task.rejected"] == ([code] if code else [])
    assert ("task.blocked" in world.types(step_id("root", "more"))) == (code is None)


@pytest.mark.parametrize(("given", "expected"), [({}, "t"), ({"correlation_id": "order-7"}, "order-7")])
def test_a_task_has_the_correlation_id_of_its_submission(world: World, given: dict[str, str], expected: str) -> None:
    command = run_one(world, **given)
    assert (world.last("task.created").correlationid, command.correlation_id) == (expected, expected)


@pytest.mark.parametrize(("given", "expected"), [({}, "root"), ({"correlation_id": "order-7"}, "order-7")])
def test_an_added_step_has_the_correlation_id_of_its_workflow(world: World, given: dict[str, str], expected: str) -> None:
    world.submit(name="w", id="root", tasks={"x": {"name": "a"}}, **given)
    world.submit(name="b", root_id="root", key="more")
    world.step()
    created = {event.subject: event.correlationid for event in world.events if event.type == "task.created"}
    assert created == {"root": expected, step_id("root", "x"): expected, step_id("root", "more"): expected}
    assert {command.key: command.correlation_id for command in world.dispatched()} == {"x": expected, "more": expected}


def test_the_trace_of_a_submission_is_that_of_its_task_and_of_steps_that_do_not_give_their_own(world: World) -> None:
    given, own = ("00-" + digit * 32 + "-" + "b" * 16 + "-00" for digit in "ac")
    world.put("task.created", {"name": "w", "id": "root", "tasks": {"x": {"name": "a"}}}, traceparent=given.encode())
    world.put("task.created", {"name": "a", "root_id": "root", "key": "more"})
    world.put("task.created", {"name": "a", "root_id": "root", "key": "own"}, traceparent=own.encode())
    world.step()
    created = [event for event in world.events if event.type == "task.created"]
    below_the_root = f"{given[:36]}{span_id_of('task', 'root', created[0].run)}-00"
    assert [event.traceparent for event in created] == [given, below_the_root, below_the_root, own]
    attempts = {command.key: command.traceparent or "" for command in world.dispatched()}
    assert {key: (trace[:36], trace[-3:]) for key, trace in attempts.items()} == {
        "x": (given[:36], "-00"),
        "more": (given[:36], "-00"),
        "own": (own[:36], "-00"),
    }
    assert len({trace[36:52] for trace in attempts.values()}) == 3, "each attempt is a span of its own"


def test_tasks_of_a_workflow_without_a_trace_have_one_of_their_own_together(world: World) -> None:
    world.submit(name="w", id="root", tasks={"x": {"name": "a"}, "y": {"name": "a"}})
    world.submit(name="a", id="t")
    world.step()
    traces = {command.key: (command.traceparent or "")[:36] for command in world.dispatched()}
    assert traces["x"] == traces["y"] != traces[None]


def test_the_trace_of_a_task_whose_id_is_a_uuid_is_that_uuid(world: World) -> None:
    task = "0190b6f0-12b5-7ae8-8f67-238d54b65eeb"
    assert (run_one(world, id=task).traceparent or "")[3:35] == task.replace("-", "")


@pytest.mark.parametrize("first", ["x", "y"])
def test_a_step_whose_dependencies_end_together_well_and_badly_is_ended_once(world: World, first: str) -> None:
    world.submit(
        name="w", id="root", tasks={"x": {"name": "a"}, "y": {"name": "a"}, "z": {"name": "b", "depends_on": ["x", "y"]}}
    )
    world.step()
    for command in sorted(world.dispatched(), key=lambda command: command.key != first):
        world.fail(command, retryable=False) if command.key == "x" else world.complete(command)
    world.step()
    z = step_id("root", "z")
    assert [kind for kind in world.types(z) if kind in ("task.ready", "task.failed")] == ["task.failed"]
    assert not world.dispatched()
    assert world.state_of("root") == "failed"


def test_several_steps_added_at_once_have_the_run_of_the_record_that_added_them(world: World) -> None:
    world.submit(name="w", id="root", tasks={"x": {"name": "a"}})
    added = world.put("task.created", {"name": "w", "root_id": "root", "tasks": {"y": {"name": "a"}, "z": {"name": "b"}}})
    world.step()
    runs = {event.subject: event.run for event in world.events if event.type == "task.created"}
    assert [runs[step_id("root", key)] for key in ("y", "z")] == [added.offset] * 2
    assert runs[step_id("root", "x")] == runs["root"] != added.offset


def test_steps_with_large_arguments_are_made_in_slices_of_a_mebibyte(world: World) -> None:
    args = {"a": "x" * (ARGS_BYTES_MAX - len('{"a":""}'))}
    world.submit(name="w", id="root", tasks={f"n{number}": {"name": "a", "args": args} for number in range(10)})
    world.step()
    planned = [event.data.planned for event in world.events if event.type in ("workflow.started", "workflow.progressed")]
    assert planned == [4, 8, 10]
    world.until_quiet(0)
    assert [command.key for command in world.dispatched()] == [f"n{number}" for number in range(10)]


def test_a_slice_has_at_least_one_step(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hub.core.workflows.expansion.SLICE_BYTES", 1)
    world.submit(name="w", id="root", tasks={f"n{number}": {"name": "a"} for number in range(3)})
    world.step()
    assert [command.key for command in world.dispatched()] == ["n0", "n1", "n2"]


def test_a_large_fan_out_is_made_in_slices_and_joined(world: World) -> None:
    world.worker(kind="worker.heartbeat", credit=2000, slots=2000)
    fan: dict[str, object] = {f"n{i}": {"name": "a", "depends_on": ["first"]} for i in range(1000)}
    world.submit(name="w", id="root", tasks={"first": {"name": "a"}, **fan, "join": {"name": "b", "depends_on": list(fan)}})
    batch = world.step()
    assert len(batch.events) < 1000
    assert b"plan/root" in world.rows
    world.crash()
    world.worker("w1", kind="worker.heartbeat", credit=2000, slots=2000)
    world.until_quiet(1)
    assert b"plan/root" not in world.rows
    for expected in (1, 1000, 1):
        commands = world.dispatched()
        assert len(commands) == expected
        for command in commands:
            world.complete(command, 1)
        world.step()
    world.until_quiet(1)
    assert world.state_of("root") == "completed"
    assert not world.engine.state.tasks
    assert not world.engine.state.retiring


def wide(world: World, steps: int) -> None:
    """Run the workflow "root" of so many steps to the end of its last step."""
    world.worker(kind="worker.heartbeat", credit=2000, slots=2000)
    world.submit(name="w", id="root", tasks={f"n{number}": {"name": "a"} for number in range(steps)})
    world.until_quiet(0.001)
    for command in world.dispatched():
        world.complete(command, 1)


def test_the_steps_of_a_large_workflow_are_removed_in_the_batches_after_its_end(world: World) -> None:
    wide(world, 1100)
    ended, *later = (len(world.step(seconds=0.001).rows) for _ in range(4))
    assert world.state_of("root") == "completed"
    assert (ended, later) == (1 + 1100 + 1, [501, 501, 101])
    assert not world.engine.state.tasks


def test_a_step_whose_id_is_in_use_again_before_it_is_removed_is_kept() -> None:
    world = World(settings=EngineSettings(retention_seconds=0))
    world.worker()
    wide(world, 60)
    world.step()
    world.submit(name="w", id="root", tasks={"n0": {"name": "a"}, "n1": {"name": "a"}})
    world.step()
    first, second = world.dispatched()
    world.complete(first, 2)
    world.until_quiet(0.001)
    assert {task.id for task in world.engine.state.tasks.values()} == {"root", step_id("root", "n0"), step_id("root", "n1")}
    world.complete(second, 2)
    world.until_quiet(0.001)
    assert world.types("root").count("workflow.completed") == 2
    assert not world.engine.state.tasks
    check_log(world)


@pytest.mark.parametrize("steps", [60, 700])
def test_a_restart_does_not_take_steps_of_an_earlier_workflow_for_those_of_a_new_one_with_its_id(steps: int) -> None:
    world = World(settings=EngineSettings(retention_seconds=0))
    world.worker()
    wide(world, steps)
    world.step()
    world.submit(name="w", id="root", tasks={"m0": {"name": "a"}})
    world.step()
    world.crash()
    world.worker()
    world.until_quiet(0.001)
    (command,) = world.dispatched()
    assert world.engine.state.tasks["root"].children == [step_id("root", "m0")]
    world.complete(command, 2)
    world.until_quiet(0.001)
    assert world.types("root").count("workflow.completed") == 2
    assert not world.engine.state.tasks
    check_log(world)


def test_an_added_step_that_names_a_dependency_by_key_and_by_id_is_rejected(world: World) -> None:
    world.submit(name="w", id="root", tasks={"a": {"name": "a"}})
    world.step()
    by_id = step_id("root", "a")
    world.put("task.created", {"name": "b", "root_id": "root", "key": "b", "depends_on": ["a", by_id]})
    world.step()
    rejected = world.last("task.rejected").data
    assert (rejected.code, rejected.reason) == (
        "invalid_input",
        f"tasks.b.depends_on: '{by_id}' is listed twice, by its key and by its id",
    )


@pytest.mark.parametrize("end", ["completed", "failed"])
def test_how_long_a_body_ran_is_kept_also_where_its_worker_does_not_say(world: World, end: str) -> None:
    command = run_one(world, retry={"max_attempts": 1})
    world.report(command, "attempt.started", number=1)
    world.step()
    world.complete(command, 1) if end == "completed" else world.fail(command)
    world.step(seconds=2.5)
    row = msgspec.json.decode(world.rows[b"task/t"])
    assert (row["ended"], row["seconds"], row["finished_at"]) == (end, 2.5, world.last(f"task.{end}").time)


def test_a_task_that_failed_says_when_its_body_began_also_where_start_and_end_came_together(world: World) -> None:
    command = run_one(world)
    world.fail(command, retryable=False)
    world.step()
    assert world.types("t")[-3:] == ["task.started", "attempt.failed", "task.failed"]
    failed = world.last("task.failed").data
    assert failed.started_at == failed.finished_at
    assert failed.number == 2, "the report that caused it"


def test_a_task_that_timed_out_says_which_report_caused_its_end(world: World) -> None:
    command = run_one(world, timeouts={"attempt": 5}, retry={"max_attempts": 1})
    world.report(command, "attempt.failed", number=3, error={"type": "E"}, timed_out=True)
    world.step()
    assert [world.last(kind).data.number for kind in ("attempt.timed_out", "task.failed")] == [3, 3]
    assert world.last("task.failed").data.kind == "timed_out"


@pytest.mark.parametrize("end", ["completed", "failed"])
def test_the_end_of_a_task_names_the_time_at_which_its_start_was_reported(world: World, end: str) -> None:
    command = run_one(world, retry={"max_attempts": 1})
    world.report(command, "attempt.started", number=1)
    world.step()
    world.complete(command) if end == "completed" else world.fail(command)
    world.step(seconds=5)
    started, ended = world.last("task.started"), world.last(f"task.{end}")
    assert ended.data.started_at == started.time < ended.time


@pytest.mark.parametrize("end", ["completed", "failed"])
def test_how_long_a_body_ran_is_kept_where_start_and_end_came_together(world: World, end: str) -> None:
    command = run_one(world, retry={"max_attempts": 1})
    world.complete(command, 1, ran_seconds=0.25) if end == "completed" else world.fail(command, ran_seconds=0.25)
    world.until_quiet(0)
    row = msgspec.json.decode(world.rows[b"task/t"])
    assert (row["ended"], row["seconds"]) == (end, 0.25)


def test_how_long_an_earlier_attempt_ran_is_not_that_of_the_last(world: World) -> None:
    command = run_one(world, retry={"max_attempts": 2, "backoff": [0], "jitter": 0})
    world.fail(command, ran_seconds=9.0)
    world.until_quiet(0)
    (command,) = world.dispatched()
    world.report(command, "attempt.started", number=1)
    world.step()
    world.now_us += SECOND
    world.complete(command, 1)
    world.until_quiet(0)
    assert msgspec.json.decode(world.rows[b"task/t"])["seconds"] == 1.0


def test_an_attempt_that_fails_is_retried_with_back_off_until_it_is_exhausted(world: World) -> None:
    command = run_one(world, retry={"max_attempts": 3, "backoff": [5, 7], "jitter": 0})
    for delay in (5, 7):
        world.fail(command)
        world.step()
        assert world.last("task.retry_scheduled").data.delay == delay
        world.step(seconds=delay - 0.01)
        assert not world.dispatched()
        world.worker(kind="worker.heartbeat")
        world.step(seconds=0.02)
        (command,) = world.dispatched()
    assert command.attempt == 3
    world.fail(command)
    world.step()
    failed = world.last("task.failed").data
    assert (failed.kind, failed.attempt) == ("exhausted", 3)


@pytest.mark.parametrize("timeouts", [(True, False, True), (False, True, False)])
def test_errors_and_timeouts_are_counted_together(world: World, timeouts: tuple[bool, ...]) -> None:
    command = run_one(world, retry={"max_attempts": 3, "backoff": [5, 7], "jitter": 0})
    for delay, timed_out in zip((5, 7, None), timeouts, strict=True):
        world.report(command, "attempt.failed", error={"type": "E"}, timed_out=timed_out)
        world.step()
        if delay is not None:
            assert world.last("task.retry_scheduled").data.delay == delay
            world.worker(kind="worker.heartbeat")
            world.step(seconds=delay)
            (command,) = world.dispatched()
    assert world.last("task.failed").data.attempt == 3


def test_a_permanent_error_ends_it_and_retry_after_wins(world: World) -> None:
    command = run_one(world, retry={"backoff": [100]})
    world.report(command, "attempt.failed", error={"type": "Retry", "message": "busy"}, retry_after=1)
    world.step()
    assert world.last("task.retry_scheduled").data.delay == 1
    world.step(seconds=1)
    world.fail(world.dispatched()[0], retryable=False)
    world.step()
    assert world.last("task.failed").data.kind == "permanent"


def test_a_delayed_task_starts_at_its_time(world: World) -> None:
    world.submit(name="a", id="t", start_after=3)
    world.step()
    assert world.types("t")[-1] == "task.scheduled"
    world.step(seconds=2.9)
    assert not world.dispatched()
    world.crash()
    world.worker(kind="worker.heartbeat")
    world.step(seconds=0.2)
    (command,) = world.dispatched()
    world.complete(command)
    world.step()
    assert world.last("task.completed").data.scheduled_at == world.last("task.scheduled").time


def test_the_end_of_a_task_says_what_is_known_of_it_and_nothing_else(world: World) -> None:
    world.complete(run_one(world))
    world.step()
    plain = world.last("task.completed").data
    assert (plain.scheduled_at, plain.parent_id, plain.key, plain.tags) == (None, None, None, {})
    assert plain.worker == "w1"
    world.submit(name="w", id="root", tasks={"x": {"name": "a", "tags": {"team": "blue"}}})
    world.step()
    (command,) = world.dispatched()
    world.complete(command)
    world.step()
    ended = [event for event in world.events if event.type == "task.completed" and event.subject == step_id("root", "x")]
    assert [(event.data.parent_id, event.data.key, event.data.tags) for event in ended] == [("root", "x", {"team": "blue"})]


def test_timers_that_are_due_together_are_taken_up_to_a_number_of_events(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hub.core.time.due.EVENTS_PER_BATCH", 3)
    for number in range(5):
        world.submit(name="nobody", id=f"t{number}", start_after=1)
    world.step()
    assert [len(world.step(seconds=seconds).events) for seconds in (1, 0, 0)] == [3, 2, 0]


def test_a_timer_that_is_out_of_date_is_the_cause_of_nothing(world: World) -> None:
    world.submit(name="nobody", id="t", timeouts={"total": 5})
    world.put("task.cancel", {"id": "t"})
    world.step()
    world.put("task.created", {"name": "a", "id": "u"}, id="asked")
    world.step(seconds=5)
    assert world.last("task.dispatched").causationid == "asked"


def test_a_batch_for_timers_alone_takes_one_and_names_it(world: World) -> None:
    for number in range(2):
        world.submit(name="nobody", id=f"t{number}", start_after=1)
    world.step()
    world.now_us += SECOND
    for task in ("t0", "t1"):
        batch = world.engine.process([], world.now_us, world.known(), phase="timers")
        world.commit(batch)
        assert [(event.subject, event.to_state) for event in batch.events] == [(task, "ready")]
        assert batch.timer is not None
        assert batch.timer[:2] == ("start", task)


def test_an_attempt_that_takes_too_long_is_ended_by_the_engine_when_the_worker_is_silent(world: World) -> None:
    command = run_one(world, timeouts={"attempt": 2}, retry={"backoff": [0]})
    world.report(command, "attempt.started", number=1)
    world.step()
    world.step(seconds=3)
    assert "attempt.timed_out" in world.types("t")
    assert [kind for kind, _, _ in world.commands if kind == "attempt.cancel"]
    world.complete(command, number=2)
    world.step()
    assert world.last("attempt.report_rejected").data.code == "stale_attempt"


def test_an_attempt_has_its_time_and_half_a_second_for_the_report(world: World) -> None:
    command = run_one(world, timeouts={"attempt": 5}, retry={"backoff": [0]})
    world.report(command, "attempt.started", number=1)
    world.step()
    world.worker(kind="worker.heartbeat")
    world.step(seconds=5.4)
    assert "attempt.timed_out" not in world.types("t")
    world.step(seconds=0.2)
    assert "attempt.timed_out" in world.types("t")


def test_a_task_not_started_in_time_expires(world: World) -> None:
    world.submit(name="nobody-knows-it", id="t", timeouts={"start": 5})
    world.step()
    world.until_quiet(6)
    assert world.state_of("t") == "expired"


def test_a_task_not_started_before_its_deadline_expires(world: World) -> None:
    world.submit(name="nobody", id="t", not_start_after=5)
    world.step()
    world.step(seconds=4)
    assert world.state_of("t") == "ready"
    world.step(seconds=1)
    assert world.state_of("t") == "expired"


def test_a_task_not_over_in_time_fails_and_its_worker_is_told(world: World) -> None:
    command = run_one(world, timeouts={"total": 5})
    world.report(command, "attempt.started", number=1)
    world.step()
    world.worker(kind="worker.heartbeat")
    world.step(seconds=4)
    assert told_to_stop(world) == []
    world.step(seconds=1.1)
    assert world.last("task.failed").data.kind == "timed_out"
    assert told_to_stop(world) == [("t", "exceeded its total timeout of 5.0 s")]


def test_a_silent_worker_loses_its_attempts_after_a_lease_and_they_run_elsewhere(world: World) -> None:
    command = run_one(world)
    world.report(command, "attempt.started", number=1)
    world.step()
    world.step(seconds=7)
    assert "worker.heartbeat_missed" in world.types("w1")
    world.worker("w2")
    world.step(seconds=3.1)
    assert "attempt.lease_expired" in world.types("t")
    assert "worker.lost" in world.types("w1")
    (again,) = world.dispatched()
    assert (again.attempt, again.token != command.token) == (2, True)
    world.complete(command)
    world.step()
    assert world.last("attempt.report_rejected").data.code == "stale_attempt"
    world.complete(again, incarnation="w2")
    world.step()
    assert world.state_of("t") == "completed"


def test_a_heartbeat_keeps_the_lease_and_writes_nothing(world: World) -> None:
    run_one(world)
    world.report(ExecuteAttempt(**{**msgspec.structs.asdict(run_one(world, id="u")), "task": "u"}), "attempt.started", number=1)
    world.step()
    for _ in range(10):
        world.worker(kind="worker.heartbeat")
        world.commands.clear()
        batch = world.step(seconds=3, caught_up=False)
        assert batch.empty


def test_silence_is_not_judged_before_the_intake_is_read_to_its_end(world: World) -> None:
    command = run_one(world)
    world.report(command, "attempt.started", number=1)
    world.step()
    world.step(seconds=100, caught_up=False)
    world.worker(kind="worker.heartbeat")
    world.step()
    assert "attempt.lease_expired" not in world.types("t")


def test_a_new_owner_gives_running_attempts_a_full_lease(world: World) -> None:
    command = run_one(world)
    world.report(command, "attempt.started", number=1)
    world.step()
    world.now_us += 1000 * SECOND
    world.crash()
    world.step()
    world.step(seconds=9)
    world.complete(command)
    world.step()
    assert world.state_of("t") == "completed"
    assert "attempt.lease_expired" not in world.types("t")


@pytest.mark.parametrize("tasks", [0, 1])
def test_a_new_owner_is_due_at_once_until_it_has_checked_the_leases(world: World, tasks: int) -> None:
    if tasks:
        run_one(world)
    world.crash()
    world.step(seconds=1, caught_up=False)
    assert world.engine.next_due() == world.now_us
    world.step()
    due = world.engine.next_due()
    assert due is not None
    assert due > world.now_us


def test_a_new_owner_of_nothing_has_nothing_due() -> None:
    world = World()
    world.crash()
    assert world.engine.next_due() is None


def test_an_ended_task_is_due_for_removal_a_minute_after_its_retention() -> None:
    world = World(settings=EngineSettings(retention_seconds=100))
    world.submit(name="a", id="t")
    world.step()
    world.put("task.cancel", {"id": "t"})
    world.until_quiet(0)
    due_us = world.engine.next_due()
    assert due_us is not None
    assert 160 * SECOND <= due_us - world.now_us <= 161 * SECOND
    world.now_us = due_us - 1
    world.step()
    assert b"task/t" in world.rows
    world.now_us = due_us
    world.step()
    assert b"task/t" not in world.rows


@pytest.mark.parametrize(("size", "kept"), [(INLINE_RESULT_BYTES_MAX, True), (INLINE_RESULT_BYTES_MAX + 1, False)])
def test_a_late_waiter_gets_a_small_result_and_learns_that_a_large_one_is_elsewhere(world: World, size: int, kept: bool) -> None:
    result = "x" * (size - 2)
    world.complete(run_one(world), result)
    world.step()
    world.put("task.await", {"id": "t"}, replyto=b"2:late")
    world.step()
    reply = world.replies[b"late"]
    assert (reply.get("result"), reply.get("result_omitted", False)) == ((result, False) if kept else (None, True))


@pytest.mark.parametrize(("size", "end"), [(RESULT_BYTES_MAX, "completed"), (RESULT_BYTES_MAX + 1, "failed")])
def test_the_largest_result(world: World, size: int, end: str) -> None:
    world.complete(run_one(world), "x" * (size - 2))
    world.step()
    assert world.state_of("t") == end


def test_losses_are_counted_up_to_their_limit_and_the_first_ones_are_retried_at_once(world: World) -> None:
    world.submit(id="t", name="a", retry={"max_lost": LOST_AT_ONCE + 2, "backoff": [7, 9], "jitter": 0})
    for lost in range(1, LOST_AT_ONCE + 4):
        incarnation = f"w{lost + 1}"
        world.worker(f"w{lost}", kind="worker.heartbeat")
        world.step()
        (command,) = world.dispatched()
        world.report(command, "attempt.started", incarnation=f"w{lost}", number=1)
        world.step()
        world.worker(incarnation)
        world.put("worker.lost", {"incarnation": f"w{lost}", "reason": "seen to die"})
        world.step()
        if lost in (LOST_AT_ONCE + 1, LOST_AT_ONCE + 2):
            delay = 7 if lost == LOST_AT_ONCE + 1 else 9
            assert world.last("task.retry_scheduled").data.delay == delay
            world.worker(incarnation, kind="worker.heartbeat")
            world.step(seconds=delay)
    assert world.types("t").count("task.retry_scheduled") == 2
    assert (world.state_of("t"), world.last("task.failed").data.kind) == ("failed", "lost")
    assert world.types("t").count("attempt.lost") + world.types("t").count("attempt.lease_expired") == LOST_AT_ONCE + 3


def test_a_worker_seen_to_die_loses_its_attempts_at_once(world: World) -> None:
    run_one(world)
    world.worker("w2")
    world.put("worker.lost", {"incarnation": "w1"})
    world.step()
    assert world.types("t")[-3:] == ["attempt.lost", "task.ready", "task.dispatched"]


def test_a_command_that_is_not_started_in_time_is_dispatched_again_under_a_new_number(world: World) -> None:
    command = run_one(world)
    for _ in range(4):
        world.worker(kind="worker.heartbeat")
        world.step(seconds=3)
    (again,) = world.dispatched()
    assert (again.attempt, again.dispatch) == (command.attempt, command.dispatch + 1)
    assert "attempt.superseded" in world.types("t")
    assert world.last("attempt.superseded").data.start_seconds == 10
    assert told_to_stop(world) == [("t", "not started in time")]


def test_a_released_attempt_is_not_counted(world: World) -> None:
    command = run_one(world)
    world.report(command, "attempt.released", number=1, reason="drain")
    world.step()
    (again,) = world.dispatched()
    assert (again.attempt, again.dispatch) == (1, 2)


def test_at_most_once_waits_for_a_grant_and_a_lost_run_is_failed_never_repeated(world: World) -> None:
    command = run_one(world, delivery="at_most_once")
    world.report(command, "attempt.started", number=1)
    world.step()
    assert [kind for kind, _, _ in world.commands if kind == "attempt.grant"]
    assert "attempt.granted" in world.types("t")
    world.put("worker.lost", {"incarnation": "w1"})
    world.worker("w2")
    world.step()
    assert world.last("task.failed").data.kind == "lost"
    assert not world.dispatched()


def test_at_most_once_not_yet_granted_may_be_dispatched_again(world: World) -> None:
    command = run_one(world, delivery="at_most_once")
    world.worker("w2")
    world.put("worker.lost", {"incarnation": "w1"})
    world.step()
    (again,) = world.dispatched()
    assert again.attempt == command.attempt == 1
    world.complete(again, incarnation="w2", number=1)
    world.step()
    assert world.last("attempt.report_rejected").data.code == "wrong_state"


def test_a_waiting_task_is_cancelled_at_once_and_a_running_one_by_its_worker(world: World) -> None:
    world.submit(name="unknown", id="waits")
    command = run_one(world)
    world.put("task.cancel", {"id": "waits", "reason": "no need"})
    world.put("task.cancel", {"id": "t", "reason": "stop"}, replyto=b"2:asked")
    world.step()
    assert world.state_of("waits") == "cancelled"
    assert world.types("t")[-1] == "task.cancel_requested"
    assert told_to_stop(world) == [("t", "stop")]
    assert not world.replies
    world.report(command, "attempt.cancelled", number=2)
    world.step()
    cancelled = world.last("task.cancelled").data
    assert (cancelled.reason, world.state_of("t")) == ("stop", "cancelled")
    assert world.replies[b"asked"]["state"] == "cancelled"


def test_a_step_of_a_new_run_outlives_what_is_kept_of_the_step_of_an_earlier_one() -> None:
    world = World(settings=EngineSettings(retention_seconds=100))
    workflow = {"name": "w", "id": "root", "tasks": {"x": {"name": "nobody"}}}
    world.submit(**workflow, timeouts={"total": 5})
    world.step()
    world.step(seconds=5)
    world.step(seconds=50)  # what is kept of the step is kept for longer than what is kept of its root
    world.submit(name="nobody", id="other")
    world.step(seconds=51)
    world.submit(**workflow)
    world.submit(name="nobody", id="another")
    world.step()
    x = step_id("root", "x")
    assert world.types(x).count("task.created") == 2
    world.submit(name="nobody", id="more")
    world.step(seconds=100)
    assert world.state_of(x) == "ready"
    check_log(world)


@pytest.mark.parametrize(
    ("task", "code"),
    [
        ("ended", "already_ended"),
        (step_id("root", "reserve"), "already_ended"),
        ("nobody", "unknown_task"),
        ("t", "already_cancelling"),
    ],
)
def test_who_cancels_what_cannot_be_cancelled_is_told_why(world: World, task: str, code: str) -> None:
    world.complete(run_one(world, id="ended"))
    world.submit(**DIAMOND)
    world.step()
    world.complete(world.dispatched()[0])
    world.submit(name="a", id="t")
    world.step()
    world.put("task.cancel", {"id": "t"})
    world.put("task.cancel", {"id": task}, replyto=b"2:tok")
    world.step()
    assert world.replies[b"tok"]["code"] == code


def test_cancelling_a_workflow_reaches_every_step(world: World) -> None:
    world.submit(**DIAMOND)
    world.step()
    (command,) = world.dispatched()
    world.put("task.cancel", {"id": "root", "reason": "stop", "by": "me"})
    world.step()
    assert world.types(step_id("root", "ship"))[-1] == "task.cancelled"
    world.report(command, "attempt.cancelled", number=2)
    world.step()
    assert world.state_of("root") == "cancelled"
    for kind in ("task.cancelled", "workflow.cancelled"):
        assert (world.last(kind).data.reason, world.last(kind).data.by) == ("stop", "me")


def test_a_workflow_creates_no_more_steps_when_it_is_cancelled(world: World) -> None:
    world.submit(name="w", id="root", tasks={f"n{number}": {"name": "nobody"} for number in range(700)})
    world.step()
    created = world.types().count("task.created")
    assert created < 700
    world.put("task.cancel", {"id": "root"})
    world.until_quiet(5)
    assert world.types().count("task.created") == created
    assert world.state_of("root") == "cancelled"


def test_a_new_owner_goes_on_with_cancelling_a_workflow(world: World) -> None:
    world.submit(name="w", id="root", tasks={f"n{number}": {"name": "nobody"} for number in range(1_000)})
    world.until_quiet(0)
    world.put("task.cancel", {"id": "root"})
    world.step()
    assert 0 < world.types().count("task.cancelled") < 1_000
    world.crash()
    world.until_quiet(1)
    assert world.types().count("task.cancelled") == 1_000
    assert world.state_of("root") == "cancelled"


def test_a_workflow_that_is_cancelled_when_all_steps_that_it_has_created_have_ended_ends(world: World) -> None:
    world.worker(kind="worker.heartbeat", credit=2000, slots=2000)
    world.submit(name="w", id="root", tasks={f"n{number}": {"name": "a"} for number in range(700)})
    world.step()
    for command in world.dispatched():
        world.complete(command)
    world.step()
    assert world.types().count("task.created") - 1 == world.types().count("task.completed") < 700
    world.put("task.cancel", {"id": "root"})
    world.until_quiet(5)
    assert world.state_of("root") == "cancelled"


def test_a_report_of_a_worker_without_the_lease_changes_nothing(world: World) -> None:
    command = run_one(world)
    wrong: list[tuple[dict[str, object], str]] = [
        ({"incarnation": "w9"}, "foreign_worker"),
        ({"token": "x"}, "stale_token"),
        ({"attempt": 9}, "stale_attempt"),
        ({"task": "nobody"}, "unknown_task"),
    ]
    for fields, code in wrong:
        before = world.rows[b"task/t"]
        about = {
            "task": command.task,
            "root": command.root,
            "attempt": 1,
            "dispatch": 1,
            "token": command.token,
            "incarnation": "w1",
            "number": 1,
        }
        world.put("attempt.completed", {**about, **fields})
        world.step()
        assert world.last("attempt.report_rejected").data.code == code
        assert world.rows[b"task/t"] == before
    world.report(command, "attempt.progressed", number=2, percent=50.0, message="half")
    world.report(command, "attempt.progressed", number=2, percent=50.0, message="half")
    world.step()
    assert world.types("t").count("task.progressed") == 1
    assert world.last("attempt.report_rejected").data.code == "duplicate"


def test_urgent_tasks_go_first_and_equal_ones_in_order(world: World) -> None:
    world.worker(kind="worker.heartbeat", credit=0)
    for name, priority in [("x", 0), ("y", 5), ("z", 0), ("v", 5)]:
        world.submit(name="a", id=name, priority=priority)
    world.step()
    world.worker(kind="worker.heartbeat", credit=4)
    world.step()
    assert [command.task for command in world.dispatched()] == ["y", "v", "x", "z"]


def test_the_commands_of_a_batch_have_at_most_about_two_mebibytes_of_arguments_and_results(world: World) -> None:
    world.worker(kind="worker.heartbeat", credit=100, slots=100)
    large = "x" * (ARGS_BYTES_MAX - len('{"a":""}'))
    after = {f"n{number}": {"name": "a", "depends_on": ["first"]} for number in range(20)}
    world.submit(name="w", id="root", tasks={"first": {"name": "a"}, **after})
    world.step()
    world.complete(world.dispatched()[0], large)
    for number in range(20):
        world.submit(name="b", id=f"t{number}", args={"a": large})
    counts = [len(world.dispatched()) for _ in range(6) if world.step()]
    assert counts == [8, 8, 8, 8, 8, 0]


def test_the_worker_with_most_free_slots_gets_the_task_and_none_gets_more_than_its_credit() -> None:
    world = World()
    world.worker("w1", credit=1)
    world.worker("w2", credit=3)
    world.step()
    for i in range(6):
        world.submit(name="a", id=f"t{i}")
    world.step()
    by_worker = [worker for kind, worker, _ in world.commands if kind == "attempt.execute"]
    assert (by_worker[:2], sorted(by_worker)) == (["w2", "w2"], ["w1", "w2", "w2", "w2"])


GARBAGE = [
    (b"\xff\xfe\x00random", "engine.report_dead_lettered"),
    (b"", "engine.report_dead_lettered"),
    (b"{", "engine.report_dead_lettered"),
    (b"[" * 100_000, "task.rejected"),
    (b'{"name": "a", "args": ' + b'{"x": ' * 100_000, "engine.report_dead_lettered"),
    (b"{}", "task.rejected"),
    (b'{"name": 7}', "task.rejected"),
    (b'{"name": "a", "prioritty": 7}', "task.rejected"),
    (b'{"name": "a", "priority": 1e400}', "task.rejected"),
    (b'{"name": "a", "args": "x"}', "task.rejected"),
    (b'{"name": "a", "args": {"x": "' + b"y" * 900_000 + b'"}}', "task.rejected"),
    (b'{"name": "a", "id": "x", "idempotency_key": "y"}', "task.rejected"),
    (b'{"name": "a", "depends_on": ["x"]}', "task.rejected"),
    (b'{"name": "a", "start_after": "tomorrow"}', "task.rejected"),
    (b'{"name": "a", "retry": {"max_attempts": 0}}', "task.rejected"),
]


@pytest.mark.parametrize(("value", "expected"), GARBAGE)
def test_garbage_is_set_aside_with_a_reason_and_the_rest_goes_on(world: World, value: bytes, expected: str) -> None:
    world.put("task.created", value)
    world.submit(name="a", id="good")
    world.step()
    assert world.types().count(expected) == 1
    assert world.last(expected).data.reason
    assert len(world.dispatched()) == 1


def test_unknown_types_and_reports_without_headers_are_set_aside(world: World) -> None:
    world.put("task.crated", {"name": "a"})
    world.put("attempt.completed", {"task": 1})
    record = world.put("x", b"\x00\x01")
    world.intake[-1] = record._replace(headers=[])
    record = world.put("x", None)
    world.intake[-1] = record._replace(value=None)
    world.step()
    assert world.types().count("engine.report_dead_lettered") == 4


def test_a_structured_cloudevent_makes_a_task(world: World) -> None:
    event = {"specversion": "1.0", "type": "task.created", "source": "/console", "id": "1", "data": {"name": "a"}}
    record = world.put("x", event)
    world.intake[-1] = record._replace(headers=[])
    world.step()
    assert len(world.dispatched()) == 1


def test_a_misplaced_report_is_forwarded_once_and_set_aside_the_second_time() -> None:
    worlds = [World(partition=number, partitions=4) for number in range(4)]
    forwards = []
    for world in worlds:
        world.submit(name="a", id="somewhere")
        world.step()
        forwards += world.forwarded
    assert len(forwards) == 3
    home, record = forwards[0]
    assert sum("task.created" in world.types() for world in worlds) == 1
    assert "task.created" in worlds[home].types()
    wrong = worlds[(home + 1) % 4]
    astray = wrong.put("task.created", record.value)
    wrong.intake[-1] = astray._replace(headers=[*astray.headers, ("hub-origin", b"9/9")])
    wrong.step()
    assert "engine.report_dead_lettered" in wrong.types()


def test_long_arguments_have_a_row_of_their_own_until_the_task_ends(world: World) -> None:
    command = run_one(world, args={"text": "x" * 1000})
    assert b"args/t" in world.rows
    world.crash()
    world.worker("w2")
    world.put("worker.lost", {"incarnation": "w1"})
    world.step()
    (again,) = world.dispatched()
    assert again.args == command.args
    world.complete(again, incarnation="w2")
    world.step()
    assert b"args/t" not in world.rows


def test_a_partition_without_credit_asks_workers_with_free_slots_for_more_but_not_at_once_again() -> None:
    world = World(partition=partition_of("t", 2), partitions=2)
    world.worker(credit=0, slots=10)
    world.submit(name="a", id="t")
    world.step()

    def asked() -> list[tuple[str, dict[str, int]]]:
        commands, world.commands = world.commands, []
        return [(worker, msgspec.json.decode(data)) for kind, worker, data in commands if kind == "engine.work_wanted"]

    assert asked() == [("w1", {"partition": world.number, "waiting": 1})]
    world.worker(credit=0, slots=10)
    world.step(seconds=0.1)
    assert asked() == []
    world.worker(credit=0, slots=10)
    world.step(seconds=0.1)
    assert asked() == [("w1", {"partition": world.number, "waiting": 1})]


def test_a_worker_whose_slots_are_all_given_to_a_partition_is_not_asked_for_more() -> None:
    world = World(partition=partition_of("t", 2), partitions=2)
    world.worker(credit=1, slots=1)
    for task in ("t", "u"):  # both belong to this partition
        world.submit(name="a", id=task)
    world.step()
    assert (world.state_of("t"), world.state_of("u")) == ("dispatched", "ready")
    assert "engine.work_wanted" not in [kind for kind, _, _ in world.commands]


def test_the_ended_index_is_bounded_and_refuses_keys_when_keys_fill_it() -> None:
    world = World(settings=EngineSettings(ended_entries_max=3))
    world.worker()
    for i in range(5):
        world.submit(name="a", idempotency_key=f"k{i}")
        world.step()
        for command in world.dispatched():
            world.complete(command)
        world.step()
    assert world.types().count("task.completed") == 3
    assert world.last("task.rejected").data.code == "limit_exceeded"
    for i in range(5):
        world.submit(name="a", id=f"plain{i}")
        world.step()
        world.complete(world.dispatched()[0])
        world.step()
    assert len(world.engine.state.ended) == 3


def test_silence_while_the_engine_itself_was_stopped_costs_nobody_a_lease(world: World) -> None:
    command = run_one(world)
    world.report(command, "attempt.started", number=1)
    world.step()
    world.now_us += 60 * SECOND
    world.engine.extend_deadlines(60 * SECOND)
    world.step()
    assert "attempt.lease_expired" not in world.types("t")
    world.step(seconds=11)
    assert "attempt.lease_expired" in world.types("t")


def test_a_command_need_not_be_started_while_the_engine_itself_was_stopped(world: World) -> None:
    run_one(world)
    world.now_us += 60 * SECOND
    world.engine.extend_deadlines(60 * SECOND)
    world.worker(kind="worker.heartbeat")
    world.step(seconds=9)
    assert "attempt.superseded" not in world.types("t")
    world.worker(kind="worker.heartbeat")
    world.step(seconds=1)
    assert "attempt.superseded" in world.types("t")


def test_a_worker_is_told_to_stop_what_it_runs_without_a_lease(world: World) -> None:
    command = run_one(world)
    world.commands.clear()
    world.worker(kind="worker.heartbeat", holding=[command.token, "a token from before"])
    world.step()
    cancels = [msgspec.json.decode(data)["token"] for kind, _, data in world.commands if kind == "attempt.cancel"]
    assert cancels == ["a token from before"]


@pytest.mark.parametrize("kind", ["worker.draining", "worker.stopped"])
def test_a_worker_that_drains_or_has_stopped_gets_nothing_more(world: World, kind: str) -> None:
    for _ in range(2):
        world.worker(kind=kind)
        world.step()
    world.submit(name="a", id="t")
    world.step()
    assert world.dispatched() == []
    assert world.types("w1").count(kind) == 1


@pytest.mark.parametrize("delivery", ["at_least_once", "at_most_once"])
def test_what_a_worker_had_not_begun_when_it_stopped_goes_back_uncounted(delivery: str) -> None:
    world = World()
    world.worker()
    world.submit(id="t", name="a", delivery=delivery, retry={"max_lost": 0})
    world.step()
    world.worker(kind="worker.stopped", credit=0)
    world.worker("w2")
    world.step()
    assert world.types("t")[-3:] == ["attempt.released", "task.ready", "task.dispatched"]
    command = world.dispatched()[-1]
    assert (command.attempt, command.dispatch) == (1, 2)
    assert "attempt.lost" not in world.types()


def test_the_start_deadline_of_an_attempt_is_when_the_engine_has_work(world: World) -> None:
    run_one(world)
    deadline_us = world.now_us + 10 * SECOND
    world.step(seconds=8)
    world.worker(kind="worker.heartbeat")
    world.step()
    assert world.engine.next_due() == deadline_us


@pytest.mark.parametrize("over", ["started", "ended"])
def test_the_start_deadline_of_an_attempt_that_has_started_is_no_time_with_work(world: World, over: str) -> None:
    command = run_one(world)
    first_us = world.now_us + 10 * SECOND
    world.report(command, "attempt.started", number=1)
    world.step()
    if over == "ended":
        world.complete(command)
    world.step(seconds=8)
    world.worker(kind="worker.heartbeat")
    world.step()
    due_us = world.engine.next_due()
    assert due_us is not None
    assert due_us > first_us
    world.submit(name="a", id="next")
    world.step()
    world.step(seconds=8)
    world.worker(kind="worker.heartbeat")
    world.step()
    assert world.engine.next_due() == world.now_us + 2 * SECOND


def test_only_some_of_many_outdated_start_deadlines_are_dropped_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hub.core.fleet.leases.DROPPED_AT_ONCE", 3)
    world.worker()
    for number in range(5):
        world.submit(name="a", id=f"t{number}", retry={"max_attempts": 2, "backoff": [3600]})
        world.step(seconds=0.1)
    for command in world.dispatched():
        world.report(command, "attempt.started", number=1)
        world.fail(command)
    world.step()
    deadlines, resting = world.engine.state.start_deadlines, world.engine.state.tasks.resting
    assert (len(deadlines), resting) == (5, 5)
    world.engine.next_due()
    assert len(deadlines) == 2
    world.engine.next_due()
    assert (len(deadlines), world.engine.state.tasks.resting) == (0, 5), "none was decoded for it"


def test_timeouts_of_ended_tasks_are_no_times_with_work(world: World) -> None:
    world.complete(run_one(world, timeouts={"attempt": 2, "total": 3}))
    world.step(seconds=1)
    due_us = world.engine.next_due()
    assert due_us is not None
    assert due_us > world.now_us + 4 * SECOND
    world.submit(name="nobody", id="waiting", timeouts={"total": 5})
    world.step()
    assert world.engine.next_due() == world.now_us + 5 * SECOND


def test_a_partition_knows_when_it_was_first_taken_over(world: World) -> None:
    created_us = world.engine.created_us
    assert created_us == START_US
    world.step(seconds=100)
    world.crash()
    assert world.engine.created_us == created_us


def test_an_owner_says_what_it_restored() -> None:
    engine = EnginePartition(0, 1)
    engine.restore([], START_US)
    batch = engine.take_over(START_US, rows=7, host="h", pid=1, pools=[], snapshot=True)
    started, restored = (event.data for event in batch.events)
    assert isinstance(started, e.EngineStarted)
    assert isinstance(restored, e.EngineRestored)
    assert (restored.rows, restored.live_tasks, restored.snapshot) == (7, 0, True)


def test_the_consequences_of_records_are_decided_with_them(world: World) -> None:
    world.put("task.created", {"id": "w", "name": "w", "tasks": {"a": {"name": "a"}, "b": {"name": "b", "depends_on": ["a"]}}})
    world.step()
    (command,) = world.dispatched()
    world.complete(command)
    records = [record for record in world.intake if record.offset >= world.engine.offset]
    batch = world.engine.process(records, world.now_us, world.known(), phase="records")
    assert any(isinstance(event.data, e.TaskReady) for event in batch.events)
    assert batch.commands == []


def test_a_dead_letter_names_the_type_of_its_report_wherever_the_header_is(world: World) -> None:
    world.topics.append(INTAKE, 0, Record(b"k", b"{", [("ce_id", b"x"), ("ce_type", None), ("ce_type", b"task.created")], 0))
    world.topics.append(INTAKE, 0, Record(b"k", b"{", [("other", b"x")], 0))
    world.step()
    letters = [event.data for event in world.events if event.type == "engine.report_dead_lettered"]
    assert [letter.report for letter in letters] == ["task.created", None]


def test_a_record_that_stops_a_partition_is_named() -> None:
    assert str(PoisonRecord(7, "too odd")) == "record at offset 7 of hub.intake: too odd"

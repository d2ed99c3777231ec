"""Traces of tasks: the sampling decision, the context of steps and attempts, and the times that spans are made of."""

import pytest

from hub.engine.partition import EngineSettings
from schemas import ExecuteAttempt, step_id
from schemas.tracing import context_of_event, is_in_sample, parse_traceparent, span_id_of, trace_id_of

from .harness import World, check_fold

GIVEN = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0"


def world_of(**settings: float) -> World:
    world = World(settings=EngineSettings(**settings))  # type: ignore[arg-type]
    world.worker(credit=100, slots=100)
    return world


def sampled(command: ExecuteAttempt) -> bool:
    found = parse_traceparent(command.traceparent)
    assert found is not None
    return found.sampled


@pytest.mark.parametrize("ratio", [0.0, 0.3, 1.0])
def test_the_decision_to_record_a_trace_is_the_same_on_every_event_and_command_of_a_task(ratio: float) -> None:
    world = world_of(trace_sample=ratio)
    for number in range(40):
        world.submit(id=f"t{number}", name="a")
    world.step()
    commands = {command.task: sampled(command) for command in world.dispatched()}
    assert len(commands) == 40
    for event in world.events:
        if event.entity.startswith("task/"):
            context = context_of_event(event)
            assert context.trace == trace_id_of(event.subject, event.run)
            assert context.sampled == commands[event.subject] == is_in_sample(context.trace, ratio)
    assert (sum(commands.values()) in range(4, 24)) if ratio == 0.3 else set(commands.values()) == {ratio == 1.0}


def test_the_decision_survives_a_restart_with_another_setting() -> None:
    world = world_of(trace_sample=0.0)
    world.submit(id="t", name="a", retry={"max_attempts": 2, "backoff": [1]})
    world.step()
    (command,) = world.dispatched()
    world.settings = EngineSettings(trace_sample=1.0)
    world.crash()
    world.worker(kind="worker.heartbeat")
    world.fail(command)
    world.step()
    world.worker(kind="worker.heartbeat")
    world.step(seconds=5)
    (again,) = world.dispatched()
    assert (again.attempt, sampled(again)) == (2, False)
    check_fold(world)


@pytest.mark.parametrize("flag", ["0", "1"])
@pytest.mark.parametrize("ratio", [0.0, 1.0])
def test_the_flag_of_the_submission_decides_before_the_setting(flag: str, ratio: float) -> None:
    world = world_of(trace_sample=ratio)
    world.put("task.created", {"id": "t", "name": "a"}, traceparent=(GIVEN + flag).encode())
    world.step()
    (command,) = world.dispatched()
    assert sampled(command) == (flag == "1")
    assert world.last("task.created").traceparent == GIVEN + flag


@pytest.mark.parametrize("ratio", [0.0, 1.0])
@pytest.mark.parametrize("root", ["order-7", "0190b6f0-12b5-7ae8-8f67-238d54b65eeb"])
def test_all_steps_have_the_trace_and_the_decision_of_their_workflow(root: str, ratio: float) -> None:
    world = world_of(trace_sample=ratio)
    world.submit(name="w", id=root, tasks={"x": {"name": "a"}})
    world.step()
    world.submit(name="b", root_id=root, key="more")
    world.step()
    created = {event.subject: event for event in world.events if event.type == "task.created"}
    of_root = context_of_event(created[root])
    assert of_root.trace == trace_id_of(root, created[root].run)
    for key in ("x", "more"):
        step = created[step_id(root, key)]
        assert context_of_event(step) == (of_root.trace, span_id_of("task", root, created[root].run), f"0{ratio:.0f}")
    attempts = [parse_traceparent(command.traceparent) for command in world.dispatched()]
    assert [(one.trace, one.sampled) for one in attempts if one is not None] == [(of_root.trace, ratio == 1.0)] * 2


def test_the_context_of_an_attempt_has_the_id_of_its_span() -> None:
    world = world_of()
    world.submit(id="t", name="a", retry={"max_attempts": 2, "backoff": [1]})
    world.step()
    (first,) = world.dispatched()
    world.fail(first)
    world.step()
    world.worker(kind="worker.heartbeat", credit=100)
    world.step(seconds=5)
    (second,) = world.dispatched()
    run = world.last("task.created").run
    parents = [found.parent for found in map(parse_traceparent, (first.traceparent, second.traceparent)) if found is not None]
    assert parents == [span_id_of("attempt", "t", run, attempt) for attempt in (1, 2)]


def times_of(world: World, kind: str) -> tuple[str | None, str | None, str | None]:
    data = world.last(kind).data
    return data.ready_at, data.dispatched_at, data.started_at


@pytest.mark.parametrize("started", [True, False])
def test_the_end_of_an_attempt_has_the_times_of_this_attempt(started: bool) -> None:
    world = world_of()
    world.submit(id="t", name="a", queue="default", retry={"max_attempts": 3, "backoff": [1]})
    world.step()
    for _ in range(2):
        (command,) = world.dispatched()
        if started:
            world.report(command, "attempt.started", number=1)
            world.step(seconds=1)
        world.fail(command)
        world.step(seconds=1)
        ready, dispatched = world.last("task.ready").time, world.last("task.dispatched").time
        began = [event.time for event in world.events if event.type in ("task.started", "attempt.started")][-1]
        assert times_of(world, "attempt.failed") == (ready, dispatched, began)
        world.worker(kind="worker.heartbeat", credit=100)
        world.step(seconds=5)


def test_an_attempt_that_did_not_start_has_no_time_of_a_start() -> None:
    world = world_of()
    world.submit(id="t", name="a", queue="default", retry={"max_attempts": 3, "backoff": [1]})
    world.step()
    (command,) = world.dispatched()
    world.report(command, "attempt.started", number=1)
    world.fail(command)
    world.step()
    world.worker(kind="worker.heartbeat", credit=100)
    world.step(seconds=5)
    (command,) = world.dispatched()
    world.report(command, "attempt.released", reason="draining")
    world.step()
    readies = [event.time for event in world.events if event.type == "task.ready"]
    assert times_of(world, "attempt.released")[::2] == (readies[1], None)
    (command,) = world.dispatched()
    world.put("worker.lost", {"incarnation": "w1"})
    world.step()
    assert times_of(world, "attempt.lost") == (readies[2], world.last("task.dispatched").time, None)


def test_an_event_that_ends_a_wait_says_since_when() -> None:
    world = world_of()
    world.submit(id="later", name="a", start_after=3)
    world.submit(id="failing", name="a", retry={"max_attempts": 2, "backoff": [1]})
    world.submit(name="w", id="root", tasks={"x": {"name": "b"}, "y": {"name": "b", "depends_on": ["x"], "start_after": 2}})
    world.step()
    commands = {command.task: command for command in world.dispatched()}
    world.fail(commands["failing"])
    world.complete(commands[step_id("root", "x")])
    world.step(seconds=1)
    world.worker(kind="worker.heartbeat", credit=100)
    world.step(seconds=10)
    at = {(event.subject, event.type): event.time for event in world.events}
    waits = [
        (event.subject, event.from_state, event.data.waited_since)
        for event in world.events
        if event.type in ("task.ready", "task.scheduled") and event.data.waited_since is not None
    ]
    y = step_id("root", "y")
    assert sorted(waits) == sorted(
        [
            ("later", "scheduled", at["later", "task.scheduled"]),
            ("failing", "retrying", at["failing", "task.retry_scheduled"]),
            (y, "blocked", at[y, "task.created"]),
            (y, "scheduled", at[y, "task.scheduled"]),
        ]
    )


@pytest.mark.parametrize(
    ("fields", "since"),
    [
        ({"start_after": 60}, "task.scheduled"),
        ({"retry": {"max_attempts": 2, "backoff": [60]}}, "task.retry_scheduled"),
        ({}, None),
    ],
)
def test_a_cancelled_task_says_since_when_it_waited(fields: dict[str, object], since: str | None) -> None:
    world = world_of()
    world.submit(id="t", name="a" if fields else "unknown", **fields)
    world.step()
    for command in world.dispatched():
        world.fail(command)
    world.step(seconds=1)
    world.crash()
    world.put("task.cancel", {"id": "t"})
    world.step(seconds=1)
    expected = None if since is None else world.last(since).time
    assert world.last("task.cancelled").data.waited_since == expected
    check_fold(world)

"""A single record must not stop the partition, violate a guarantee for others, or leave permanent state."""

from typing import Any

import msgspec
import pytest

import hub.core.requests as requests_module
from hub.core import SOURCE_BYTES
from hub.core.time.timers import TIMERS
from hub.engine.partition import EngineSettings, PoisonRecord, PoisonTimer
from hub.engine.reading import HEADERS_BYTES_MAX, REPORT_BYTES_MAX, WORKER_REPORT_BYTES_MAX
from hub.kafka import partition_of
from schemas.events import EngineStorageChanged
from tests.engine.harness import SECOND, World, check_fold, check_log


@pytest.fixture
def world() -> World:
    fresh = World()
    fresh.worker()
    fresh.step()
    return fresh


def goes_on(world: World) -> None:
    """A task that comes after runs as ever, also in the eyes of a new owner."""
    world.worker()
    world.submit(id="after", name="a")
    world.step()
    (command,) = [command for command in world.dispatched() if command.task == "after"]
    world.complete(command, 1)
    world.step()
    assert world.types("after")[-1] == "task.completed"
    check_log(world)
    check_fold(world)
    world.crash()
    world.step()


# Values


@pytest.mark.parametrize(
    "args",
    [b'{"a": "M\xfcnchen"}', b'{"a": 1e999}', b'{"a": ' + b"[" * 5000 + b"]" * 5000 + b"}", b'{"a": "\\ud800"}', b'{"a" 1}'],
)
def test_arguments_that_are_no_json_for_others_are_refused(world: World, args: bytes) -> None:
    world.put("task.created", b'{"id": "bad", "name": "a", "args": ' + args + b"}")
    world.step()
    assert "bad" not in {event.subject for event in world.events}
    assert world.last("engine.report_dead_lettered" if b'" 1' in args else world.events[-1].type)
    assert world.events[-1].type in ("task.rejected", "engine.report_dead_lettered")
    goes_on(world)


def test_a_result_that_is_no_json_for_others_is_a_failure(world: World) -> None:
    world.submit(id="t", name="a")
    world.step()
    (command,) = world.dispatched()
    about = f'{{"task":"t","root":"t","attempt":1,"dispatch":1,"token":"{command.token}","incarnation":"w1","number":2,"result":'
    world.put("attempt.completed", about.encode() + b'"M\xfcnchen"}')
    world.step()
    assert world.last("task.failed").data.error.type == "ResultNotJson"
    goes_on(world)


@pytest.mark.parametrize("after", [1.7e12, 3e11, -1e12, 1e308])
def test_a_retry_after_an_age_is_one_after_a_year_at_most(world: World, after: float) -> None:
    world.submit(id="t", name="a")
    world.step()
    world.report(world.dispatched()[0], "attempt.failed", error={"type": "Retry", "message": "busy"}, retry_after=after)
    world.step()
    assert 0 <= world.last("task.retry_scheduled").data.delay <= 366 * 86_400
    goes_on(world)


@pytest.mark.parametrize(
    ("field", "value"),
    [("lease_seconds", 1e305), ("lease_seconds", 0), ("lease_seconds", 1e6), ("inbox", 99), ("inbox", -1), ("pool", "p" * 300),
     ("definitions", [{"name": "n" * 300}]), ("definitions", [{"name": "n", "version": ""}]),
     ("definitions", [{"name": "n"}, {"name": "n"}]), ("definitions", [{"name": "n", "priority": 10**7}])],
)  # fmt: skip
def test_a_worker_that_cannot_be_is_set_aside_naming_the_field(world: World, field: str, value: Any) -> None:
    world.worker("w9", **{field: value})
    world.step()
    assert field in world.last("engine.report_dead_lettered").data.reason
    goes_on(world)


def test_a_worker_of_a_pool_without_a_topic_gets_nothing_until_the_topic_is_there(world: World) -> None:
    world.worker("w9", pool="nowhere", names=["c"])
    world.submit(id="t", name="c")
    world.step()
    assert world.dispatched() == []
    assert world.unknown_pools == {"nowhere"}
    world.known_pools.add("nowhere")
    world.step()
    (command,) = world.dispatched()
    assert command.task == "t"
    assert command.token.startswith("agenda/0/dispatch:"), "an event that no record caused has the agenda as its cause"
    goes_on(world)


def test_a_worker_of_a_pool_without_a_topic_gets_no_command_for_what_it_claims_to_hold(world: World) -> None:
    world.worker("w9", kind="worker.heartbeat", pool="nowhere", holding=["0/1/2"])
    world.step()
    assert not [kind for kind, worker, _ in world.commands if worker == "w9"]
    goes_on(world)


def test_a_new_owner_that_finds_a_cancelled_workflow_has_nothing_to_say_of_it_until_a_step_ends(world: World) -> None:
    world.submit(id="w", name="w", tasks={"x": {"name": "a"}})
    world.step()
    (command,) = world.dispatched()
    world.report(command, "attempt.started", number=1)
    world.put("task.cancel", {"id": "w"})
    world.until_quiet(0)
    for _ in range(2):
        world.crash()
        before = len(world.types("w"))
        world.step()
        assert len(world.types("w")) == before
    world.report(command, "attempt.cancelled")
    world.step()
    assert world.types("w")[-1] == "workflow.cancelled"


def test_the_same_cause_is_not_used_twice_by_two_owners_in_one_millisecond(world: World) -> None:
    for name in ("first", "second"):
        world.worker(f"worker of {name}", pool=name, names=["c"])
        world.submit(id=name, name="c")
        world.step()
        world.known_pools.add(name)
        world.step()
        world.crash()
    assert len({command.token for command in world.dispatched()}) == 2


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"correlation_id": "c" * 300}, "correlation_id"),
        ({"namespace": "n" * 300}, "namespace"),
        ({"tags": {"t": "x" * 20_000}}, "tags"),
        ({"annotations": {"t": "x" * 20_000}}, "annotations"),
        ({"description": "d" * 5_000}, "description"),
        ({"idempotency_key": "k", "idempotency_window": 1e300}, "idempotency_window"),
        ({"idempotency_key": "k", "idempotency_window": -5}, "idempotency_window"),
        ({"tasks": {"x": {"name": "a", "tags": {"t": "x" * 20_000}}}}, "tasks.x.tags"),
        ({"tasks": {"x": {"name": "a", "idempotency_key": "k"}}}, "tasks.x.idempotency_key"),
        ({"tasks": {"x": {"name": "a"}}, "start_after": 5}, "start_after"),
        ({"tasks": {"x": {"name": "a"}}, "not_start_after": 5}, "not_start_after"),
        ({"tasks": {"x": {"name": "a"}}, "retry": {"max_attempts": 5}}, "retry"),
        ({"tasks": {"x": {"name": "a"}}, "delivery": "at_most_once"}, "delivery"),
        ({"tasks": {"x": {"name": "a"}}, "timeouts": {"attempt": 5}}, "timeouts.attempt"),
    ],
)
def test_what_is_too_long_or_would_be_ignored_is_refused_with_its_field(world: World, fields: dict[str, Any], word: str) -> None:
    world.submit(**{"name": "a", **fields})
    world.step()
    assert word in world.last("task.rejected").data.reason
    goes_on(world)


def test_what_workers_say_at_length_is_cut_and_the_ended_index_keeps_little_of_it(world: World) -> None:
    world.submit(id="t", name="a", retry={"max_attempts": 1})
    world.step()
    (command,) = world.dispatched()
    world.report(command, "attempt.progressed", message="m" * 1_000_000)
    world.report(
        command, "attempt.failed", number=3, error={"type": "E", "message": "m" * 1_000_000, "stacktrace": "s" * 1_000_000}
    )
    world.step()
    assert len(world.last("task.progressed").data.message) <= 4_096
    error = world.last("task.failed").data.error
    assert (len(error.message), len(error.stacktrace)) == (4_096, 16_384)
    assert len(world.rows[b"task/t"]) < 1_500
    goes_on(world)


@pytest.mark.parametrize(("field", "header"), [("ce_id", "ce_id"), ("ce_source", "ce_source")])
@pytest.mark.parametrize("kind", ["task.created", "task.cancel", "task.await"])
def test_an_identity_that_is_too_long_is_refused_and_never_cut(world: World, field: str, header: str, kind: str) -> None:
    value = {"id": "t", "name": "a"} if kind == "task.created" else {"id": "t"}
    record = world.put(kind, value, replyto=b"0:me")
    headers = [(name, b"x\x01" * 100_000 if name == header else old) for name, old in record.headers]
    world.intake[-1] = record._replace(headers=headers)
    world.step()
    rejected = world.last("task.rejected").data
    assert (rejected.code, rejected.report) == ("malformed", kind)
    assert field in rejected.reason
    assert r"'x\x01x\x01" in rejected.reason
    assert "SHA-256" in rejected.reason
    assert len(rejected.reason) < 400
    assert world.replies[b"me"]["code"] == "malformed"
    goes_on(world)


@pytest.mark.parametrize(("length", "accepted"), [(SOURCE_BYTES // 2, True), (SOURCE_BYTES // 2 + 1, False)])
def test_the_bound_of_a_source_counts_its_bytes_in_json(world: World, length: int, accepted: bool) -> None:
    world.put("task.created", {"id": "t", "name": "a"}, source='"' * length)
    world.step()
    assert (world.types("t")[:1] == ["task.created"]) == accepted


@pytest.mark.parametrize("kind", ["task.cancel", "task.await"])
@pytest.mark.parametrize("field", ["id", "root"])
def test_a_request_for_an_id_that_no_task_can_have_is_refused_with_its_beginning(world: World, kind: str, field: str) -> None:
    world.put(kind, {"id": "t", field: "\\" * 1_000_000}, replyto=b"0:me")
    world.step()
    rejected = world.last("task.rejected").data
    assert rejected.code == "malformed"
    assert rejected.reason.startswith(f"{field} is longer than 255 bytes: ")
    assert max(len(event.value) for event in world.events) < 2_000
    goes_on(world)


@pytest.mark.parametrize("name", ["ce_id", "ce_type", "ce_source", "replyto", "traceparent", "hub-origin", "content-type"])
def test_a_header_that_is_null_is_one_that_is_missing(world: World, name: str) -> None:
    record = world.put("task.created", {"id": "t", "name": "a"})
    headers = [(header, None if header == name else value) for header, value in record.headers]
    world.intake[-1] = record._replace(headers=[*headers, (name, None)])
    world.step()
    expected = "engine.report_dead_lettered" if name == "ce_type" else "task.created"
    assert expected in [event.type for event in world.events]
    goes_on(world)


@pytest.mark.parametrize("missing", ["ce_id", "ce_source"])
def test_a_task_that_nothing_names_is_refused_with_the_field(world: World, missing: str) -> None:
    record = world.put("task.created", {"name": "a"}, replyto=b"0:me")
    world.intake[-1] = record._replace(headers=[header for header in record.headers if header[0] != missing])
    world.step()
    rejected = world.last("task.rejected").data
    assert (rejected.code, rejected.reason.partition(":")[0]) == ("malformed", missing)
    assert world.replies[b"me"]["kind"] == "rejected"
    goes_on(world)


@pytest.mark.parametrize(
    "traceparent",
    [b"x" * 55, b"00-" + b"0" * 32 + b"-" + b"1" * 16 + b"-01", b"ff-" + b"1" * 32 + b"-" + b"1" * 16 + b"-01", b"\xff" * 55],
)
def test_an_invalid_trace_context_is_ignored(world: World, traceparent: bytes) -> None:
    world.put("task.created", {"id": "t", "name": "a"}, traceparent=traceparent)
    world.step()
    assert world.last("task.created").traceparent is None
    goes_on(world)


@pytest.mark.parametrize("reply", [b"9" * 5_000 + b":x", b"99:x", b"0:", b":x", b"0:" + b"t" * 300, b"\xb2:x"])
def test_a_reply_address_that_cannot_be_is_ignored(world: World, reply: bytes) -> None:
    world.put("task.created", {"id": "t", "name": "a"}, replyto=reply)
    world.step()
    assert world.state_of("t") == "dispatched"
    assert not world.replies
    goes_on(world)


def test_headers_that_are_too_large_together_are_dead_lettered(world: World) -> None:
    world.put("task.created", {"id": "t", "name": "a"}, more=b"m" * 70_000)
    world.step()
    assert "headers" in world.last("engine.report_dead_lettered").data.reason
    goes_on(world)


@pytest.mark.parametrize("beyond", [0, 1])
@pytest.mark.parametrize(
    ("kind", "limit"), [("task.created", REPORT_BYTES_MAX), ("worker.heartbeat", WORKER_REPORT_BYTES_MAX)], ids=["task", "worker"]
)
def test_the_largest_report(world: World, kind: str, limit: int, beyond: int) -> None:
    about = {"incarnation": "w1", "pool": "default", "inbox": 3, "queues": ["default"], "slots": 1, "credit": 1}
    fields = {"id": "t", "name": "a"} if kind == "task.created" else {**about, "lease_seconds": 10.0}
    value = msgspec.json.encode(fields)
    world.put(kind, value + b" " * (limit - len(value) + beyond))
    world.step()
    assert ("engine.report_dead_lettered" in world.types()) == bool(beyond)
    goes_on(world)


@pytest.mark.parametrize("beyond", [0, 1])
def test_the_key_counts_in_the_size_of_the_headers(world: World, beyond: int) -> None:
    record = world.put("task.created", {"id": "t", "name": "a"})
    assert record.key is not None
    rest = HEADERS_BYTES_MAX - sum(len(name) + len(value or b"") for name, value in record.headers)
    world.intake[-1] = record._replace(key=bytes(rest + beyond))
    world.step()
    assert world.events[-1].type == ("engine.report_dead_lettered" if beyond else "task.dispatched")


@pytest.mark.parametrize(("said", "percent"), [(-5e300, 0.0), (150.0, 100.0), (42.5, 42.5)])
def test_progress_is_held_between_0_and_100(world: World, said: float, percent: float) -> None:
    world.submit(id="t", name="a")
    world.step()
    world.report(world.dispatched()[0], "attempt.progressed", percent=said)
    world.step()
    assert world.last("task.progressed").data.percent == percent


@pytest.mark.parametrize("field", ["attempt", "dispatch", "number"])
@pytest.mark.parametrize("value", [10**30, -1, 2**63])
def test_a_number_that_no_counter_reaches_is_dead_lettered_by_its_field(world: World, field: str, value: int) -> None:
    about = {"task": "t", "root": "t", "attempt": 1, "dispatch": 1, "token": "x", "incarnation": "w1", "number": 1}
    world.put("attempt.started", {**about, field: value})
    world.step()
    assert world.events[-1].type == "engine.report_dead_lettered"
    goes_on(world)


@pytest.mark.parametrize(
    ("data", "accepted"),
    [
        (b'"data_base64": "eyJpZCI6ICJiIiwgIm5hbWUiOiAiYSJ9"', True),
        (b'"data_base64": "%%%"', False),
        (b'"data_base64": 5', False),
    ],
)
def test_a_structured_cloudevent_may_carry_its_data_as_base64(world: World, data: bytes, accepted: bool) -> None:
    value = b'{"specversion": "1.0", "type": "task.created", "source": "/shop", "id": "order-8", ' + data + b"}"
    world.intake.append(world.put("task.created", value)._replace(headers=[]))
    del world.intake[-2]
    world.step()
    if accepted:
        created = world.last("task.created")
        assert (created.subject, created.causationid, created.data.source) == ("b", "order-8", "/shop")
    else:
        assert "data_base64" in world.last("engine.report_dead_lettered").data.reason
    goes_on(world)


# What cannot be decided


def fails_on(monkeypatch: pytest.MonkeyPatch, place: str, task: str) -> None:
    """Let `place` of the engine break whenever it meets `task`."""
    real = getattr(requests_module, place)

    def broken(changes: Any, first: Any, *more: Any, **fields: Any) -> Any:
        if getattr(first, "id", None) == task:
            raise ZeroDivisionError("a mistake of ours")
        return real(changes, first, *more, **fields)

    monkeypatch.setattr(requests_module, place, broken)


def test_a_record_that_breaks_the_engine_is_named_and_dead_lettered_by_the_next_owner(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails_on(monkeypatch, "place", "bad")
    world.submit(id="good", name="a")
    world.submit(id="bad", name="a")
    offset = len(world.intake) - 1
    with pytest.raises(PoisonRecord) as poison:
        world.step()
    assert poison.value.offset == offset
    world.crash()
    world.poison_records[offset] = poison.value.reason
    world.step()
    assert "a mistake of ours" in world.last("engine.report_dead_lettered").data.reason
    assert world.types("good")[0] == "task.created"
    goes_on(world)


def test_a_timer_that_breaks_the_engine_harms_no_record_and_is_dead_lettered(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError("a mistake of ours")

    monkeypatch.setitem(TIMERS, "total", broken)
    world.submit(id="t", name="a", timeouts={"total": 5})
    world.step()
    world.submit(id="innocent", name="a")
    with pytest.raises(PoisonTimer) as poison:
        world.step(seconds=6)
    assert poison.value.key == ("total", "t", world.last("task.created").run, 0)
    assert str(poison.value) == "timer total of task t: ZeroDivisionError: a mistake of ours"
    world.crash()
    world.poison_timers[poison.value.key] = poison.value.reason
    world.step()
    aside = world.last("engine.timer_dead_lettered").data
    assert (aside.timer, aside.task) == ("total", "t")
    assert "a mistake of ours" in aside.reason
    assert world.types("innocent")[0] == "task.created"
    assert "engine.report_dead_lettered" not in world.types()
    monkeypatch.undo()
    goes_on(world)


def test_a_mistake_in_dispatch_blames_no_record(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hub.engine.partition.dispatch", lambda changes: 1 / 0)
    world.submit(id="t", name="a")
    with pytest.raises(ZeroDivisionError):
        world.step()


# Graphs


def test_a_step_added_while_one_of_its_dependencies_ends_waits_for_the_others(world: World) -> None:
    world.submit(id="w", name="w", tasks={"A": {"name": "a"}, "B": {"name": "b"}, "X": {"name": "a"}})
    world.step()
    commands = {command.key: command for command in world.dispatched()}
    world.complete(commands["A"])
    world.complete(commands["B"])
    world.submit(root_id="w", key="C", name="a", depends_on=["A", "B", "X"])
    world.step()
    assert world.dispatched() == []
    world.crash()
    world.worker()
    world.complete(commands["X"])
    world.step()
    assert [command.key for command in world.dispatched()] == ["C"]
    goes_on(world)


def test_a_step_under_a_key_that_the_plan_has_still_to_make_is_refused(world: World) -> None:
    steps = {f"n{number}": {"name": "a"} for number in range(450)}
    world.submit(id="w", name="w", tasks=steps)
    world.submit(root_id="w", key="n449", name="a")
    world.step()
    assert world.last("task.rejected").data.code == "id_conflict"
    world.until_quiet(5)
    assert [event.type for event in world.events].count("task.created") == 451


def test_a_user_who_calls_himself_timer_cancels_and_does_not_time_out(world: World) -> None:
    world.submit(id="w", name="w", tasks={"A": {"name": "c"}}, timeouts={"total": 60})
    world.step()
    world.put("task.cancel", {"id": "w", "by": "timer"})
    world.until_quiet(100)
    assert world.types("w")[-1] == "workflow.cancelled"
    world.submit(id="v", name="w", tasks={"A": {"name": "c"}}, timeouts={"total": 60})
    world.until_quiet(100)
    assert world.types("v")[-1] == "workflow.failed"
    assert world.last("workflow.failed").data.error.type == "TimedOut"


# Time


def test_a_command_that_nobody_started_is_dispatched_again_also_after_a_restart(world: World) -> None:
    world.worker("long", names=["c"], lease_seconds=3_000.0)
    world.submit(id="slow", name="c")
    world.submit(id="t", name="a")
    world.step()
    world.crash()
    world.worker()
    world.worker("long", names=["c"], lease_seconds=3_000.0)
    world.step(seconds=9)
    world.worker(kind="worker.heartbeat")
    world.step(seconds=2)
    assert "attempt.superseded" in world.types("t")
    assert "attempt.superseded" not in world.types("slow")


def test_an_attempt_that_its_worker_does_not_name_twice_is_lost_and_runs_again(world: World) -> None:
    world.submit(id="t", name="a")
    world.submit(id="u", name="a")
    world.step()
    commands = {command.task: command for command in world.dispatched()}
    for command in commands.values():
        world.report(command, "attempt.started", number=1)
    world.worker(kind="worker.heartbeat")  # one that does not say
    for holding in ([], [commands["u"].token], [commands["t"].token, commands["u"].token], [commands["u"].token]):
        world.worker(kind="worker.heartbeat", holding=holding)
        world.step()
    assert (world.state_of("t"), world.state_of("u")) == ("dispatched", "running")
    assert world.types("t").count("attempt.lost") == 1
    world.worker(kind="worker.heartbeat", holding=[commands["u"].token])
    world.step()
    assert world.types("t").count("attempt.lost") == 1, "what is only dispatched has its start deadline"
    check_log(world)
    check_fold(world)


def test_a_new_owner_gives_a_worker_the_lease_it_has_and_not_another(world: World) -> None:
    elsewhere = World(partition=1, partitions=2)  # not the worker's home: it has no row here
    incarnation = next(f"w{number}" for number in range(20) if partition_of(f"w{number}", 2) == 0)
    task = next(f"t{number}" for number in range(20) if partition_of(f"t{number}", 2) == 1)
    elsewhere.worker(incarnation, lease_seconds=60.0)
    elsewhere.submit(id=task, name="a")
    elsewhere.step()
    (command,) = elsewhere.dispatched()
    elsewhere.report(command, "attempt.started", incarnation=incarnation, number=1)
    elsewhere.step()
    elsewhere.crash()
    elsewhere.step()
    elsewhere.step(seconds=59)
    assert elsewhere.state_of(task) == "running"
    elsewhere.step(seconds=2)
    assert elsewhere.types(task)[-2:] == ["attempt.lease_expired", "task.ready"]


def test_a_time_out_waits_until_every_word_is_read(world: World) -> None:
    world.submit(id="t", name="a", timeouts={"attempt": 5, "total": 8})
    world.step()
    (command,) = world.dispatched()
    world.report(command, "attempt.started", number=1)
    world.step()
    world.now_us += 60 * SECOND  # the engine was away; the worker was not
    world.submit(id="other", name="a")
    world.complete(command, "in time")
    world.step(limit=1, caught_up=False)
    world.step()
    assert world.types("t")[-1] == "task.completed"


# What is left behind


def test_what_ended_tasks_leave_in_the_agenda_and_in_the_order_is_swept_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hub.core.state.partition.TIDY_FROM", 100)
    world, wave = World(), 200
    world.submit(id="stays", name="nobody-knows", timeouts={"total": 86_400})
    for first in range(0, 20 * wave, wave):
        for number in range(first, first + wave):
            world.submit(id=f"t{number}", name="nobody-knows", timeouts={"total": 86_400})
        world.step()
        for number in range(first, first + wave):
            world.put("task.cancel", {"id": f"t{number}"})
        world.step()
    assert world.engine.state.live == 1
    assert len(world.engine.state.agenda) <= 100 + 4 * wave
    assert world.engine.state.ready.entries <= 100 + 4 * wave
    world.worker("w2", names=["nobody-knows"])
    world.step()
    assert [command.task for command in world.dispatched()] == ["stays"]
    world.until_quiet(86_500)
    assert world.last("task.failed").data.error.type == "TimedOut"


def test_the_ended_index_forgets_in_order_of_the_end_also_after_a_restart() -> None:
    world = World(settings=EngineSettings(retention_seconds=100))
    world.worker()
    world.submit(id="old", name="nobody-knows")
    world.step()
    for number in range(5):
        world.submit(id=f"t{number}", name="a")
    world.step()
    for command in world.dispatched():
        world.complete(command)
    world.step()
    world.put("task.cancel", {"id": "old"})
    world.step(seconds=90)
    world.crash()
    world.step(seconds=11 + 60)
    world.step()
    assert {key for key in world.rows if key.startswith(b"task/")} == {b"task/old"}


def test_a_submission_that_is_known_is_a_duplicate_also_where_no_other_is_taken() -> None:
    world = World(settings=EngineSettings(waiting_max=1))
    world.submit(id="t", name="a")
    world.submit(id="t", name="a")
    world.submit(id="u", name="a")
    world.step()
    kinds = [event.type for event in world.events if event.type in ("task.deduplicated", "task.rejected")]
    assert kinds == ["task.deduplicated", "task.rejected"]


def test_the_same_time_twice_gives_no_provenance_twice(world: World) -> None:
    for number in range(40):
        world.submit(id=f"t{number}", name="a", args={"blob": "x" * 200_000})
    world.worker(credit=100, slots=100)
    for _ in range(30):
        world.step()  # each changes issues a part; the clock stands still
    assert len(world.dispatched()) == 40
    check_log(world)


@pytest.mark.parametrize("more", [{"id": "other", "key": "x"}, {"idempotency_key": "k", "key": "x"}, {"id": "x"}])
def test_no_two_steps_of_a_workflow_have_one_key(world: World, more: dict[str, Any]) -> None:
    world.submit(id="w", name="w", tasks={"x": {"name": "a"}, "y": {"name": "a"}})
    world.submit(root_id="w", name="a", **more)
    world.step()
    assert world.last("task.rejected").data.code in ("invalid_input", "id_conflict")
    for command in world.dispatched():
        world.complete(command, command.key)
    world.step()
    assert msgspec.json.decode(bytes(world.last("workflow.completed").data.result)) == {"x": "x", "y": "y"}


def test_several_steps_sent_twice_are_added_once_and_answered_by_their_workflow(world: World) -> None:
    world.submit(id="w", name="w", tasks={"x": {"name": "a"}})
    steps = {"root_id": "w", "name": "more", "tasks": {"y": {"name": "a"}, "z": {"name": "a", "depends_on": ["y"]}}}
    world.put("task.created", steps, id="first", replyto=b"0:one")
    world.put("task.created", steps, id="first", replyto=b"0:two")
    world.step()
    assert world.last("task.deduplicated").data.task == "w"
    assert "task.rejected" not in world.types()
    for _ in range(3):
        for command in world.dispatched():
            world.complete(command, 1)
        world.step()
    assert world.types("w")[-1] == "workflow.completed"
    assert {token: reply["task"] for token, reply in world.replies.items()} == {b"one": "w", b"two": "w"}


@pytest.mark.parametrize("more", [{"id": "n"}, {"idempotency_key": "k"}, {"key": "k"}])
def test_several_steps_have_no_name_together(world: World, more: dict[str, Any]) -> None:
    world.submit(id="w", name="w", tasks={"x": {"name": "a"}})
    world.submit(root_id="w", name="more", tasks={"y": {"name": "a"}}, **more)
    world.step()
    assert next(iter(more)) in world.last("task.rejected").data.reason


# Limits


@pytest.mark.parametrize("crash", [False, True])
def test_a_graph_counts_as_all_of_its_steps_before_they_are_created(crash: bool) -> None:
    world = World(settings=EngineSettings(waiting_max=1_000))
    steps = {f"n{number}": {"name": "nobody"} for number in range(700)}
    world.submit(id="one", name="w", tasks=steps)
    world.submit(id="two", name="w", tasks=steps)
    world.submit(id="small", name="a")
    world.submit(id="one", name="w", tasks=steps)
    world.step()
    [rejected] = [event.data for event in world.events if event.type == "task.rejected"]
    assert (rejected.code, rejected.task) == ("limit_exceeded", "two")
    assert world.last("task.deduplicated").data.task == "one", "what is known is answered also at the limit"
    world.put("task.cancel", {"id": "one"})
    world.until_quiet(5)
    if crash:
        world.crash()
    assert (world.engine.state.live, world.engine.state.planned) == (1, 0)
    world.submit(id="two", name="w", tasks=steps)
    world.submit(id="three", name="w", tasks=steps)
    world.step()
    assert world.types("two")[0] == "task.created"
    assert world.last("task.rejected").data.task == "three"


def test_steps_that_are_still_to_be_created_count_after_a_restart() -> None:
    world = World(settings=EngineSettings(waiting_max=1_000))
    world.submit(id="one", name="w", tasks={f"n{number}": {"name": "nobody"} for number in range(700)})
    world.step()
    created, planned = world.engine.state.live, world.engine.state.planned
    assert created + planned == 701
    assert planned > 0
    world.crash()
    assert (world.engine.state.live, world.engine.state.planned) == (created, planned)


def test_a_disk_without_room_refuses_what_is_new_and_answers_what_is_known(world: World) -> None:
    world.submit(id="known", name="a")
    world.step()
    (command,) = world.dispatched()
    change = EngineStorageChanged(level="low", usable_bytes=1, total_bytes=100)
    world.commit(world.engine.storage_changed(world.now_us, change))
    world.submit(id="new", name="a")
    world.submit(id="known", name="a")
    world.complete(command, 1)
    world.step()
    assert world.last("task.rejected").data.code == "storage_low"
    assert world.last("task.deduplicated").data.task == "known"
    assert world.types("known")[-1] == "task.completed"
    world.crash()
    world.submit(id="newer", name="a")
    world.step()
    assert world.last("task.rejected").data.task == "newer", "a new owner knows it too"
    world.commit(world.engine.storage_changed(world.now_us, EngineStorageChanged(level="ok", usable_bytes=90, total_bytes=100)))
    goes_on(world)


def test_steps_that_a_running_workflow_adds_are_taken_though_the_disk_is_almost_full(world: World) -> None:
    world.submit(id="w", name="w", tasks={"x": {"name": "a"}})
    world.step()
    world.commit(world.engine.storage_changed(world.now_us, EngineStorageChanged(level="low", usable_bytes=1, total_bytes=100)))
    world.submit(root_id="w", key="y", name="a")
    world.step()
    assert "task.rejected" not in world.types()
    assert world.last("workflow.expanded").data.steps_total == 2


def test_a_poisoned_timer_does_not_hit_the_next_run_of_the_id(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.poison_timers[("total", "t", world.topics.end("hub.intake", 0), 0)] = "a mistake of ours"
    world.submit(id="t", name="nobody", timeouts={"total": 5})
    world.step()
    world.step(seconds=6)
    assert world.last("engine.timer_dead_lettered").data.task == "t"
    world.put("task.cancel", {"id": "t"})
    world.step()
    world.step(seconds=3_700)
    world.submit(id="t", name="nobody", timeouts={"total": 5})
    world.step()
    world.step(seconds=6)
    assert world.types("t")[-1] == "task.failed"


def test_a_worker_cannot_hold_more_than_it_may_name(world: World) -> None:
    world.worker("w1", kind="worker.heartbeat", holding=[f"t{number}" for number in range(20_000)])
    world.step()
    assert "holding" in world.last("engine.report_dead_lettered").data.reason
    assert not [command for command in world.commands if command[0] == "attempt.cancel"]

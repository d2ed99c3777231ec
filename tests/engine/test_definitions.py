"""Definitions: learned from workers, kept over take-overs, applied when a task is created; versions, namespaces, deprecation."""

from typing import Any

import msgspec
import pytest

from hub.core.bounds import ID_BYTES, TEXT_MAX
from hub.engine.partition import EngineSettings
from schemas import definition_id
from tests.engine.harness import World, check_fold, check_log

REPLY = b"0:client"


def register(world: World, *definitions: dict[str, Any], incarnation: str = "w1", revision: int = 1, **more: Any) -> None:
    world.worker(incarnation, definitions=list(definitions), revision=revision, **more)
    world.step()


def beat(world: World, incarnation: str = "w1", **more: Any) -> None:
    """A heartbeat that names its revision only."""
    world.worker(incarnation, kind="worker.heartbeat", definitions=None, **{"revision": 1, **more})
    world.step()


def known(world: World) -> dict[str, dict[str, Any]]:
    """The rows of definitions, by their ids."""
    rows = {key.decode(): msgspec.json.decode(value) for key, value in world.rows.items() if key.startswith(b"definition/0/")}
    return {key.removeprefix("definition/0/"): row for key, row in rows.items()}


def submit(world: World, name: str = "a", **fields: Any) -> Any:
    """Submit a task, and wait for its end: its `task.created`, or None where it is refused."""
    before = len(world.events)
    world.put("task.created", {"name": name, **fields}, replyto=REPLY)
    world.step()
    created = [event for event in world.events[before:] if event.type == "task.created"]
    return created[-1].data if created else None


def deprecate(world: World, name: str = "a", version: str = "1", **more: Any) -> None:
    world.put("definition.deprecate", {"name": name, "version": version, **more}, replyto=REPLY)
    world.step()


# Learning


def test_what_a_worker_registers_is_an_event_and_a_row_and_survives_a_restart() -> None:
    world = World()
    register(world, {"name": "a", "timeout_seconds": 7.0}, {"name": "a", "version": "2"}, {"name": "b", "namespace": "shop"})
    assert known(world).keys() == {"*/a@1", "*/a@2", "shop/b@1"}
    assert known(world)["*/a@1"]["definition"] == {"name": "a", "timeout_seconds": 7.0}
    registered = [event for event in world.events if event.type == "definition.registered"]
    assert [event.subject for event in registered] == ["0/*/a@1", "0/*/a@2", "0/shop/b@1"]
    assert [(event.sequence, event.to_state, event.data.worker) for event in registered] == [(1, "active", "w1")] * 3
    world.crash()
    assert submit(world, version="1").policy.timeout_seconds == 7.0
    check_log(world)
    check_fold(world)


def test_what_is_known_already_is_not_written_again() -> None:
    world = World()
    register(world, {"name": "a", "timeout_seconds": 7.0})
    for number, kind in enumerate(["worker.registered", "worker.heartbeat", "worker.draining", "worker.registered"]):
        before = len(world.events)
        world.worker(f"w{number + 2}", kind=kind, definitions=[{"name": "a", "timeout_seconds": 7.0}], revision=1)
        batch = world.step()
        assert "definition.registered" not in [event.type for event in world.events[before:]]
        assert not [key for key, _ in batch.rows if key.startswith(b"definition/")]


def test_a_heartbeat_that_only_names_its_revision_writes_nothing() -> None:
    world = World()
    register(world, {"name": "a"})
    world.worker(kind="worker.heartbeat", definitions=None, revision=1)
    assert world.step().empty


def test_the_last_registration_holds_and_what_only_repeats_an_earlier_one_changes_nothing() -> None:
    world = World()
    register(world, {"name": "a", "timeout_seconds": 1.0})
    register(world, {"name": "a", "timeout_seconds": 2.0}, incarnation="w2")
    for kind in ("worker.heartbeat", "worker.registered"):
        world.worker("w1", kind=kind, definitions=[{"name": "a", "timeout_seconds": 1.0}], revision=1)
        world.step()
    assert submit(world).policy.timeout_seconds == 2.0
    world.crash()
    world.worker("w1", kind="worker.heartbeat", definitions=[{"name": "a", "timeout_seconds": 1.0}], revision=1)
    world.step()
    assert submit(world).policy.timeout_seconds == 2.0
    assert known(world)["*/a@1"]["sequence"] == 2


def test_a_registration_counts_although_heartbeats_overtook_it() -> None:
    world = World()
    register(world, {"name": "a", "timeout_seconds": 1.0})
    beat(world, "w2")
    world.worker("w2", kind="worker.heartbeat", definitions=[{"name": "a", "timeout_seconds": 2.0}], revision=1)
    world.step()
    register(world, {"name": "a", "timeout_seconds": 2.0}, incarnation="w2")
    assert known(world)["*/a@1"]["definition"]["timeout_seconds"] == 2.0


def test_a_worker_whose_definitions_are_not_known_is_asked_for_them() -> None:
    world = World()
    register(world, {"name": "a"})
    world.crash()
    world.commands.clear()
    beat(world)
    wanted = [
        msgspec.json.decode(data)
        for kind, worker, data in world.commands
        if (kind, worker) == ("engine.definitions_wanted", "w1")
    ]
    assert wanted == [{"partition": 0, "revision": 1}]
    world.submit(id="t", name="a")
    world.step()
    assert world.dispatched() == [], "the partition knows the name, and not yet who has it"
    world.worker(kind="worker.heartbeat", definitions=[{"name": "a"}], revision=1)
    world.step()
    assert [command.task for command in world.dispatched()] == ["t"]
    world.commands.clear()
    beat(world)
    assert world.commands == []


def test_a_worker_that_registers_more_gets_more() -> None:
    world = World()
    register(world, {"name": "a"})
    world.submit(id="t", name="late")
    world.step()
    assert world.dispatched() == []
    register(world, {"name": "a"}, {"name": "late"}, revision=2)
    assert [command.task for command in world.dispatched()] == ["t"]
    announced = [event.data for event in world.events if event.type == "worker.registered"]
    assert [(one.revision, one.definitions) for one in announced] == [(1, ["*/a@1"]), (2, ["*/a@1", "*/late@1"])]
    world.worker(definitions=[{"name": "a"}], revision=1)
    world.submit(id="u", name="late")
    world.step()
    assert [command.task for command in world.dispatched()] == ["u"], "a report that was overtaken takes nothing away"


def test_more_definitions_than_a_partition_may_know_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hub.core.fleet.definitions.DEFINITIONS_KNOWN_MAX", 2)
    world = World()
    register(world, {"name": "a"}, {"name": "b"})
    register(world, {"name": "a"}, {"name": "b"}, {"name": "c"}, incarnation="w2")
    assert "more than 2" in world.last("engine.report_dead_lettered").data.reason
    assert len(known(world)) == 2
    register(world, {"name": "a"}, incarnation="w3")
    assert submit(world, id="t").version == "1"
    assert world.types().count("engine.report_dead_lettered") == 1, "what is known already does not count again"


def test_a_worker_that_is_heard_again_is_announced_with_what_it_has_registered_last() -> None:
    world = World()
    register(world, {"name": "a"}, revision=0)
    register(world, {"name": "a"}, {"name": "b"}, revision=0)
    world.step(seconds=7)
    assert world.types("w1")[-1] == "worker.heartbeat_missed"
    world.worker(kind="worker.heartbeat", definitions=[{"name": "a"}, {"name": "b"}], revision=0)
    world.step()
    assert world.last("worker.registered").data.definitions == ["*/a@1", "*/b@1"]


# What holds


def test_admission_copies_what_holds_and_the_submission_goes_first() -> None:
    world = World()
    register(
        world,
        {"name": "a", "queue": "mail", "priority": 4, "timeout_seconds": 7.0, "delivery": "at_most_once"},
        queues=["mail", "x"],
    )
    created = submit(world, id="t")
    assert (created.version, created.queue, created.priority) == ("1", "mail", 4)
    assert (created.policy.timeout_seconds, created.policy.delivery, created.unresolved) == (7.0, "at_most_once", False)
    assert (created.delivery, created.timeouts) == (None, None), "what the submission gave is told apart"
    created = submit(world, id="u", queue="x", priority=0, timeouts={"attempt": 1.0}, delivery="at_least_once")
    assert (created.queue, created.priority) == ("x", 0)
    assert (created.policy.timeout_seconds, created.policy.delivery) == (1.0, "at_least_once")
    assert {command.task: command.delivery for command in world.dispatched()} == {"t": "at_most_once", "u": "at_least_once"}
    check_fold(world)


def test_what_is_registered_later_does_not_change_a_task_that_exists() -> None:
    world = World()
    register(world, {"name": "a", "timeout_seconds": 1.0}, credit=0)
    submit(world, id="t")
    register(world, {"name": "a", "timeout_seconds": 2.0}, {"name": "a", "version": "2"}, incarnation="w2")
    (command,) = world.dispatched()
    assert (command.version, command.timeout_seconds) == ("1", 1.0)


def test_a_step_takes_the_queue_of_its_definition_before_that_of_its_workflow() -> None:
    world = World()
    register(world, {"name": "a", "queue": "mail"}, {"name": "b"}, queues=["mail", "slow"])
    world.submit(id="w", name="w", queue="slow", priority=3, tasks={"x": {"name": "a"}, "y": {"name": "b"}})
    world.step()
    assert {command.key: (command.queue, command.priority) for command in world.dispatched()} == {
        "x": ("mail", 3),
        "y": ("slow", 3),
    }
    assert not world.last("task.created").data.unresolved


def test_an_unknown_name_waits_with_a_warning_and_runs_when_it_is_known() -> None:
    world = World()
    assert submit(world, "later", id="t").unresolved
    reply = world.replies[b"client"]
    assert (reply["kind"], reply["task"]) == ("accepted", "t")
    assert "'later'" in reply["warning"]
    world.put("task.await", {"id": "t", "wait": False}, replyto=REPLY)
    world.step()
    assert "'later'" in world.replies[b"client"]["warning"]
    world.crash()
    register(world, {"name": "later", "version": "3"}, {"name": "later", "version": "2"})
    (command,) = world.dispatched()
    assert command.version == "3"
    world.put("task.await", {"id": "t", "wait": False}, replyto=REPLY)
    world.step()
    assert "warning" not in world.replies[b"client"]
    check_fold(world)


def test_the_root_of_a_workflow_does_not_wait_for_a_worker() -> None:
    world = World()
    register(world, {"name": "a"})
    submit(world, "w", id="w", tasks={"x": {"name": "a"}})
    assert not world.replies
    world.put("task.await", {"id": "w", "wait": False}, replyto=REPLY)
    world.step()
    assert (world.replies[b"client"]["state"], "warning" in world.replies[b"client"]) == ("running", False)


@pytest.mark.parametrize(("count", "end"), [(9, "'n8'"), (10, "'n9'"), (11, "'n9' and 1 more"), (15, "'n9' and 5 more")])
def test_a_workflow_is_accepted_with_the_names_of_steps_that_nobody_knows(count: int, end: str) -> None:
    world = World()
    register(world, {"name": "a"})
    unknown = {f"n{number}": {"name": f"n{number}"} for number in range(count)}
    submit(world, "w", id="w", tasks={"x": {"name": "a"}, **unknown})
    warning = world.replies[b"client"]["warning"]
    assert warning.startswith("no worker has registered 'n0', 'n1', ")
    assert warning.endswith(f", {end} yet: it waits until one does")
    submit(world, "nobody", root_id="w", key="more")
    assert world.replies[b"client"]["warning"].startswith("no worker has registered 'nobody' yet")


def test_a_client_that_waits_gets_the_end_after_the_warning() -> None:
    world = World()
    submit(world, "later", id="t")
    assert world.replies[b"client"]["kind"] == "accepted"
    register(world, {"name": "later"})
    world.complete(world.dispatched()[0], 1)
    world.step()
    assert world.replies[b"client"]["kind"] == "ended"


def test_an_unknown_name_is_refused_where_its_namespace_is_strict() -> None:
    world = World(settings=EngineSettings(strict_namespaces=frozenset({"shop"})))
    register(world, {"name": "a"})
    assert submit(world, "nobody", id="t", namespace="shop") is None
    reply = world.replies[b"client"]
    assert (reply["kind"], reply["code"]) == ("rejected", "unknown_name")
    assert submit(world, "w", id="w", namespace="shop", tasks={"x": {"name": "a"}, "y": {"name": "nobody"}}) is None
    assert world.replies[b"client"]["reason"].startswith("tasks.y.name: ")
    assert submit(world, "w", id="v", namespace="shop", tasks={"x": {"name": "a"}}) is not None, "a root has no handler"
    assert submit(world, "a", id="u", namespace="shop") is not None
    assert submit(world, "nobody", id="s") is not None


# Versions and namespaces


def test_a_submission_reaches_only_the_version_that_it_names() -> None:
    world = World()
    register(world, {"name": "a"})
    register(world, {"name": "a", "version": "2"}, incarnation="w2")
    for version in ("1", "2"):
        assert submit(world, id=f"t{version}", version=version).version == version
    given = {event.subject: event.data.worker for event in world.events if event.type == "task.dispatched"}
    assert given == {"t1": "w1", "t2": "w2"}
    assert sorted((command.task, command.version) for command in world.dispatched()) == [("t1", "1"), ("t2", "2")]


def test_one_worker_serves_several_versions_and_namespaces_of_a_name() -> None:
    world = World()
    register(world, {"name": "a"}, {"name": "a", "version": "2"}, {"name": "a", "namespace": "shop", "timeout_seconds": 5.0})
    cases = {"t": {}, "u": {"version": "1"}, "v": {"namespace": "shop"}, "w": {"namespace": "shop", "version": "2"}}
    for name, fields in cases.items():
        submit(world, id=name, **fields)
    commands = {command.task: (command.namespace, command.version, command.timeout_seconds) for command in world.dispatched()}
    assert commands == {
        "t": ("default", "2", None),
        "u": ("default", "1", None),
        "v": ("shop", "1", 5.0),
        "w": ("shop", "2", None),
    }


def test_a_worker_with_a_handler_for_one_namespace_gets_nothing_of_another() -> None:
    world = World()
    register(world, {"name": "a", "namespace": "shop"})
    assert submit(world, id="t").unresolved
    assert world.dispatched() == []
    assert submit(world, id="u", namespace="shop").version == "1"
    assert [command.task for command in world.dispatched()] == ["u"]
    register(world, {"name": "a"}, incarnation="w2")
    assert [command.task for command in world.dispatched()] == ["t"]
    assert world.last("task.dispatched").data.worker == "w2"


def test_an_unknown_version_of_a_known_name_is_refused_at_once() -> None:
    world = World()
    register(world, {"name": "a"}, {"name": "a", "version": "1.10"}, {"name": "a", "version": "1.9"})
    assert submit(world, id="t", version="2") is None
    reply = world.replies[b"client"]
    assert (reply["kind"], reply["code"]) == ("rejected", "unknown_version")
    assert reply["reason"] == "version: 'a' has no version '2'; it has 1, 1.9, 1.10"
    submit(world, "w", id="w", tasks={"x": {"name": "a"}})
    steps = {"x": {"name": "a", "version": "9"}}
    for fields, field in (
        ({"name": "w", "id": "v", "tasks": steps}, "tasks.x.version"),
        ({"name": "w", "root_id": "w", "tasks": {"y": steps["x"]}}, "tasks.y.version"),
        ({"name": "a", "root_id": "w", "version": "9"}, "version"),
    ):
        assert submit(world, **fields) is None
        reply = world.replies[b"client"]
        assert (reply["code"], reply["reason"].partition(":")[0]) == ("unknown_version", field)


def test_a_version_of_an_unknown_name_waits_for_that_version() -> None:
    world = World()
    assert submit(world, id="t", version="2").unresolved
    register(world, {"name": "a"})
    assert world.dispatched() == []
    register(world, {"name": "a", "version": "2"}, incarnation="w2")
    (command,) = world.dispatched()
    assert (command.task, command.version, world.last("task.dispatched").data.version) == ("t", "2", "2")
    check_fold(world)


def test_a_repetition_is_one_although_the_default_version_has_changed() -> None:
    world = World()
    register(world, {"name": "a"}, credit=0)
    assert submit(world, id="t").version == "1"
    register(world, {"name": "a", "version": "2"}, incarnation="w2")
    assert submit(world, id="t") is None
    assert world.types()[-1] == "task.deduplicated"
    assert submit(world, id="u").version == "2"


# Deprecation


def test_a_deprecated_version_is_the_default_no_more_and_is_still_taken_by_name() -> None:
    world = World()
    register(world, {"name": "a"}, {"name": "a", "version": "2"})
    deprecate(world, version="2", reason="too slow", by="me")
    assert world.replies[b"client"]["kind"] == "accepted"
    event = world.last("definition.deprecated")
    assert (event.subject, event.from_state, event.to_state, event.data.reason) == ("0/*/a@2", "active", "deprecated", "too slow")
    world.crash()
    assert submit(world, id="t").version == "1"
    assert world.replies[b"client"]["kind"] == "accepted", "the reply is still that of the deprecation"
    assert submit(world, id="u", version="2").version == "2"
    assert world.replies[b"client"]["warning"] == "'*/a@2' is deprecated"
    register(world, {"name": "a", "version": "2", "timeout_seconds": 3.0}, incarnation="w2")
    assert known(world)["*/a@2"]["state"] == "deprecated", "a new registration changes the options only"
    assert submit(world, id="v").version == "1"
    check_log(world)


def test_where_every_version_is_deprecated_the_highest_is_the_default() -> None:
    world = World()
    register(world, {"name": "a"}, {"name": "a", "version": "2"})
    for version in ("1", "2"):
        deprecate(world, version=version)
    assert submit(world, id="t").version == "2"
    assert world.replies[b"client"]["warning"] == "'*/a@2' is deprecated"


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"name": "b"}, "unknown_version"),
        ({"version": "9"}, "unknown_version"),
        ({"namespace": "shop"}, "unknown_version"),
        ({"name": ""}, "malformed"),
        ({"version": "v" * 300}, "malformed"),
        ({"reason": "r" * 5_000}, "invalid_input"),
        ({"by": "b" * 300}, "invalid_input"),
    ],
)
def test_a_deprecation_that_cannot_be_is_refused(fields: dict[str, Any], code: str) -> None:
    world = World()
    register(world, {"name": "a"})
    deprecate(world, **fields)
    reply = world.replies[b"client"]
    assert (reply["kind"], reply["code"]) == ("rejected", code)
    assert known(world)["*/a@1"]["state"] == "active"


@pytest.mark.parametrize("fields", [{"reason": "r" * TEXT_MAX}, {"by": "b" * ID_BYTES}])
def test_the_most_that_a_deprecation_may_say(fields: dict[str, Any]) -> None:
    world = World()
    register(world, {"name": "a"})
    deprecate(world, **{name: text + "+" for name, text in fields.items()})
    assert world.replies[b"client"]["reason"].startswith(next(iter(fields)))
    deprecate(world, **fields)
    assert known(world)["*/a@1"]["state"] == "deprecated"


def test_a_second_deprecation_changes_nothing() -> None:
    world = World()
    register(world, {"name": "a"})
    deprecate(world)
    deprecate(world)
    assert world.replies[b"client"]["code"] == "already_deprecated"
    assert known(world)["*/a@1"]["sequence"] == 2


def test_a_waiting_task_of_an_unknown_name_gets_the_default_version_of_its_first_dispatch() -> None:
    world = World()
    submit(world, id="t")
    register(world, {"name": "a"}, {"name": "a", "version": "2"}, credit=0)
    deprecate(world, version="2")
    world.worker(kind="worker.heartbeat", definitions=None, revision=1)
    world.step()
    assert [command.version for command in world.dispatched()] == ["1"]


def test_ids_of_definitions_say_each_part() -> None:
    assert definition_id(None, "a", "1") == "*/a@1"
    assert definition_id("*", "a/b", "1@2") == "%2A/a%2Fb@1%402"

"""No field is silently dropped: records decode to the values that were encoded, and all fields of a submission take effect."""

from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest
from msgspec import Raw, Struct, json, structs

from schemas import CATALOGUE, StepSpec, Submission, TaskReply
from schemas.commands import COMMANDS, ExecuteAttempt
from schemas.envelope import EventBody
from schemas.events import TaskCreated
from schemas.fields import byte_bounds
from schemas.reports import REPORTS
from schemas.tasks import AdmittedFields, DependencyOn, TaskFields, TaskSpec
from tests.engine.harness import World

STRUCTS = [
    *((f"report {kind}", struct) for kind, struct in REPORTS.items()),
    *((f"command {kind}", struct) for kind, struct in COMMANDS.items()),
    *((f"event {kind}", row.data) for kind, row in CATALOGUE.items()),
    ("reply", TaskReply),
    ("envelope", EventBody),
]


def filled(struct: type[Struct]) -> Any:
    """An instance in which every field differs from its default."""
    return struct(**{field.name: other_than(field.type, field.default) for field in structs.fields(struct)})


def other_than(wanted: Any, default: Any = None) -> Any:
    """A value of a field's type that is not `default` (nor empty, zero or None)."""
    origin, inner = get_origin(wanted), get_args(wanted)
    if origin is Annotated:
        return other_than(inner[0], default)
    if origin is Literal:
        return next(value for value in inner if value != default)
    if origin is Union or str(origin) == "<class 'types.UnionType'>":
        return other_than(next(one for one in inner if one is not type(None)), default)
    if origin is list:
        return [other_than(inner[0])]
    if origin is dict:
        return {"a key": other_than(inner[1])}
    if isinstance(wanted, type) and issubclass(wanted, Struct):
        return filled(wanted)
    return {Any: {"any": 1}, str: "text", int: 7, float: 7.5, bool: default is not True, Raw: Raw(b'{"raw":[1]}')}[wanted]


def plain(value: Any) -> Any:
    """As plain JSON types."""
    return json.decode(json.encode(value))


@pytest.mark.parametrize(("name", "struct"), STRUCTS, ids=[name for name, _ in STRUCTS])
def test_what_crosses_a_topic_is_written_whole_and_read_back_equal(name: str, struct: type[Struct]) -> None:
    value = filled(struct)
    written = json.encode(value)
    assert json.decode(written, type=struct) == value
    assert json.decode(written).keys() == {field.encode_name for field in structs.fields(struct)}
    empty = {field.name: other_than(field.type) for field in structs.fields(struct) if field.required}
    assert json.decode(json.encode(struct(**empty)), type=struct) == struct(**empty), "what is left out is the default"


def submitted(**fields: Any) -> World:
    """A world after a submission, with a worker that takes everything."""
    world = World()
    versions = {"1", "text", fields.get("version", "1")}
    world.worker(definitions=[{"name": "text", "version": version} for version in versions], queues=["text", "default"])
    world.submit(**fields)
    world.step()
    assert "task.rejected" not in world.types(), world.last("task.rejected").data
    return world


def said(struct: type[Struct], *left_out: str) -> dict[str, Any]:
    """A submission that gives every field but these, as plain JSON."""
    fields: dict[str, Any] = plain(filled(struct))
    fields |= {"not_start_after": 3_600, "start_after": 0, "args": {"a": 1}, "delivery": "at_most_once"}
    fields["retry"] |= {"jitter": 0.5}
    return {name: value for name, value in fields.items() if name not in left_out}


#: Fields of a submission that its steps do not have, and that its first event names in its own words.
OF_THE_SUBMISSION_AS_A_WHOLE = {"key", "parent_id", "created_by", "correlation_id"}

#: Where the fields of a submission are on the log. A new field needs a line here, and to be there.
ON_THE_ENVELOPE = {
    "id": "subject",
    "namespace": "namespace",
    "root_id": "rootid",
    "correlation_id": "correlationid",
}
AS_A_TIME = {"not_start_after"}  # seconds from now become a point in time
OF_A_GRAPH = {"key", "depends_on", "tasks", "root_id"}
OF_AN_IDEMPOTENT_TASK = {"idempotency_key", "idempotency_window"}


def test_every_field_of_a_task_is_on_its_first_event() -> None:
    fields = said(Submission, *OF_A_GRAPH, *OF_AN_IDEMPOTENT_TASK)
    event = submitted(**fields).last("task.created")
    created = plain(event.data)
    for name, value in fields.items():
        if name in ON_THE_ENVELOPE:
            assert getattr(event, ON_THE_ENVELOPE[name]) == value, name
        elif name in AS_A_TIME:
            assert created[name] > event.time, name
        else:
            assert created[name] == value, name
    assert fields.keys() | OF_A_GRAPH | OF_AN_IDEMPOTENT_TASK == {field.name for field in structs.fields(Submission)}


def test_the_fields_of_an_idempotent_task_are_on_its_first_event() -> None:
    created = plain(submitted(name="text", idempotency_key="once", idempotency_window=60.0).last("task.created").data)
    assert (created["idempotency_key"], created["idempotency_window"]) == ("once", 60.0)


def test_every_field_of_a_step_is_on_its_first_event() -> None:
    fields = said(StepSpec, "idempotency_key") | {"depends_on": [{"task": "before", "on": "ended"}]}
    steps = {"before": {"name": "text"}, "step": fields}
    world = submitted(id="root", name="text", tasks=steps, namespace="n", correlation_id="c")
    [event] = [event for event in world.events if event.type == "task.created" and event.data.key == "step"]
    created = plain(event.data)
    for name, value in fields.items():
        if name in AS_A_TIME:
            assert created[name] > event.time, name
        elif name == "depends_on":
            assert [one["on"] for one in created[name]] == ["ended"]
        else:
            assert created[name] == value, name
    assert (event.namespace, event.rootid, event.correlationid) == ("n", "root", "c")
    assert fields.keys() | {"idempotency_key"} == {field.name for field in structs.fields(StepSpec)}
    root = plain(next(event for event in world.events if event.type == "task.created" and event.subject == "root").data)
    assert root["tasks"] == steps
    assert root["steps_total"] == 2


#: Fields of a command that are the attempt's own, or the engine's answer; all others are those of the task.
OF_THE_ATTEMPT = {
    "task", "root", "partition", "attempt", "dispatch", "token", "dependencies", "dependencies_omitted", "lease_seconds",
    "start_seconds", "timeout_seconds", "max_attempts", "traceparent", "key",
}  # fmt: skip


def test_a_command_has_what_the_task_was_created_with() -> None:
    fields = said(Submission, *OF_A_GRAPH, *OF_AN_IDEMPOTENT_TASK)
    world = submitted(**fields)
    [dispatched] = world.dispatched()
    command = plain(dispatched)
    assert command.keys() | OF_THE_ATTEMPT == {field.name for field in structs.fields(ExecuteAttempt)}
    for name in command.keys() - OF_THE_ATTEMPT:
        assert command[name] == fields[name], name
    assert dispatched.timeout_seconds == fields["timeouts"]["attempt"]
    assert dispatched.max_attempts == 1, "at most once"


def declared_by(struct: type[Struct]) -> dict[str, tuple[Any, str]]:
    """Type (without its description) and default of the fields that a struct does not inherit, by name."""
    inherited = {field.name for base in struct.__bases__ if issubclass(base, Struct) for field in structs.fields(base)}
    fields = [field for field in structs.fields(struct) if field.name not in inherited]
    return {field.name: (bare(field.type), repr(field.default)) for field in fields}


def bare(wanted: Any) -> Any:
    return get_args(wanted)[0] if get_origin(wanted) is Annotated else wanted


@pytest.mark.parametrize("submitted_as", [TaskSpec, Submission, StepSpec])
@pytest.mark.parametrize("carried_by", [TaskCreated, ExecuteAttempt])
def test_what_is_the_same_is_declared_once(submitted_as: type[Struct], carried_by: type[Struct]) -> None:
    """A field that each of two structs had for itself could be accepted by one and missing in the other."""
    same = {name for name, _ in declared_by(submitted_as).items() & declared_by(carried_by).items()}
    assert same <= OF_THE_SUBMISSION_AS_A_WHOLE
    assert issubclass(submitted_as, AdmittedFields)
    assert issubclass(carried_by, TaskFields)


@pytest.mark.parametrize("field", byte_bounds(Submission))
def test_a_text_is_admitted_up_to_its_declared_length_and_rejected_beyond(field: str) -> None:
    longest = byte_bounds(Submission)[field]
    more = {"namespace": "n"} | {field: "ü" * (longest // 2) + "x"}
    assert submitted(name="text", **more)
    world = World()
    world.submit(name="text", **{field: more[field] + "x"})
    world.step()
    rejected = world.last("task.rejected").data
    assert (rejected.code, rejected.reason) == ("limit_exceeded", f"{field}: longer than {longest} bytes")


@pytest.mark.parametrize("field", sorted(byte_bounds(StepSpec).keys() - {"idempotency_key"}))
def test_a_text_of_a_step_is_rejected_with_its_path(field: str) -> None:
    world = World()
    world.submit(name="text", tasks={"a": {"name": "text", field: "x" * 256}})
    world.step()
    assert world.last("task.rejected").data.reason == f"tasks.a.{field}: longer than 255 bytes"


def test_what_no_command_carries_is_for_readers_of_the_log_only() -> None:
    """Such a field of the first event is neither for the worker nor forgotten: a new one needs a decision."""
    carried = {field.name for field in structs.fields(ExecuteAttempt)}
    known_to_the_engine = {"depends_on", "tasks", "steps_total", "start_after", "not_start_after", "timeouts", "retry"}
    known_to_the_engine |= {"policy", "unresolved"}
    about_the_submission = {"payload_hash", "log_offset", "origin", "source", "idempotency_key", "idempotency_window"}
    for_readers = {
        "external_id", "account_id", "user_id", "category", "subject", "description", "annotations", "parent_id", "created_by",
        "trace_link",
    }  # fmt: skip
    created = {field.name for field in structs.fields(TaskCreated)}
    assert created - carried == known_to_the_engine | about_the_submission | for_readers


def test_every_condition_of_a_dependency_reaches_the_log() -> None:
    for condition in get_args(DependencyOn):
        steps = {"a": {"name": "text"}, "b": {"name": "text", "depends_on": [{"task": "a", "on": condition}]}}
        world = submitted(id="root", name="text", tasks=steps)
        [event] = [event for event in world.events if event.type == "task.created" and event.data.key == "b"]
        assert [one.on for one in event.data.depends_on] == [condition]

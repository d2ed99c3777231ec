"""Rows of `hub.state` that no engine can have written are found, and no row that an engine writes is."""

import re
from typing import Any

import msgspec
import pytest

from hub.engine.foreign_rows import problem_of_row
from tests.engine.harness import World


@pytest.fixture(scope="module")
def rows() -> dict[bytes, bytes]:
    """What an engine wrote: tasks in several states, a workflow, a definition, a worker."""
    world = World()
    world.worker()
    world.put("task.created", {"id": "w", "name": "w", "tasks": {"a": {"name": "a"}, "b": {"name": "b", "depends_on": ["a"]}}})
    for name, task in (("nobody", "waits"), ("a", "sent"), ("a", "begun"), ("a", "done")):
        world.submit(name=name, id=task)
    world.step()
    for command in world.dispatched():
        if command.task == "done":
            world.complete(command, 1)
        if command.task == "begun":
            world.report(command, "attempt.started", number=1)
    world.step()
    return world.rows


def changed(row: bytes, **fields: Any) -> bytes:
    """The row with other fields; None removes one."""
    decoded = {**msgspec.json.decode(row), **fields}
    return msgspec.json.encode({name: value for name, value in decoded.items() if value is not None})


def test_no_row_of_an_engine_is_foreign(rows: dict[bytes, bytes]) -> None:
    assert {key: problem for key, row in rows.items() if (problem := problem_of_row(key, row)) is not None} == {}
    states = {msgspec.json.decode(row).get("state") for key, row in rows.items() if key.startswith(b"task/")}
    assert {"ready", "dispatched", "running", "blocked", None} <= states


@pytest.mark.parametrize(
    ("key", "fields", "problem"),
    [
        (b"task/sent", {"state": "flying"}, "ValueError: invalid state 'flying'"),
        (b"task/sent", {"created_at": "yesterday"}, "ValueError: .*yesterday"),
        (b"task/sent", {"lease": None}, "ValueError: missing lease in state dispatched"),
        (b"task/begun", {"lease": None}, "ValueError: missing lease in state running"),
        (b"task/sent", {"run": "x"}, "ValidationError: .*run"),
        (b"task/done", {"ended": "running"}, "ValueError: ended is 'running'"),
        (b"definition/0/*/a@1", {"definition": {"name": "b"}}, r"ValueError: definition is '\*/b@1'"),
        (b"definition/0/*/a@1", {"state": "gone"}, "ValueError: state is 'gone'"),
        (b"definition/0/*/a@1", {"definition": {"name": "a", "timeout_seconds": -1}}, "ValueError: .*timeout_seconds"),
    ],
)
def test_a_row_that_no_engine_writes_is_foreign(
    rows: dict[bytes, bytes], key: bytes, fields: dict[str, Any], problem: str
) -> None:
    found = problem_of_row(key, changed(rows[key], **fields))
    assert found is not None
    assert re.match(problem, found), found


@pytest.mark.parametrize("state", ["completed", "failed", "cancelled"])
def test_the_row_of_a_task_that_ended_in_memory_may_be_whole(rows: dict[bytes, bytes], state: str) -> None:
    assert problem_of_row(b"task/sent", changed(rows[b"task/sent"], state=state, lease=None)) is None


def test_a_deprecated_definition_is_not_foreign(rows: dict[bytes, bytes]) -> None:
    assert problem_of_row(b"definition/0/*/a@1", changed(rows[b"definition/0/*/a@1"], state="deprecated")) is None


@pytest.mark.parametrize("key", [b"args/t", b"plan/t", b"task/t", b"worker/w", b"definition/0/*/a@1"])
def test_bytes_that_are_no_json_are_foreign(key: bytes) -> None:
    assert problem_of_row(key, b'{"a":') is not None


def test_rows_of_kinds_that_are_not_known_are_ignored() -> None:
    assert problem_of_row(b"later/x", b"\xff") is None
    assert problem_of_row(b"no kind", b"\xff") is None

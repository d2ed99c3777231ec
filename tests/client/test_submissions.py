"""What a client refuses before it sends is what the engine rejects: the same code, the same reason."""

import asyncio
import subprocess
import sys
from typing import Any

import pytest

from hub import HubError, InvalidRequestError, InvalidSubmissionError, TaskRejectedError, WaitTimeoutError, Workflow
from hub.client import Hub
from hub.client.submissions import checked
from hub.errors import ConfigurationError
from hub.testing import HubInMemory
from schemas.tasks import ARGS_BYTES_MAX, STEPS_MAX
from tests.engine.harness import World
from tests.ports import free_port
from tests.testing.app import tasks

LONG = "x" * 256
STEPS = {"a": {"name": "n"}, "b": {"name": "n", "depends_on": ["a"]}}

INVALID: dict[str, dict[str, Any]] = {
    "an unknown field": {"name": "n", "prioritty": 1},
    "a value of another type": {"name": "n", "priority": "high"},
    "a missing name of a step": {"name": "n", "tasks": {"a": {}}},
    "a delivery that there is not": {"name": "n", "delivery": "sometimes"},
    "an empty name": {"name": ""},
    "a long id": {"name": "n", "id": LONG},
    "an id and a key": {"name": "n", "id": "x", "idempotency_key": "y"},
    "a key of a step and an id": {"name": "n", "root_id": "r", "key": "k", "id": "x"},
    "a window of a century": {"name": "n", "id": "t", "idempotency_window": 1e10},
    "a text for a time": {"name": "n", "id": "t", "start_after": "tomorrow"},
    "a time without a zone": {"name": "n", "id": "t", "not_start_after": "2026-01-31T12:00:00"},
    "a negative delay": {"name": "n", "id": "t", "start_after": -1},
    "a timeout of nothing": {"name": "n", "id": "t", "timeouts": {"attempt": 0}},
    "a retry of nothing": {"name": "n", "id": "t", "retry": {"max_attempts": 0}},
    "a priority out of bounds": {"name": "n", "id": "t", "priority": 10_000_000},
    "a long queue": {"name": "n", "id": "t", "queue": LONG},
    "a long account": {"name": "n", "id": "t", "account_id": LONG},
    "arguments that are too large": {"name": "n", "id": "t", "args": {"x": "y" * ARGS_BYTES_MAX}},
    "too many tags": {"name": "n", "id": "t", "tags": {str(number): "" for number in range(65)}},
    "a dependency of a task alone": {"name": "n", "id": "t", "depends_on": ["a"]},
    "a graph of nothing": {"name": "n", "id": "t", "tasks": {}},
    "a step that nobody has": {"name": "n", "id": "t", "tasks": {"a": {"name": "n", "depends_on": ["b"]}}},
    "a step that waits for itself": {"name": "n", "id": "t", "tasks": {"a": {"name": "n", "depends_on": ["a"]}}},
    "a circle": {"name": "n", "id": "t", "tasks": {**STEPS, "a": {"name": "n", "depends_on": ["b"]}}},
    "a graph that is too large": {
        "name": "n",
        "id": "t",
        "tasks": {str(number): {"name": "n"} for number in range(STEPS_MAX + 1)},
    },
    "a wrong field of a step": {"name": "n", "id": "t", "tasks": {**STEPS, "a": {"name": "n", "start_after": "soon"}}},
    "a key of a step of a graph": {"name": "n", "id": "t", "tasks": {"a": {"name": "n", "idempotency_key": "k"}}},
    "a retry of a root": {"name": "n", "id": "t", "tasks": STEPS, "retry": {"max_attempts": 2}},
}
INVALID_ADDITIONS: dict[str, dict[str, Any]] = {
    "too many steps": {"name": "n", "root_id": "flow", "tasks": {str(number): {"name": "n"} for number in range(301)}},
    "a circle": {"name": "n", "root_id": "flow", "tasks": {**STEPS, "a": {"name": "n", "depends_on": ["b"]}}},
    "a wrong field of a step": {"name": "n", "root_id": "flow", "tasks": {"a": {"name": ""}}},
    "a wrong field": {"name": "n", "root_id": "flow", "key": "a", "start_after": -1},
    "a long key": {"name": "n", "root_id": "flow", "key": LONG},
}


def rejected(world: World, fields: dict[str, Any]) -> tuple[str, str]:
    world.put("task.created", fields)
    world.step()
    data = world.last("task.rejected").data
    return data.code, data.reason


def refused(fields: dict[str, Any]) -> tuple[str, str]:
    with pytest.raises(InvalidSubmissionError) as error:
        checked(fields)
    assert isinstance(error.value, TaskRejectedError)
    assert isinstance(error.value, HubError)
    assert error.value.exit_code == 2
    return error.value.code, error.value.reason


@pytest.mark.parametrize("case", INVALID)
def test_what_the_engine_rejects_is_refused_before_it_is_sent_with_the_same_code_and_reason(case: str) -> None:
    assert refused(INVALID[case]) == rejected(World(), INVALID[case])


@pytest.mark.parametrize("case", INVALID_ADDITIONS)
def test_steps_for_a_live_workflow_are_refused_before_they_are_sent_too(case: str) -> None:
    world = World()
    world.put("task.created", {"name": "n", "id": "flow", "tasks": {"first": {"name": "n"}}})
    world.step()
    assert refused(INVALID_ADDITIONS[case]) == rejected(world, INVALID_ADDITIONS[case])


@pytest.mark.parametrize(
    "fields",
    [
        {"name": "n", "start_after": "2026-01-31T12:00:00Z"},
        {"name": "n", "tasks": STEPS},
        {"name": "n", "root_id": "flow", "key": "more", "depends_on": ["what the engine knows"]},
        {"name": "n", "root_id": "flow", "depends_on": ["first"]},
        {"name": "n", "root_id": "flow", "tasks": {"more": {"name": "n", "depends_on": ["first"]}}},
    ],
)
def test_what_only_the_engine_can_judge_is_sent(fields: dict[str, Any]) -> None:
    assert checked(fields).name == "n"


@pytest.mark.parametrize("value", [object(), "\ud800"])
def test_arguments_that_are_not_json_are_refused(value: Any) -> None:
    with pytest.raises(InvalidSubmissionError, match="cannot be written as JSON"):
        checked({"name": "n", "args": {"x": value}})


async def test_a_submission_that_is_refused_is_not_on_the_log() -> None:
    async with HubInMemory(tasks) as hub:
        with pytest.raises(InvalidSubmissionError, match="invalid_input.*start_after.*'tomorrow' is not an RFC 3339 time"):
            await hub.submit("add", {"a": 1, "b": 1}, start_after="tomorrow")
        with pytest.raises(InvalidSubmissionError, match="timeouts.total"):
            await hub.submit(Workflow("flow", timeouts={"total": -1}).step("a", "add"))
        await hub.settle()
        assert [event for event in hub.events if event.type.startswith("task.")] == []


async def test_what_depends_on_the_engines_state_is_known_when_it_has_decided() -> None:
    async with HubInMemory(tasks) as hub:
        task = await hub.submit("add", {"a": 1, "b": 1}, id="one", start_after=60)
        assert (await task.admitted()).state == "scheduled"
        other = await hub.submit("add", {"a": 2, "b": 2}, id="one")
        with pytest.raises(TaskRejectedError) as conflict:
            await other.admitted()
        assert (conflict.value.code, conflict.value.task) == ("id_conflict", "one")
        with pytest.raises(TaskRejectedError, match="unknown_root"):
            await (await hub.submit("add", root_id="nowhere", key="k")).admitted()
        again = await hub.submit("add", {"a": 1, "b": 1}, id="one", start_after=60)
        assert (await again.admitted()).state == "scheduled"
        with pytest.raises(ValueError, match="reply=False"):
            await (await hub.submit("add", reply=False)).admitted()


async def test_a_cancel_is_confirmed_or_refused() -> None:
    async with HubInMemory(tasks) as hub:
        await hub.submit("add", {"a": 1, "b": 1}, id="later", start_after=60)
        assert (await hub.cancel_confirmed("later", reason="not wanted")).state == "cancelled"
        with pytest.raises(TaskRejectedError) as ended:
            await hub.cancel_confirmed("later")
        with pytest.raises(TaskRejectedError) as unknown:
            await hub.cancel_confirmed("nowhere")
        assert (ended.value.code, unknown.value.code) == ("already_ended", "unknown_task")
        await hub.submit("sleep", {"seconds": 60}, id="asleep")
        await hub.settle()
        assert (await hub.cancel_confirmed("asleep")).state in ("running", "cancelled")


@pytest.mark.parametrize(("task", "root", "reason"), [("", None, ""), (LONG, None, ""), ("t", LONG, ""), ("t", None, "x" * 5000)])
async def test_a_request_that_cannot_be_is_refused_before_it_is_sent(task: str, root: str | None, reason: str) -> None:
    async with HubInMemory(tasks) as hub:
        with pytest.raises(InvalidRequestError, match="request is invalid"):
            await hub.cancel(task, root=root, reason=reason)
        if not reason:
            with pytest.raises(InvalidRequestError, match="malformed"):
                await hub.get(task, root=root)
        await hub.settle()
        assert [event for event in hub.events if event.type == "task.rejected"] == []


async def test_a_wait_that_is_over_says_which_task_in_which_state_and_what_to_do() -> None:
    async with HubInMemory(tasks) as hub:
        task = await hub.submit("add", {"a": 1, "b": 1}, id="later", start_after=60)
        waiting = asyncio.create_task(task.result(timeout_seconds=5))
        await hub.advance(seconds=5)
        with pytest.raises(WaitTimeoutError, match=r"Task later has not ended within 5 s; it is scheduled\. It continues: "):
            await waiting


def test_without_a_broker_a_program_ends_with_one_traceback_and_one_sentence() -> None:
    address = f"127.0.0.1:{free_port()}"
    script = f"import asyncio, hub\nasync def main():\n    async with hub.Hub({address!r}): ...\nasyncio.run(main())\n"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.count("Traceback") == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("hub.kafka.errors.BrokerUnreachable: No Kafka broker ")
    assert address in last


def test_a_source_that_no_engine_takes_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="source: it is longer than 1024 bytes"):
        Hub("127.0.0.1:1", source="é" * 600)

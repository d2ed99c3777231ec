"""The parts of the client that need no hub: building workflows and submissions, errors for unsuccessful tasks."""

from typing import Any

import pytest
from msgspec import Raw

from hub.client import (
    InvalidSubmissionError,
    TaskCancelledError,
    TaskFailedError,
    TaskRejectedError,
    TaskUnknownError,
    Workflow,
    error_of,
)
from hub.client.submissions import checked, identity_of, submission_of
from hub.worker import TaskRegistry
from schemas import Submission, TaskError, TaskReply

tasks = TaskRegistry()
BROKEN = TaskError(type="E", message="m")


@tasks.task("charge", queue="money", retry={"max_attempts": 7})
async def charge(order: int) -> None: ...


def test_a_workflow_is_plain_json_underneath() -> None:
    flow = (
        Workflow("fulfil", {"order": 1}, tags={"shop": "x"})
        .step("reserve", "reserve-stock", {"sku": 1})
        .step("charge", charge, {"order": 1}, after=["reserve"])
        .step("undo", "undo", after=["charge"], on="failure", priority=5)
    )
    plain = flow.to_json()
    assert plain["tasks"]["charge"].pop("retry")["max_attempts"] == 7
    assert plain == {
        "name": "fulfil",
        "args": {"order": 1},
        "tags": {"shop": "x"},
        "tasks": {
            "reserve": {"name": "reserve-stock", "args": {"sku": 1}},
            "charge": {
                "name": "charge",
                "queue": "money",
                "args": {"order": 1},
                "depends_on": ["reserve"],
            },
            "undo": {"name": "undo", "priority": 5, "depends_on": [{"task": "charge", "on": "failure"}]},
        },
    }


def test_a_step_that_repeats_a_key_or_waits_for_nobody_is_refused_at_once() -> None:
    flow = Workflow("w").step("a")
    with pytest.raises(InvalidSubmissionError, match="'a'"):
        flow.step("a")
    with pytest.raises(InvalidSubmissionError, match="'later'"):
        flow.step("b", after=["later"])
    with pytest.raises(InvalidSubmissionError, match="neither"):
        flow.step("c", 7)


def test_options_of_a_function_are_the_defaults_of_its_submissions() -> None:
    submission = submission_of(charge, {"order": 1}, {"queue": "other"})
    assert (submission.name, submission.queue) == ("charge", "other")
    assert submission.retry is not None
    assert submission.retry.max_attempts == 7


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"name": "a", "prioritty": 1}, "prioritty"),
        ({"name": "a", "priority": "high"}, "priority"),
        ({"name": ""}, "name"),
        ({"name": "a", "id": ""}, "id"),
        ({"name": "a", "id": "x", "idempotency_key": "y"}, "idempotency_key"),
        ({"name": "a", "args": {"x": object()}}, "cannot be written as JSON"),
        ({"name": "a", "tasks": {"x": {"name": "b", "nope": 1}}}, "nope"),
    ],
)
def test_a_submission_that_cannot_be_is_refused_here_naming_the_field(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidSubmissionError, match=words):
        checked(fields)


def test_ids_are_drawn_where_nothing_says_them_and_derived_where_something_does() -> None:
    drawn = [identity_of(Submission(name="a")) for _ in range(2)]
    assert drawn[0] != drawn[1]
    assert all(task == root for task, root in drawn)
    keyed = [identity_of(Submission(name="a", idempotency_key="k")) for _ in range(2)]
    assert keyed[0] == keyed[1]
    step = identity_of(Submission(name="a", root_id="r", key="k"))
    assert step[1] == "r"
    assert step[0] not in ("r", "k")


@pytest.mark.parametrize(
    ("reply", "kind", "words"),
    [
        (
            TaskReply(kind="ended", task="t", partition=0, state="failed", error=TaskError(type="E", message="m")),
            TaskFailedError,
            "E: m",
        ),
        (TaskReply(kind="ended", task="t", partition=0, state="cancelled", reason="enough"), TaskCancelledError, "enough"),
        (TaskReply(kind="rejected", task="t", partition=0, code="cycle", reason="a -> a"), TaskRejectedError, "cycle.*a -> a"),
        (TaskReply(kind="unknown", task="t", partition=0), TaskUnknownError, "unknown or has expired"),
    ],
)
def test_a_bad_end_is_an_exception_that_carries_the_reply(reply: TaskReply, kind: type[Exception], words: str) -> None:
    error = error_of(reply)
    assert isinstance(error, kind)
    assert error.reply is reply
    with pytest.raises(kind, match=words):
        raise error


def test_a_good_end_and_a_living_task_are_no_errors() -> None:
    assert error_of(TaskReply(kind="ended", task="t", partition=0, state="completed", result=Raw(b"1"))) is None
    assert error_of(TaskReply(kind="state", task="t", partition=0, state="running")) is None

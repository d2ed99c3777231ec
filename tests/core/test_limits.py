"""Limits: what is exactly at a limit is accepted, and what is beyond it is refused with its field."""

from collections.abc import Callable
from typing import Any

import pytest
from msgspec import convert, json

from hub.core import bounds, graph
from hub.core.admission import validity
from hub.core.admission.validity import check_submission
from hub.core.bounds import cut, cut_error
from hub.core.fleet.definitions import check_definitions, problem_of_definition
from hub.core.fleet.workers import check_worker
from hub.core.tasks.retry import ATTEMPTS_MAX, DELAYS_MAX, problem_of_options
from schemas import Definition, Submission, TaskError, TaskOptions
from schemas import reports as r
from schemas.tasks import ANNOTATIONS_MAX, ARGS_BYTES_MAX

YEAR = bounds.SECONDS_MAX


def refusal(**fields: Any) -> str | None:
    """Why a submission is refused."""
    problem = check_submission(json.decode(json.encode({"name": "a", "id": "t", **fields}), type=Submission))
    return None if problem is None else problem.reason


def a_bit_more(number: float) -> float:
    return number + 1 if isinstance(number, int) else number * 1.001 or 0.001


def args_of(size: int) -> dict[str, str]:
    """Arguments of so many bytes as JSON."""
    return {"a": "x" * (size - len('{"a":""}'))}


def pairs_of(count: int) -> dict[str, str]:
    return {f"k{number}": "v" for number in range(count)}


def pairs_bytes(size: int) -> dict[str, str]:
    return {"k": "v" * (size - len('{"k":""}'))}


@pytest.mark.parametrize(
    ("make", "limit", "field"),
    [
        (lambda n: {"name": "n" * n}, 255, "name"),
        (lambda n: {"id": "i" * n}, 255, "id"),
        (lambda n: {"queue": "q" * n}, 255, "queue"),
        (lambda n: {"description": "d" * n}, bounds.TEXT_MAX, "description"),
        (lambda n: {"description": "ä" * n}, bounds.TEXT_MAX, "description"),
        (lambda n: {"correlation_id": "c" * n}, 255, "correlation_id"),
        (lambda n: {"tags": pairs_of(n)}, ANNOTATIONS_MAX, "tags"),
        (lambda n: {"annotations": pairs_of(n)}, ANNOTATIONS_MAX, "annotations"),
        (lambda n: {"tags": pairs_bytes(n)}, bounds.TAGS_BYTES, "tags"),
        (lambda n: {"annotations": pairs_bytes(n)}, bounds.TAGS_BYTES, "annotations"),
        (lambda n: {"args": args_of(n)}, ARGS_BYTES_MAX, "args"),
        (lambda n: {"priority": n}, 1_000_000, "priority"),
        (lambda n: {"priority": -n}, 1_000_000, "priority"),
        (lambda n: {"start_after": n}, YEAR, "start_after"),
        (lambda n: {"not_start_after": n}, YEAR, "not_start_after"),
        (lambda n: {"timeouts": {"total": n}}, YEAR, "timeouts.total"),
        (lambda n: {"timeouts": {"start": n}}, YEAR, "timeouts.start"),
        (lambda n: {"timeouts": {"attempt": n}}, YEAR, "timeouts.attempt"),
        (lambda n: {"id": None, "idempotency_key": "k", "idempotency_window": n}, YEAR, "idempotency_window"),
        (lambda n: {"retry": {"max_attempts": n}}, ATTEMPTS_MAX, "retry.max_attempts"),
        (lambda n: {"retry": {"max_lost": n}}, ATTEMPTS_MAX, "retry.max_lost"),
        (lambda n: {"retry": {"jitter": n}}, 1.0, "retry.jitter"),
        (lambda n: {"retry": {"backoff": [1] * n}}, DELAYS_MAX, "retry.backoff"),
        (lambda n: {"retry": {"backoff": [1, n]}}, YEAR, "retry.backoff"),
        (lambda n: {"retry": {"backoff": {"max": n}}}, YEAR, "retry.backoff"),
        (lambda n: {"tasks": {"k" * n: {"name": "a"}}}, 255, "tasks"),
    ],
)
def test_the_most_that_a_submission_may_say(make: Callable[[Any], dict[str, Any]], limit: float, field: str) -> None:
    assert refusal(**make(limit)) is None
    beyond = refusal(**make(a_bit_more(limit)))
    assert beyond is not None
    assert beyond.startswith(field)


@pytest.mark.parametrize(
    ("make", "least", "too_little", "field"),
    [
        (lambda n: {"start_after": n}, 0, -0.001, "start_after"),
        (lambda n: {"not_start_after": n}, 0, -0.001, "not_start_after"),
        (lambda n: {"timeouts": {"attempt": n}}, 0.001, 0, "timeouts.attempt"),
        (lambda n: {"id": None, "idempotency_key": "k", "idempotency_window": n}, 0.001, 0, "idempotency_window"),
        (lambda n: {"retry": {"max_attempts": n}}, 1, 0, "retry.max_attempts"),
        (lambda n: {"retry": {"max_lost": n}}, 0, -1, "retry.max_lost"),
        (lambda n: {"retry": {"jitter": n}}, 0, -0.001, "retry.jitter"),
        (lambda n: {"retry": {"backoff": [n]}}, 0, -0.001, "retry.backoff"),
        (lambda n: {"name": "n" * n}, 1, 0, "name"),
        (lambda n: {"tasks": {f"s{i}": {"name": "a"} for i in range(n)}}, 1, 0, "tasks"),
    ],
)
def test_the_least_that_a_submission_may_say(
    make: Callable[[Any], dict[str, Any]], least: float, too_little: float, field: str
) -> None:
    assert refusal(**make(least)) is None
    below = refusal(**make(too_little))
    assert below is not None
    assert below.startswith(field)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"args": [1]}, "args: must be a JSON object"),
        ({"tasks": {"x": {"name": "a", "args": [1]}}}, "tasks.x.args: must be a JSON object"),
        ({"depends_on": ["a step of the workflow"]}, None),
        ({"tasks": {"x": {"name": "a", "depends_on": ["a step of the workflow"]}}}, None),
    ],
)
def test_an_addition_is_checked_as_far_as_the_workflow_need_not_be_known(fields: dict[str, Any], reason: str | None) -> None:
    assert refusal(id=None, root_id="root", **fields) == reason


# --- graphs


def steps(count: int, *, after: Callable[[int], list[int]] = lambda number: []) -> dict[str, Any]:
    return {f"s{n}": {"name": "a", "depends_on": [f"s{other}" for other in after(n)]} for n in range(count)}


@pytest.mark.parametrize(
    ("limit", "at_it", "beyond"),
    [
        ("STEPS_MAX", steps(4), steps(5)),
        ("DEPTH_MAX", steps(4, after=lambda n: [n - 1] if n else []), steps(5, after=lambda n: [n - 1] if n else [])),
        ("EDGES_MAX", steps(5, after=lambda n: [n - 1] if n else []), steps(6, after=lambda n: [n - 1] if n else [])),
        ("FAN_OUT_MAX", steps(5, after=lambda n: [0] if n else []), steps(6, after=lambda n: [0] if n else [])),
    ],
)
def test_the_largest_graph(monkeypatch: pytest.MonkeyPatch, limit: str, at_it: dict[str, Any], beyond: dict[str, Any]) -> None:
    monkeypatch.setattr(graph, limit, 4)
    assert refusal(tasks=at_it) is None
    problem = refusal(tasks=beyond)
    assert problem is not None
    assert problem.startswith("tasks: ")
    assert " at most 4 " in problem


def test_the_most_steps_that_are_added_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validity, "ADDED_STEPS_MAX", 4)
    assert refusal(id=None, root_id="root", tasks=steps(4)) is None
    assert refusal(id=None, root_id="root", tasks=steps(5)) == "tasks: at most 4 steps can be added at once, got 5"


@pytest.mark.parametrize(("length", "shown"), [(11, 12), (12, 12), (30, 12)])
def test_a_cycle_is_shown_whole_unless_it_is_long(length: int, shown: int) -> None:
    problem = refusal(tasks=steps(length, after=lambda n: [(n + 1) % length]))
    assert problem is not None
    names = problem.partition(": these steps form a dependency cycle: ")[2].split(" -> ")
    assert len(names) == shown
    assert names[0] == names[-1]
    assert ("..." in names) == (length > 11)


# --- workers


def worker(**fields: Any) -> r.WorkerRegistered:
    least = {"incarnation": "w", "pool": "p", "inbox": 0, "queues": ["q"], "slots": 1, "credit": 1, "lease_seconds": 10.0}
    return convert({**least, **fields}, r.WorkerRegistered)


@pytest.mark.parametrize(
    ("make", "limit", "field"),
    [
        (lambda n: {"lease_seconds": n}, bounds.LEASE_SECONDS_MAX, "lease_seconds"),
        (lambda n: {"incarnation": "ä" * 127 + "x" * (n - 254)}, 255, "incarnation"),
        (lambda n: {"pool": "ä" * 127 + "x" * (n - 254)}, 255, "pool"),
        (lambda n: {"host": "ä" * 127 + "x" * (n - 254)}, 255, "host"),
        (lambda n: {"queues": ["q"] * n}, bounds.QUEUES_MAX, "queues"),
        (lambda n: {"queues": ["q", "q" * n]}, 255, "queues"),
        (lambda n: {"inbox": n}, 15, "inbox"),
        (lambda n: {"definitions": [{"name": f"n{i}"} for i in range(n)]}, bounds.DEFINITIONS_MAX, "definitions"),
        (lambda n: {"definitions": [{"name": "n" * n}]}, 255, "definitions[0].name"),
        (lambda n: {"definitions": [{"name": "a"}, {"name": "b", "priority": n}]}, 1_000_000, "definitions[1].priority"),
        (lambda n: {"definitions": [{"name": "a", "priority": -n}]}, 1_000_000, "definitions[0].priority"),
        (lambda n: {"definitions": [{"name": "a", "timeout_seconds": n}]}, YEAR, "definitions[0].timeout_seconds"),
    ],
)
def test_the_most_that_a_worker_may_say(make: Callable[[Any], dict[str, Any]], limit: float, field: str) -> None:
    assert check_worker(worker(**make(limit)), 16) is None
    beyond = check_worker(worker(**make(a_bit_more(limit))), 16)
    assert beyond is not None
    assert beyond.startswith(field)


def test_the_least_that_a_worker_may_say() -> None:
    assert check_worker(worker(lease_seconds=0.001), 16) is None
    assert (check_worker(worker(lease_seconds=0), 16) or "").startswith("lease_seconds")
    assert problem_of_options(TaskOptions(timeout_seconds=0.001)) is None
    assert (problem_of_options(TaskOptions(timeout_seconds=0)) or "").startswith("timeout_seconds")
    assert problem_of_definition(Definition(name="n")) is None


def test_an_inbox_that_is_not_there_is_refused_with_those_that_are() -> None:
    assert check_worker(worker(inbox=16), 16) == "inbox: must be between 0 and 15, got 16"


def test_a_definition_is_named_once() -> None:
    once = [{"name": "a"}, {"name": "a", "version": "2"}, {"name": "a", "namespace": "other"}]
    assert check_definitions(worker(definitions=once)) is None
    assert check_definitions(worker(definitions=[*once, {"name": "a"}])) == "definitions: one is named twice"


# --- requests and errors


@pytest.mark.parametrize(
    ("make", "limit", "field"),
    [(lambda n: {"reason": "r" * n}, bounds.TEXT_MAX, "reason"), (lambda n: {"by": "b" * n}, 255, "by")],
)
def test_the_most_that_a_cancel_may_say(make: Callable[[int], dict[str, str]], limit: int, field: str) -> None:
    assert bounds.check_cancel(convert({"id": "t", **make(limit)}, r.TaskCancel)) is None
    assert (bounds.check_cancel(convert({"id": "t", **make(limit + 1)}, r.TaskCancel)) or "").startswith(field)


def test_a_text_is_cut_only_beyond_its_limit() -> None:
    assert cut("x" * 10, 10) == "x" * 10
    assert cut("x" * 11, 10) == "x" * 9 + "…"


@pytest.mark.parametrize("field", ["type", "message", "stacktrace"])
def test_an_error_is_cut_only_beyond_its_limits(field: str) -> None:
    limits = {"type": bounds.ID_BYTES, "message": 100, "stacktrace": 50}
    fits = {name: "x" * size for name, size in limits.items()}
    error = TaskError(**fits)  # type: ignore[arg-type]
    assert cut_error(error, message=100, stacktrace=50) is error
    longer = cut_error(TaskError(**{**fits, field: "y" + fits[field]}), message=100, stacktrace=50)  # type: ignore[arg-type]
    sizes = {name: len(getattr(longer, name)) for name in limits}
    assert sizes == limits
    assert json.encode(longer) != json.encode(error) or field == "stacktrace"


def test_an_error_without_a_trace_is_cut_to_none() -> None:
    assert cut_error(TaskError(type="E", message="x" * 11), message=10).stacktrace is None
    assert cut_error(TaskError(type="E", message="", stacktrace="trace"), stacktrace=0).stacktrace is None

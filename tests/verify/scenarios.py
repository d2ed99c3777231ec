"""Runs of tasks as generators over a `LogBuilder`: other tasks may act at each `yield`."""

from collections.abc import Callable, Generator, Iterable
from typing import Any

from hub.verify import VerificationReport, check
from schemas import payload_hash

from .log_builder import LogBuilder, rfc3339

Steps = Generator[None, None, None]
Scenario = Callable[[LogBuilder, str], Steps]


def plain(log: LogBuilder, task_id: str) -> Steps:
    task = log.submit(task_id)
    yield
    log.dispatch(task, "w1")
    yield
    log.told(task, "attempt.completed", ("task.started", {}), ("task.completed", {"result": 1}))


def with_progress(log: LogBuilder, task_id: str) -> Steps:
    task = log.submit(task_id, idempotency_key=f"key of {task_id}", idempotency_window=60.0, payload_hash="p")
    yield
    log.dispatch(task, "w2")
    yield
    log.started(task)
    yield
    log.told(task, "attempt.progressed", ("task.progressed", {"percent": 50.0}))
    yield
    log.completed(task)


def retried(log: LogBuilder, task_id: str) -> Steps:
    task = log.submit(task_id, retry={"max_attempts": 2})
    yield
    log.dispatch(task, "w1")
    yield
    log.started(task)
    yield
    log.retried(task, "w2")
    yield
    log.started(task)
    log.told(task, "attempt.failed", ("attempt.failed", {"error": {"type": "E"}}))
    yield
    log.act(task, "task.failed", kind="exhausted", error={"type": "E"})


def redispatched(log: LogBuilder, task_id: str) -> Steps:
    task = log.submit(task_id)
    yield
    log.dispatch(task, "w1")
    yield
    log.act(task, "attempt.superseded", start_seconds=1.0)
    log.act(task, "task.ready", queue="default")
    yield
    log.dispatch(task, "w2")
    log.started(task)
    yield
    log.act(task, "attempt.lease_expired", lease_seconds=1.0)
    log.act(task, "task.ready", queue="default")
    yield
    log.dispatch(task, "w2", attempt=2)
    log.started(task)
    log.completed(task)


def granted(log: LogBuilder, task_id: str) -> Steps:
    task = log.submit(task_id, delivery="at_most_once")
    yield
    log.dispatch(task, "w1")
    yield
    log.told(task, "attempt.started", ("attempt.granted", {}), ("task.started", {}))
    log.command("attempt.grant", task, {"task": task.id, "attempt": 1, "token": task.token})
    yield
    log.act(task, "attempt.lost")
    log.act(task, "task.failed", kind="lost", error={"type": "lost"})


def delayed(log: LogBuilder, task_id: str) -> Steps:
    due_ms = log.now_ms + 500
    task = log.submit(task_id, after="scheduled", start_after=rfc3339(due_ms))
    yield
    log.now_ms = max(log.now_ms, due_ms)
    log.act(task, "task.ready", due_ms=due_ms, queue="default")
    yield
    log.dispatch(task, "w1")
    log.started(task)
    log.completed(task)


def cancelled(log: LogBuilder, task_id: str) -> Steps:
    task = log.submit(task_id)
    yield
    log.dispatch(task, "w1")
    log.started(task)
    yield
    log.told(task, "task.cancel", ("task.cancel_requested", {}))
    yield
    log.told(task, "attempt.cancelled", ("attempt.cancelled", {}), ("task.cancelled", {}))


def expired(log: LogBuilder, task_id: str) -> Steps:
    due_ms = log.now_ms + 200
    task = log.submit(task_id, not_start_after=rfc3339(due_ms))
    yield
    log.now_ms = max(log.now_ms, due_ms)
    log.act(task, "task.expired", due_ms=due_ms)


def refused(log: LogBuilder, task_id: str) -> Steps:
    log.refuse(task_id, code="invalid_input", reason="unknown field nmae")
    yield
    log.heartbeat("w1")


def repeated(log: LogBuilder, task_id: str) -> Steps:
    yield from plain(log, task_id)
    yield
    log.refuse(task_id, "task.deduplicated", run=log.tasks[task_id].run, state="completed")


def workflow(log: LogBuilder, task_id: str) -> Steps:
    steps = log.workflow(task_id, {"a": [], "b": [], "c": [{"task": "a"}, {"task": "b"}], "d": [{"task": "c", "on": "failure"}]})
    yield
    for key, met in (("a", 1), ("b", 1), ("c", 0)):
        log.dispatch(steps[key], "w1")
        yield
        log.started(steps[key])
        log.completed(steps[key])
        if met:
            log.met(steps["c"])
        yield
    log.act(steps["d"], "task.skipped", dependency=steps["c"].id)
    yield
    log.finish_workflow(task_id)


def not_started_in_time(log: LogBuilder, task_id: str) -> Steps:
    """`timeouts.start` counts from the first time that the task was ready, whatever was given back or superseded since."""
    task = log.submit(task_id, timeouts={"start": 1.0})
    due_ms = log.now_ms + 1_000
    yield
    log.dispatch(task, "w1")
    yield
    log.now_ms = max(log.now_ms, due_ms - 100)
    log.told(task, "attempt.released", ("attempt.released", {}), ("task.ready", {"queue": "default"}))
    yield
    log.now_ms = max(log.now_ms, due_ms)
    log.act(task, "task.expired", due_ms=due_ms)


def extended(log: LogBuilder, task_id: str) -> Steps:
    """A workflow whose steps come from three places: its submission, a report that adds several at once, the agenda."""
    steps = log.workflow(task_id, {"a": []})
    yield
    steps |= log.add_steps(task_id, {"b": [], "c": [{"task": "a"}]})
    yield
    steps |= log.plan(task_id, {"d": [{"task": "b", "on": "ended"}]})
    for key, waiting in (("a", "c"), ("b", "d"), ("c", ""), ("d", "")):
        yield
        log.dispatch(steps[key], "w1")
        log.started(steps[key])
        log.completed(steps[key])
        if waiting:
            log.met(steps[waiting])
    yield
    log.finish_workflow(task_id)


def registered(log: LogBuilder, task_id: str) -> Steps:
    """A retry policy that a handler is registered with after the task was created: it holds from the first dispatch on, whoever
    runs the next attempt."""
    task = log.submit(task_id, name="patient", timeouts={"total": 60.0})
    yield
    log.dispatch(task, "w1", policy={"retry": {"max_attempts": 5}, "timeout_seconds": 1.0})
    for _ in range(4):
        log.started(task)
        yield
        log.retried(task, "w2")
    log.started(task)
    log.now_ms += 1_000
    yield
    log.act(task, "attempt.timed_out", timeout_seconds=1.0)
    log.act(task, "task.failed", kind="timed_out", error={"type": "AttemptTimedOut"})


def versions(log: LogBuilder, task_id: str) -> Steps:
    """Two versions of a name; the default one is deprecated while a task of it waits."""
    number, name = log.partition_of(task_id), f"report-{task_id}"
    for version in ("1", "1.10", "1.9"):
        log.define(number, "w1", name, version=version, **({"timeout_seconds": 9.0} if version == "1.10" else {}))
    held: dict[str, Any] = {"policy": {"timeout_seconds": 9.0}}
    waits = log.submit(task_id, name=name, version="1.10", payload_hash=payload_hash(name, None, b"{}"), **held)
    yield
    log.deprecate(number, name, "1.10")
    later = log.submit(log.sibling(task_id), name=name, version="1.9", payload_hash=payload_hash(name, None, b"{}"))
    named = log.submit(log.sibling(task_id), name=name, version="1.10", **held)
    yield
    for task in (waits, later, named):
        log.dispatch(task, "w1")
        log.told(task, "attempt.completed", ("task.started", {}), ("task.completed", {"result": 1}))


def out_of_time(log: LogBuilder, task_id: str) -> Steps:
    """Its total time is over while it runs."""
    task = log.submit(task_id, timeouts={"total": 1.0})
    due_ms = log.now_ms + 1_000
    yield
    log.dispatch(task, "w1")
    log.started(task)
    yield
    log.now_ms = max(log.now_ms, due_ms)
    log.act(task, "task.failed", due_ms=due_ms, kind="timed_out", error={"type": "TimedOut"})


def conditions(log: LogBuilder, task_id: str) -> Steps:
    """What follows from each end of a step for the steps that asked for success, for failure, or for any end."""
    on = ("success", "failure", "ended")
    steps = {f"{end}-{asked}": [{"task": end, "on": asked}] for end in ("failed", "expired", "cancelled") for asked in on}
    due_ms = log.now_ms + 100
    first: dict[str, list[dict[str, str]]] = {"failed": [], "expired": [], "cancelled": []}
    made = log.workflow(task_id, first | steps, expired={"not_start_after": rfc3339(due_ms)})
    yield
    log.act(made["cancelled"], "task.cancelled")
    log.act(made["cancelled-success"], "task.skipped", dependency=made["cancelled"].id)
    log.act(made["cancelled-failure"], "task.skipped", dependency=made["cancelled"].id)
    log.met(made["cancelled-ended"])
    yield
    error = {"error": {"type": "E"}}
    log.dispatch(made["failed"], "w1")
    log.started(made["failed"])
    log.told(made["failed"], "attempt.failed", ("attempt.failed", error), ("task.failed", {"kind": "permanent", **error}))
    log.act(made["failed-success"], "task.failed", kind="dependency_failed", error={"type": "DependencyFailed"})
    log.met(made["failed-failure"])
    log.met(made["failed-ended"])
    yield
    log.now_ms = max(log.now_ms, due_ms)
    log.act(made["expired"], "task.expired", due_ms=due_ms)
    log.act(made["expired-success"], "task.failed", kind="dependency_failed", error={"type": "DependencyFailed"})
    log.met(made["expired-failure"])
    log.met(made["expired-ended"])
    yield
    for step in made.values():
        if step.state == "ready":
            log.act(step, "task.cancelled")
    log.finish_workflow(task_id, "workflow.failed", **error)


def left_waiting(log: LogBuilder, task_id: str) -> Steps:
    log.submit(task_id)
    yield
    log.submit(f"{task_id}-held")
    log.dispatch(log.tasks[f"{task_id}-held"], "w1")


ENDING: tuple[Scenario, ...] = (
    plain, with_progress, retried, redispatched, granted, delayed, cancelled, expired, refused, repeated, workflow,
)  # fmt: skip
LATER: tuple[Scenario, ...] = (not_started_in_time, extended, registered, versions, out_of_time, conditions)
ALL = (*ENDING, left_waiting, *LATER)


def run(log: LogBuilder, runs: Iterable[Steps]) -> LogBuilder:
    """Let the runs take turns until all are over."""
    running = list(runs)
    while running:
        running = [steps for steps in running if next(steps, StopIteration) is not StopIteration]
    return log


def good_log(count: int, scenarios: Iterable[Scenario] = ALL) -> LogBuilder:
    """Every scenario once, taking turns, on `count` partitions; one engine is replaced on the way."""
    log = LogBuilder(count)
    log.worker("w1")
    log.worker("w2")
    run(log, [scenario(log, f"{scenario.__name__}-{number}") for number, scenario in enumerate(scenarios)])
    log.take_over(count - 1)
    return run(log, [scenario(log, f"{scenario.__name__}-again") for scenario in (plain, workflow)])


def broken(report: VerificationReport) -> set[str]:
    """The invariants that have findings."""
    return set(report.counts)


def verify_log(log: LogBuilder) -> VerificationReport:
    return check(log.history())

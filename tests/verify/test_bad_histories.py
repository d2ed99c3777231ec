"""The checker detects violations: one manually built bad history per invariant and kind of violation, each found with its id.

Each entry has the invariant that must be among the findings, a sentence, and a function that damages a good log.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from msgspec import json

from hub.verify import (
    INVARIANTS,
    CommittedPosition,
    DeliveredEvent,
    Execution,
    Options,
    SubscriberJournal,
    VerificationReport,
    check,
    task_rules,
)
from hub.verify.placement import partition_of_root
from schemas import payload_hash

from .log_builder import BEGIN_MS, Entry, LogBuilder, Row, Task, rfc3339
from .scenarios import good_log

Spoil = Callable[[LogBuilder], VerificationReport | None]
CASES: list[tuple[str, str, Spoil]] = []


def bad(invariant: str, sentence: str) -> Callable[[Spoil], Spoil]:
    def register(spoil: Spoil) -> Spoil:
        CASES.append((invariant, sentence, spoil))
        return spoil

    return register


def fresh(log: LogBuilder, name: str = "late", **data: Any) -> Task:
    """One more task, dispatched to w1."""
    task = log.submit(name, **data)
    log.dispatch(task, "w1")
    return task


def drop(log: LogBuilder, entry: Entry) -> None:
    for partition in log.partitions:
        partition.events = [other for other in partition.events if other is not entry]


@bad("I1", "an acknowledged submission is nowhere")
def _(log: LogBuilder) -> VerificationReport:
    return check(log.history(acknowledged=["plain-0", "lost-submission"]))


@bad("I1", "an acknowledged submission was created twice")
def _(log: LogBuilder) -> VerificationReport:
    log.submit("plain-0")
    return check(log.history(acknowledged=["plain-0"]))


@bad("I1", "an acknowledged submission is nowhere, and only its cancel was refused")
def _(log: LogBuilder) -> VerificationReport:
    log.refuse("lost-submission", code="unknown_task", reason="no such task", report="task.cancel")
    return check(log.history(acknowledged=["lost-submission"]))


@bad("I1", "a submission is deduplicated against nothing")
def _(log: LogBuilder) -> None:
    log.refuse("never-created", "task.deduplicated", run=3, state="completed")


@bad("I2", "a task has not ended when all must have")
def _(log: LogBuilder) -> VerificationReport:
    return check(log.history(), Options(require_all_ended=True))


@bad("I33", "a ready task still waits when all is at rest")
def _(log: LogBuilder) -> VerificationReport:
    return check(log.history(), Options(require_all_ended=True))


@bad("I3", "an event of a task is missing")
def _(log: LogBuilder) -> None:
    drop(log, log.event("plain-0", "task.dispatched"))


@bad("I3", "a task goes on, on another partition")
def _(log: LogBuilder) -> None:
    task = fresh(log, on_partition(0, log))
    task.partition = 1
    log.started(task)


@bad("I3", "a run is not the intake offset that began it")
def _(log: LogBuilder) -> None:
    log.event("plain-0", "task.created").body["run"] += 1


@bad("I3", "one of several steps added at once has the run of its root")
def _(log: LogBuilder) -> None:
    log.workflow("flow", {"a": []})
    run = log.tasks["flow"].run
    step = log.add_steps("flow", {"b": [], "c": []})["c"]
    for event_type in ("task.created", "task.ready"):
        log.event(step.id, event_type).body["run"] = run


@bad("I3", "a step made from the plan has another run than its root")
def _(log: LogBuilder) -> None:
    log.workflow("flow", {"a": []})
    step = log.plan("flow", {"b": []})["b"]
    for event_type in ("task.created", "task.ready"):
        log.event(step.id, event_type).body["run"] += 1


@bad("I3", "a refusal of the engine is missing")
def _(log: LogBuilder) -> None:
    for _ in range(3):
        log.refuse("refused", code="malformed", reason="no")
    drop(log, [entry for entry in log.all_events() if entry.type == "task.rejected"][-2])


@bad("I4", "the second event of a report is missing")
def _(log: LogBuilder) -> None:
    task = fresh(log)
    log.told(task, "attempt.completed", ("task.started", {}), ("task.progressed", {}), ("task.completed", {}))
    drop(log, log.event("late", "task.progressed"))


@bad("I4", "the first event of a report is missing")
def _(log: LogBuilder) -> None:
    drop(log, log.event("left_waiting-11", "task.created"))


@bad("I4", "the events of one report lie in two transactions")
def _(log: LogBuilder) -> None:
    log.event("left_waiting-11", "task.ready").offset += 1
    for entry in log.partitions[log.tasks["left_waiting-11"].partition].events:
        if entry.offset >= log.event("left_waiting-11", "task.ready").offset and entry.headers["ce_subject"] != "left_waiting-11":
            entry.offset += 5


@bad("I5", "an event of an older epoch follows")
def _(log: LogBuilder) -> None:
    log.partitions[1].epoch -= 1
    log.submit(on_partition(1, log))


@bad("I26", "a fenced owner writes behind its successor")
def _(log: LogBuilder) -> None:
    log.partitions[1].epoch -= 1
    log.submit(on_partition(1, log))


@bad("I26", "!meta is of an older epoch than the log")
def _(log: LogBuilder) -> VerificationReport:
    state = log.state()
    state[1][b"!meta"] = json.encode({"offset": len(log.partitions[1].intake), "epoch": 1})
    return check(log.history(state=state))


@bad("I6", "an intake record is decided again after a take-over")
def _(log: LogBuilder) -> None:
    task = fresh(log)
    log.started(task)
    intake = log.partitions[task.partition].intake
    intake.pop()
    log.take_over(task.partition)
    intake.append(intake[-1])
    log.transaction(
        task.partition, f"{task.partition}/{len(intake) - 1}", [(f"task/{task.id}", "task.progressed", {"attempt": 1})]
    )


@bad("I6", "an agenda item is taken twice")
def _(log: LogBuilder) -> None:
    task = fresh(log)
    cause = log.agenda(task.partition, "lease")
    log.transaction(task.partition, cause, [(f"task/{task.id}", "attempt.lease_expired", {"attempt": 1, "lease_seconds": 1.0})])
    log.transaction(task.partition, log.agenda(task.partition, "x"), [(f"task/{task.id}", "task.ready", {"queue": "default"})])
    log.transaction(task.partition, cause, [(f"task/{task.id}", "task.cancel_requested", {})])


@bad("I6", "a src names an intake record that does not exist")
def _(log: LogBuilder) -> VerificationReport:
    return check(log.history(intake={n: [e.row() for e in p.intake if e.offset != 5] for n, p in enumerate(log.partitions)}))


@bad("I7", "reports are decided out of order")
def _(log: LogBuilder) -> None:
    number = 0
    later = log.report(number, "task.created", "x"), log.report(number, "task.created", "y")
    for cause in reversed(later):
        log.transaction(number, cause, [("engine/0", "task.rejected", {"code": "malformed", "reason": "no"})])


@bad("I7", "!meta stands before what was decided")
def _(log: LogBuilder) -> VerificationReport:
    state = log.state()
    state[1][b"!meta"] = json.encode({"offset": 2, "epoch": log.partitions[1].epoch})
    return check(log.history(state=state))


@bad("I7", "there is no !meta")
def _(log: LogBuilder) -> VerificationReport:
    state = log.state()
    del state[0][b"!meta"]
    return check(log.history(state=state))


@bad("I8", "a task goes on after its end")
def _(log: LogBuilder) -> None:
    log.act(log.tasks["plain-0"], "task.cancel_requested")


@bad("I8", "a run begins while the last one is live")
def _(log: LogBuilder) -> None:
    log.submit("left_waiting-11")


@bad("I8", "a workflow ends while a step is live")
def _(log: LogBuilder) -> None:
    log.workflow("flow", {"a": []})
    log.finish_workflow("flow")


@bad("I8", "a workflow counts its steps wrongly")
def _(log: LogBuilder) -> None:
    log.event("workflow-10", "workflow.completed").data["completed"] = 2


@bad("I9", "the log is not what an earlier check read")
def _(log: LogBuilder) -> VerificationReport:
    earlier = check(log.history()).prefixes
    log.submit("one-more")
    log.event("plain-0", "task.completed").data["result"] = 2
    return check(log.history(), Options(earlier=earlier))


@bad("I9", "the log has lost its end since an earlier check")
def _(log: LogBuilder) -> VerificationReport:
    log.submit("one-more")
    earlier = check(log.history()).prefixes
    drop(log, log.event("one-more", "task.ready"))
    return check(log.history(), Options(earlier=earlier))


def spoiled_row(log: LogBuilder, task_id: str, **fields: object) -> VerificationReport:
    state = log.state()
    rows = state[log.tasks[task_id].partition]
    key = f"task/{task_id}".encode()
    row = rows[key]
    assert row is not None
    rows[key] = json.encode(json.decode(row) | fields)
    return check(log.history(state=state))


@bad("I10", "a live task has no row")
def _(log: LogBuilder) -> VerificationReport:
    state = log.state()
    del state[log.tasks["left_waiting-11"].partition][b"task/left_waiting-11"]
    return check(log.history(state=state))


@bad("I10", "a row belongs to no task")
def _(log: LogBuilder) -> None:
    log.extra_rows[0, "task/ghost"] = {"run": 3, "sequence": 2, "state": "ready", "name": "charge"}


@bad("I10", "the row of an ended step of a live workflow tells of another end")
def _(log: LogBuilder) -> VerificationReport:
    step = log.workflow("flow", {"a": [], "b": []})["a"]
    log.dispatch(step, "w1")
    log.started(step)
    log.completed(step)
    assert check(log.history()).ok
    return spoiled_row(log, step.id, state="failed")


@bad("I10", "an ended task has a live row")
def _(log: LogBuilder) -> None:
    log.tasks["plain-0"].state = "running"


@bad("I10", "a live task has an ended row")
def _(log: LogBuilder) -> None:
    log.tasks["left_waiting-11"].state = "completed"


@bad("I10", "the engine's row is behind the log")
def _(log: LogBuilder) -> None:
    log.partitions[0].engine_sequence -= 1


@bad("I11", "a step is dispatched before its dependency ended")
def _(log: LogBuilder) -> None:
    steps = log.workflow("flow", {"a": [], "b": [{"task": "a"}]})
    log.met(steps["b"])
    log.dispatch(steps["b"], "w1")


@bad("I11", "a step is dispatched although its dependency failed")
def _(log: LogBuilder) -> None:
    steps = log.workflow("flow", {"a": [], "b": [{"task": "a"}]})
    log.act(steps["a"], "task.failed", kind="permanent", error={"type": "E"})
    log.met(steps["b"])
    log.dispatch(steps["b"], "w1")


@bad("I12", "a task is ready with an unmet dependency")
def _(log: LogBuilder) -> None:
    steps = log.workflow("flow", {"a": [], "b": [{"task": "a"}]})
    log.met(steps["b"])


@bad("I12", "a wake-up is lost")
def _(log: LogBuilder) -> None:
    steps = log.workflow("flow", {"a": [], "b": [{"task": "a"}]})
    log.dispatch(steps["a"], "w1")
    log.started(steps["a"])
    log.completed(steps["a"])


@bad("I12", "a task tells another count of dependencies than it has")
def _(log: LogBuilder) -> None:
    log.event(log.tasks["workflow-10"].id, "task.created")
    steps = log.workflow("flow", {"a": [], "b": [{"task": "a"}]})
    log.event(steps["b"].id, "task.blocked").data["unmet"] = 2


@bad("I12", "a task is skipped for no reason")
def _(log: LogBuilder) -> None:
    steps = log.workflow("flow", {"a": [], "b": [{"task": "a"}]})
    log.act(steps["b"], "task.skipped")


def ended_step(log: LogBuilder, asked: str) -> Task:
    """A step that waits for another, which was cancelled."""
    steps = log.workflow("flow", {"a": [], "b": [{"task": "a", "on": asked}]})
    log.act(steps["a"], "task.cancelled")
    return steps["b"]


@bad("I12", "a step that asked for a failure is ready after a cancel")
def _(log: LogBuilder) -> None:
    log.met(ended_step(log, "failure"))


@bad("I12", "a step that asked for a success is failed by a cancel, not skipped")
def _(log: LogBuilder) -> None:
    log.act(ended_step(log, "success"), "task.failed", kind="dependency_failed", error={"type": "E"})


@bad("I12", "a step fails by a dependency that was met")
def _(log: LogBuilder) -> None:
    log.act(ended_step(log, "ended"), "task.failed", kind="dependency_failed", error={"type": "E"})


@bad("I13", "a task is dispatched to two workers")
def _(log: LogBuilder) -> None:
    log.dispatch(fresh(log), "w2")


@bad("I14", "a task is ready again while its attempt runs")
def _(log: LogBuilder) -> None:
    log.act(fresh(log), "task.ready", queue="default")


@bad("I14", "an attempt is left out")
def _(log: LogBuilder) -> None:
    log.dispatch(log.submit("late"), "w1", attempt=2)


@bad("I14", "a dispatch number is used again")
def _(log: LogBuilder) -> None:
    task = fresh(log)
    log.act(task, "attempt.superseded", start_seconds=1.0)
    log.act(task, "task.ready", queue="default")
    task.dispatch -= 1
    log.dispatch(task, "w2")


@bad("I16", "another worker than the holder starts")
def _(log: LogBuilder) -> None:
    task = fresh(log)
    log.told(task, "attempt.started", ("task.started", {"worker": "w2"}))


@bad("I16", "a start with a stale token is accepted")
def _(log: LogBuilder) -> None:
    task = fresh(log)
    log.told(task, "attempt.started", ("task.started", {"token": "stale"}))


@bad("I16", "the end of an earlier attempt is accepted")
def _(log: LogBuilder) -> None:
    task = fresh(log)
    log.started(task)
    log.told(task, "attempt.completed", ("task.completed", {"attempt": 3}))


@bad("I16", "a repeated report is accepted")
def _(log: LogBuilder) -> None:
    task = fresh(log)
    log.started(task)
    for _ in range(2):
        log.told(task, "attempt.progressed", ("task.progressed", {"number": 7}))


@bad("I18", "a task is tried more often than allowed")
def _(log: LogBuilder) -> None:
    task = fresh(log, retry={"max_attempts": 1})
    log.started(task)
    log.retried(task, "w2")


@bad("I18", "a task is dispatched after more losses than allowed")
def _(log: LogBuilder) -> None:
    task = fresh(log, retry={"max_lost": 0})
    log.act(task, "attempt.lost")
    log.act(task, "task.ready", queue="default")
    log.dispatch(task, "w2")


@bad("I18", "a retry is due earlier than its delay")
def _(log: LogBuilder) -> None:
    task = fresh(log)
    log.started(task)
    log.told(task, "attempt.failed", ("attempt.failed", {"error": {"type": "E"}}))
    due = rfc3339(log.now_ms + 20)
    log.act(task, "task.retry_scheduled", next_attempt=2, delay=1.0, next_retry_at=due, cause="error")


@bad("I18", "a retry does not wait until it is due")
def _(log: LogBuilder) -> None:
    task = fresh(log)
    log.started(task)
    log.told(task, "attempt.failed", ("attempt.failed", {"error": {"type": "E"}}))
    data: dict[str, Any] = {"next_attempt": 2, "delay": 1.0, "next_retry_at": rfc3339(log.now_ms + 1_010), "cause": "error"}
    log.act(task, "task.retry_scheduled", **data)
    log.act(task, "task.ready", queue="default")


@bad("I18", "an at-most-once body is given to a second worker")
def _(log: LogBuilder) -> None:
    task = fresh(log, delivery="at_most_once")
    log.told(task, "attempt.started", ("attempt.granted", {}), ("task.started", {}))
    log.command("attempt.grant", task, {"task": task.id, "attempt": 1, "token": task.token})
    log.act(task, "attempt.lost")
    log.act(task, "task.ready", queue="default")


@bad("I18", "the version of a task is fixed twice")
def _(log: LogBuilder) -> None:
    task = log.submit("late")
    log.dispatch(task, "w1")
    log.act(task, "attempt.released")
    log.act(task, "task.ready", queue="default")
    log.dispatch(task, "w1")
    log.event("late", "task.dispatched").data["version"] = "1"


@bad("I18", "a task is exhausted before its attempts are")
def _(log: LogBuilder) -> None:
    task = fresh(log)
    log.started(task)
    log.told(task, "attempt.failed", ("attempt.failed", {"error": {"type": "E"}}))
    log.act(task, "task.failed", kind="exhausted", error={"type": "E"})


REGISTERED = {"retry": {"max_attempts": 5, "max_lost": 0, "timeout": False}, "timeout_seconds": 9.0}


def registered(log: LogBuilder) -> Task:
    """A task that runs, whose policy was registered."""
    task = log.submit("late", name="impatient")
    log.dispatch(task, "w1", policy=REGISTERED)
    log.started(task)
    return task


@bad("I18", "a task is tried more often than its registration allows")
def _(log: LogBuilder) -> None:
    task = registered(log)
    for _ in range(5):
        log.retried(task, "w2")
        log.started(task)


@bad("I18", "a task is exhausted by the default although its registration allows more attempts")
def _(log: LogBuilder) -> None:
    task = registered(log)
    for _ in range(2):
        log.retried(task, "w2")
        log.started(task)
    log.told(task, "attempt.failed", ("attempt.failed", {"error": {"type": "E"}}))
    log.act(task, "task.failed", kind="exhausted", error={"type": "E"})


@bad("I18", "a task is lost although its policy allows more losses")
def _(log: LogBuilder) -> None:
    task = fresh(log)
    log.act(task, "attempt.lost")
    log.act(task, "task.failed", kind="lost", error={"type": "E"})


@bad("I18", "a lost attempt is retried that was one too many")
def _(log: LogBuilder) -> None:
    task = registered(log)
    log.act(task, "attempt.lost")
    due = rfc3339(log.now_ms + 10)
    log.act(task, "task.retry_scheduled", next_attempt=2, delay=0.0, next_retry_at=due, cause="lost")


@bad("I18", "a timed-out attempt is retried although the policy excludes it")
def _(log: LogBuilder) -> None:
    task = registered(log)
    log.now_ms += 9_000
    log.act(task, "attempt.timed_out", timeout_seconds=9.0)
    due = rfc3339(log.now_ms + 10)
    log.act(task, "task.retry_scheduled", next_attempt=2, delay=0.0, next_retry_at=due, cause="timeout")


@bad("I18", "a timed-out attempt is the last although the policy allows more")
def _(log: LogBuilder) -> None:
    task = fresh(log, timeouts={"attempt": 1.0})
    log.started(task)
    log.now_ms += 1_000
    log.act(task, "attempt.timed_out", timeout_seconds=1.0)
    log.act(task, "task.failed", kind="timed_out", error={"type": "E"})


@bad("I18", "a later dispatch has another policy")
def _(log: LogBuilder) -> None:
    task = registered(log)
    log.act(task, "attempt.released")
    task.policy = {"retry": {"max_attempts": 6}}
    log.act(task, "task.ready", queue="default")
    log.dispatch(task, "w1")


@bad("I18", "the policy is not that of the submission")
def _(log: LogBuilder) -> None:
    task = log.submit("late", timeouts={"attempt": 1.0})
    task.policy = {"timeout_seconds": 2.0}
    log.dispatch(task, "w1")


@bad("I18", "an end tells of other attempts than the policy allows")
def _(log: LogBuilder) -> None:
    log.event("plain-0", "task.completed").data["max_attempts"] = 4


@bad("I19", "a key stands for two tasks")
def _(log: LogBuilder) -> None:
    for name in ("one", "two"):
        log.submit(name, idempotency_key="k", idempotency_window=60.0, payload_hash="p")


@bad("I19", "a key stands for two payloads")
def _(log: LogBuilder) -> None:
    for payload in ("p", "q"):
        task = log.submit("one", idempotency_key="k", idempotency_window=60.0, payload_hash=payload)
        log.act(task, "task.cancelled")


@bad("I20", "a delayed task is ready early")
def _(log: LogBuilder) -> None:
    log.submit("late", start_after=rfc3339(log.now_ms + 5_000))


@bad("I20", "a delay in seconds is not waited for")
def _(log: LogBuilder) -> None:
    log.submit("late", start_after=5.0)


@bad("I20", "an agenda item is taken before it is due")
def _(log: LogBuilder) -> None:
    log.act(log.submit("late"), "task.cancelled", due_ms=log.now_ms + 1_000)


@bad("I20", "a task expires early")
def _(log: LogBuilder) -> None:
    log.act(log.submit("late", not_start_after=rfc3339(log.now_ms + 5_000)), "task.expired")


@bad("I20", "a task expires before its start timeout has run from the first time that it was ready")
def _(log: LogBuilder) -> None:
    task = log.submit("late", timeouts={"start": 60.0})
    log.now_ms += 59_000
    log.act(task, "task.expired")


@bad("I20", "a task expires to which no time was set")
def _(log: LogBuilder) -> None:
    log.act(log.submit("late"), "task.expired")


@bad("I20", "a task expires that had started")
def _(log: LogBuilder) -> None:
    task = fresh(log, timeouts={"start": 1.0})
    log.started(task)
    log.act(task, "attempt.lost")
    log.act(task, "task.ready", queue="default")
    log.now_ms += 1_000
    log.act(task, "task.expired")


@bad("I20", "an attempt times out early")
def _(log: LogBuilder) -> None:
    task = registered(log)
    log.now_ms += 8_000
    log.act(task, "attempt.timed_out", timeout_seconds=9.0)


@bad("I20", "an attempt times out whose policy has no timeout")
def _(log: LogBuilder) -> None:
    task = fresh(log)
    log.started(task)
    log.act(task, "attempt.timed_out", timeout_seconds=9.0)


@bad("I20", "a task times out before its total time is over")
def _(log: LogBuilder) -> None:
    task = fresh(log, timeouts={"total": 5.0})
    log.act(task, "task.failed", kind="timed_out", error={"type": "TimedOut"})


@bad("I20", "a task without a total time times out")
def _(log: LogBuilder) -> None:
    log.act(fresh(log), "task.failed", kind="timed_out", error={"type": "TimedOut"})


@bad("I20", "the engine's time goes back")
def _(log: LogBuilder) -> None:
    log.now_ms = BEGIN_MS
    log.submit("late")


@bad("I22", "a root lies on the wrong partition")
def _(log: LogBuilder) -> None:
    right = on_partition(0, log)
    wrong = on_partition(1, log)
    log.submit(right)
    for entry in log.all_events():
        if entry.headers["ce_subject"] == right:
            entry.body |= {"entity": f"task/{wrong}", "rootid": wrong}
            entry.headers |= {"ce_subject": wrong, "ce_source": f"/hub/default/task/{wrong}"}
            entry.key = wrong


@bad("I22", "a task changes its root")
def _(log: LogBuilder) -> None:
    log.event("plain-0", "task.dispatched").body["rootid"] = "plain-9"


@bad("I23", "a dispatch has no command")
def _(log: LogBuilder) -> None:
    del log.commands[2]


@bad("I23", "a command is issued twice")
def _(log: LogBuilder) -> None:
    log.commands.append(Entry(900, log.now_ms, log.commands[0].key, log.commands[0].headers, log.commands[0].body))


@bad("I23", "a command has no dispatch")
def _(log: LogBuilder) -> None:
    body = log.commands[0].body | {"dispatch": 9}
    log.commands.append(Entry(900, log.now_ms, log.commands[0].key, log.commands[0].headers, body))


@bad("I23", "a command is in another worker's name")
def _(log: LogBuilder) -> None:
    log.commands[0].headers = log.commands[0].headers | {"worker": "w9"}


@bad("I23", "a grant has no command")
def _(log: LogBuilder) -> None:
    log.commands[:] = [command for command in log.commands if command.type != "attempt.grant"]


@bad("I23", "a command has another policy than its dispatch")
def _(log: LogBuilder) -> None:
    log.commands[0].body["max_attempts"] = 4


@bad("I24", "a new owner begins before what was decided")
def _(log: LogBuilder) -> None:
    log.event("1", "engine.started").data["input_offset"] = 3


@bad("I24", "a new owner goes back behind where it began")
def _(log: LogBuilder) -> None:
    log.event("1", "engine.started").data["input_offset"] = 500
    log.submit(on_partition(1, log))


@bad("I25", "an epoch is left out")
def _(log: LogBuilder) -> None:
    log.partitions[0].epoch += 1
    log.take_over(0)


@bad("I25", "an epoch begins without its engine.started")
def _(log: LogBuilder) -> None:
    log.partitions[0].epoch += 1
    log.submit(on_partition(0, log))


def journal_of(log: LogBuilder, **fields: object) -> SubscriberJournal:
    deliveries = [
        DeliveredEvent(partition.number, entry.offset, entry.body["src"], entry.body["entity"], "digest")
        for partition in log.partitions
        for entry in partition.events
    ]
    return SubscriberJournal(subscriber="console", deliveries=deliveries, **fields)  # type: ignore[arg-type]


def with_journal(log: LogBuilder, journal: SubscriberJournal) -> VerificationReport:
    return check(log.history(journals=[journal]))


@bad("I27", "an event was not delivered")
def _(log: LogBuilder) -> VerificationReport:
    journal = journal_of(log)
    del journal.deliveries[9]
    return with_journal(log, journal)


@bad("I28", "two events of a task were delivered in the wrong order")
def _(log: LogBuilder) -> VerificationReport:
    journal = journal_of(log)
    first, second = places(journal)
    journal.deliveries[first], journal.deliveries[second] = journal.deliveries[second], journal.deliveries[first]
    return with_journal(log, journal)


def places(journal: SubscriberJournal) -> tuple[int, int]:
    found = [number for number, delivery in enumerate(journal.deliveries) if delivery.entity == "task/plain-0"]
    return found[0], found[1]


@bad("I29", "a position goes back without a replay")
def _(log: LogBuilder) -> VerificationReport:
    return with_journal(log, journal_of(log, positions=[CommittedPosition(0, 9), CommittedPosition(0, 4)]))


@bad("I29", "a position is behind the end of the log")
def _(log: LogBuilder) -> VerificationReport:
    return with_journal(log, journal_of(log, positions=[CommittedPosition(0, 90_000)]))


@bad("I30", "a repeat has other bytes")
def _(log: LogBuilder) -> VerificationReport:
    journal = journal_of(log)
    journal.deliveries.append(journal.deliveries[4]._replace(digest="another"))
    return with_journal(log, journal)


@bad("I30", "a delivered event is not on the log")
def _(log: LogBuilder) -> VerificationReport:
    journal = journal_of(log)
    journal.deliveries[4] = journal.deliveries[4]._replace(id="0/999/0")
    return with_journal(log, journal)


@bad("I31", "a submission was passed over")
def _(log: LogBuilder) -> None:
    log.report(0, "task.created", "x")


@bad("I31", "a report that says nothing of its type was passed over")
def _(log: LogBuilder) -> None:
    log.report(0, "task.created", "x")
    log.partitions[0].intake[-1].headers = {}


@bad("I32", "an event is of no known type")
def _(log: LogBuilder) -> None:
    log.event("plain-0", "task.started").headers["ce_type"] = "task.begun"


@bad("I32", "a required field is missing")
def _(log: LogBuilder) -> None:
    del log.event("plain-0", "task.started").data["worker"]


@bad("I32", "the data has an unknown field")
def _(log: LogBuilder) -> None:
    log.event("plain-0", "task.started").data["colour"] = "red"


@bad("I32", "the body has an unknown field")
def _(log: LogBuilder) -> None:
    log.event("plain-0", "task.started").body["colour"] = "red"


@bad("I32", "a header is missing")
def _(log: LogBuilder) -> None:
    del log.event("plain-0", "task.started").headers["ce_time"]


@bad("I32", "a time is not RFC 3339")
def _(log: LogBuilder) -> None:
    log.event("plain-0", "task.started").headers["ce_time"] = "yesterday"


@bad("I32", "a time in the data is not RFC 3339")
def _(log: LogBuilder) -> None:
    log.event("plain-0", "task.created").data["start_after"] = "tomorrow"


@bad("I32", "a src has no known form")
def _(log: LogBuilder) -> None:
    log.event("plain-0", "task.started").body["src"] = "somewhere"


@bad("I32", "a src has an index and no cause")
def _(log: LogBuilder) -> None:
    entry = log.event("plain-0", "task.dispatched")
    entry.body["src"] = entry.headers["ce_id"] = "/0"


@bad("I32", "a key is not the root")
def _(log: LogBuilder) -> None:
    log.event("plain-0", "task.started").key = "other"


@bad("I32", "a command does not fit its schema")
def _(log: LogBuilder) -> None:
    del log.commands[0].body["namespace"]


@pytest.mark.parametrize(
    "header",
    ["ce_specversion", "ce_id", "ce_source", "ce_subject", "ce_sequence", "ce_severitynumber"],
    ids=lambda name: name[3:],
)
def test_i32_a_wrong_attribute_is_found(header: str) -> None:
    log = good_log(2)
    log.event("plain-0", "task.started").headers[header] = "7"
    report = check(log.history())
    assert set(report.counts) == {"I32"}, report.render()


@bad("I34", "an at-most-once body ran twice")
def _(log: LogBuilder) -> VerificationReport:
    executions = [Execution("granted-4", 1), Execution("granted-4", 1)]
    return check(log.history(executions=executions))


@bad("I34", "an at-most-once body ran without a grant")
def _(log: LogBuilder) -> VerificationReport:
    fresh(log, delivery="at_most_once")
    return check(log.history(executions=[Execution("late", 1)]))


@bad("I35", "a cancelled task starts")
def _(log: LogBuilder) -> None:
    log.act(
        log.tasks["cancelled-6"], "task.dispatched", pool="default", inbox=3, queue="default", token="t", worker="w1", dispatch=2
    )


@bad("I35", "a task is ready again after its cancel was requested")
def _(log: LogBuilder) -> None:
    task = fresh(log)
    log.act(task, "task.cancel_requested")
    log.act(task, "attempt.lost")
    log.act(task, "task.ready", queue="default")


@bad("I35", "a step starts after its workflow was cancelled")
def _(log: LogBuilder) -> None:
    steps = log.workflow("flow", {"a": []})
    log.finish_workflow("flow", "workflow.cancelled")
    log.dispatch(steps["a"], "w1")


def defined(log: LogBuilder, name: str, *versions: str, **options: Any) -> int:
    """A partition that knows these versions of a name."""
    number = log.partition_of("late")
    for version in versions:
        log.define(number, "w1", name, version=version, **options)
    return number


@bad("D1", "a task is created with another policy than its definition's")
def _(log: LogBuilder) -> None:
    defined(log, "paid", "1", timeout_seconds=5.0)
    log.submit("late", name="paid", policy={"timeout_seconds": 6.0})


@bad("D1", "a task is created with the policy that its definition had before")
def _(log: LogBuilder) -> None:
    number = defined(log, "paid", "1", timeout_seconds=5.0)
    log.define(number, "w2", "paid", timeout_seconds=6.0)
    log.submit("late", name="paid", policy={"timeout_seconds": 5.0})


@bad("D1", "a task is created in a version that nobody has registered")
def _(log: LogBuilder) -> None:
    defined(log, "paid", "1")
    log.submit("late", name="paid", version="2")


@bad("D1", "a task is created although nobody has registered its name, and not as one that waits for that")
def _(log: LogBuilder) -> None:
    log.submit("late", name="nobody", unresolved=False)


@bad("D1", "a task waits for a name that is known")
def _(log: LogBuilder) -> None:
    defined(log, "paid", "1")
    log.submit("late", name="paid", unresolved=True)
    log.event("late", "task.created").data.pop("version")


@bad("D1", "a submission without a version gets one that is not the default")
def _(log: LogBuilder) -> None:
    defined(log, "paid", "1.9", "1.10")
    log.submit("late", name="paid", version="1.9", payload_hash=payload_hash("paid", None, b"{}"))


@bad("D1", "a submission without a version gets a deprecated one")
def _(log: LogBuilder) -> None:
    log.deprecate(defined(log, "paid", "1.9", "1.10"), "paid", "1.10")
    log.submit("late", name="paid", version="1.10", payload_hash=payload_hash("paid", None, b"{}"))


@bad("D1", "the first dispatch fixes another policy than the definition's")
def _(log: LogBuilder) -> None:
    task = log.submit("late", name="unheard-of")
    log.dispatch(task, "w1", policy={"timeout_seconds": 5.0})
    log.event("late", "task.dispatched").data["policy"] = {"timeout_seconds": 6.0}


@bad("D1", "the first dispatch does not say which version")
def _(log: LogBuilder) -> None:
    log.dispatch(log.submit("late", name="unheard-of"), "w1")
    del log.event("late", "task.dispatched").data["version"]


@bad("D1", "the first dispatch fixes a version that is not the default")
def _(log: LogBuilder) -> None:
    task = log.submit("late", name="unheard-of")
    log.define(task.partition, "w1", "unheard-of")
    log.define(task.partition, "w1", "unheard-of", version="2")
    log.dispatch(task, "w1")


@bad("D1", "the first dispatch fixes another version than the submission named")
def _(log: LogBuilder) -> None:
    task = log.submit("late", name="unheard-of", version="2")
    log.define(task.partition, "w1", "unheard-of", version="2")
    log.define(task.partition, "w1", "unheard-of")
    log.dispatch(task, "w1")


@bad("D1", "a definition is registered that is known as it is")
def _(log: LogBuilder) -> None:
    number = defined(log, "paid", "1")
    data = {"definition": {"name": "paid"}, "worker": "w2"}
    cause = log.report(number, "worker.registered", "w2")
    log.transaction(number, cause, [(f"definition/{number}/*/paid@1", "definition.registered", data)])


@bad("D1", "a definition is registered under the id of another")
def _(log: LogBuilder) -> None:
    number = log.partition_of("late")
    data = {"definition": {"name": "paid", "version": "2"}, "worker": "w2"}
    cause = log.report(number, "worker.registered", "w2")
    log.transaction(number, cause, [(f"definition/{number}/*/paid@1", "definition.registered", data)])


@bad("D1", "a definition is deprecated twice")
def _(log: LogBuilder) -> None:
    number = defined(log, "paid", "1")
    log.deprecate(number, "paid")
    log.deprecate(number, "paid")


@bad("D1", "the root of a workflow waits for a definition")
def _(log: LogBuilder) -> None:
    log.workflow("late", {"a": []})
    log.event("late", "task.created").data["unresolved"] = True


@bad("I10", "the row of a definition has other options than were registered")
def _(log: LogBuilder) -> None:
    number = defined(log, "paid", "1", timeout_seconds=5.0)
    log.definitions[f"{number}/*/paid@1"]["definition"] = {"name": "paid", "timeout_seconds": 6.0}


@bad("I10", "the row of a deprecated definition says that it is not")
def _(log: LogBuilder) -> None:
    number = defined(log, "paid", "1")
    log.deprecate(number, "paid")
    log.definitions[f"{number}/*/paid@1"]["state"] = "active"


@bad("D2", "an attempt goes to a worker that has not announced its version")
def _(log: LogBuilder) -> None:
    number = defined(log, "paid", "1", "2")
    log.partitions[number].announced["w2"] = [{"name": "paid"}]
    log.dispatch(log.submit("late", name="paid", version="2"), "w2")


@bad("T1", "an event comes from another state than the last one left")
def _(log: LogBuilder) -> None:
    log.event("plain-0", "task.dispatched").body["from"] = "blocked"


@bad("T1", "an event does not name its state")
def _(log: LogBuilder) -> None:
    del log.event("plain-0", "task.ready").body["to"]


@bad("T1", "a task completes without a start")
def _(log: LogBuilder) -> None:
    log.completed(fresh(log))


def reply(task: str, **fields: object) -> dict[int, list[Row]]:
    body = {"kind": "ended", "task": task, "partition": 0, **fields}
    return {2: [Row(0, 0, b"token", json.encode(body), (("ce_type", b"reply.ended"),))]}


@bad("R1", "a reply tells of another end")
def _(log: LogBuilder) -> VerificationReport:
    return check(log.history(replies=reply("plain-0", state="failed", sequence=5)))


@bad("R1", "a reply tells of an end that is not on the log")
def _(log: LogBuilder) -> VerificationReport:
    return check(log.history(replies=reply("left_waiting-11", state="completed", sequence=5)))


def on_partition(number: int, log: LogBuilder) -> str:
    """A fresh id whose root lies on this partition."""
    return next(name for name in names() if partition_of_root(name, len(log.partitions)) == number and name not in log.tasks)


def names() -> Iterator[str]:
    yield from (f"extra-{number}" for number in range(100))


@pytest.mark.parametrize(("invariant", "sentence", "spoil"), CASES, ids=[f"{row[0]}: {row[1]}" for row in CASES])
def test_it_is_found_that(invariant: str, sentence: str, spoil: Spoil) -> None:
    log = good_log(2)
    report = spoil(log) or check(log.history())
    assert invariant in report.counts, report.render()
    finding = next(finding for finding in report.findings if finding.invariant == invariant)
    assert finding.message
    assert finding.partition is not None or finding.subject is not None or "offset" in finding.message


WRONG_FIELDS: dict[str, object] = {
    "run": 77,
    "sequence": 77,
    "state": "ready",
    "name": "other",
    "queue": "other",
    "priority": 7,
    "attempt": 7,
    "dispatch": 7,
    "lease.worker": "w9",
    "lease.token": "other",
    "policy": {"timeout_seconds": 7.0},
    "version": "2",
    "unresolved": True,
    "lost": 7,
    "cancel": {},
    "root": "other",
    "created_at": rfc3339(5),
}


@pytest.mark.parametrize("field", WRONG_FIELDS)
def test_i10_every_compared_field_of_a_row_counts(field: str) -> None:
    log = good_log(2)
    task, (part, _, name) = log.tasks["left_waiting-11-held"], field.rpartition(".")
    wrong = {name: WRONG_FIELDS[field]}
    report = spoiled_row(log, task.id, **({part: task.row()[part] | wrong} if part else wrong))
    assert set(report.counts) == {"I10"}, report.render()
    assert field in report.findings[0].message


def test_i10_the_count_of_dependencies_in_a_row_counts() -> None:
    log = good_log(2)
    steps = log.workflow("flow", {"a": [], "b": [{"task": "a"}]})
    assert check(log.history()).ok
    assert set(spoiled_row(log, steps["b"].id, unmet=0).counts) == {"I10"}


@pytest.mark.parametrize("rule", task_rules.RULES, ids=lambda rule: rule.check.__name__)
def test_a_bad_history_is_missed_without_this_rule(rule: task_rules.Rule, monkeypatch: pytest.MonkeyPatch) -> None:
    """No rule is there in vain: some row of the table is found by it alone."""
    monkeypatch.setattr(task_rules, "RULES", [other for other in task_rules.RULES if other is not rule])
    rows = [(sentence, spoil) for invariant, sentence, spoil in CASES if invariant == rule.invariant]
    assert any(rule.invariant not in reported(spoil) for _, spoil in rows)


def reported(spoil: Spoil) -> dict[str, int]:
    log = good_log(2)
    return (spoil(log) or check(log.history())).counts


def test_every_invariant_has_a_bad_history() -> None:
    assert {row[0] for row in CASES} == set(INVARIANTS)


def test_a_journal_that_keeps_its_promises_has_no_findings() -> None:
    log = good_log(2)
    journal = journal_of(
        log, positions=[CommittedPosition(0, 9), CommittedPosition(0, 4, replay=True)], types=frozenset({"task.completed"})
    )
    journal.deliveries.append(journal.deliveries[3])
    report = with_journal(log, journal)
    assert report.ok, report.render()
    assert {"I27", "I28", "I29", "I30"} <= set(report.checked)


def test_a_dead_letter_counts_as_delivered() -> None:
    log = good_log(2)
    journal = journal_of(log)
    missing = journal.deliveries.pop(9)
    journal.dead_letters = frozenset({(missing.partition, missing.offset)})
    assert with_journal(log, journal).ok


def test_the_right_reply_and_a_longer_log_are_accepted() -> None:
    log = good_log(2)
    earlier = check(log.history()).prefixes
    log.submit("one-more")
    history = log.history(replies=reply("plain-0", state="completed", sequence=5), acknowledged=["plain-0", "refused-8"])
    report = check(history, Options(earlier=earlier))
    assert report.ok, report.render()
    assert {"R1", "I1", "I9"} <= set(report.checked)

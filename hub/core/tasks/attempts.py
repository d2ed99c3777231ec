"""Decisions about attempts: the effect of a worker's report, a timeout or a lost worker on a task. Decides only; changes nothing.

Each function returns the events to apply to the task, in order, or a `Rejection`.
"""

from typing import Any, TypeVar

from msgspec import DecodeError, Raw, Struct, json

from schemas import TaskError
from schemas import events as e
from schemas import reports as r
from schemas.events.attempt import AttemptEnded
from schemas.tasks import RESULT_BYTES_MAX

from ..bounds import SECONDS_MAX, cut, cut_error
from ..rejection import AttemptRejection, Rejection
from ..rows import TaskRow
from ..times import text_of, us_of_seconds
from .endings import cancelled, completed, failed
from .retry import LOST_AT_ONCE, delay_seconds

Ending = TypeVar("Ending", bound=AttemptEnded)


def worker_of(row: TaskRow) -> str:
    """The worker of the current attempt."""
    assert row.lease is not None, f"a {row.state} task must have a lease"
    return row.lease.worker


def _who(row: TaskRow) -> dict[str, Any]:
    """The fields that identify the current attempt."""
    return {"attempt": row.attempt, "dispatch": row.dispatch, "worker": worker_of(row)}


def _of_attempt(data: Ending, row: TaskRow, *, began: str | None = None) -> Ending:
    """Add queue and times to the end of an attempt or dispatch. `began`: the start of an attempt whose start was not reported
    before its end; None if it did not start."""
    data.queue, data.ready_at, data.dispatched_at = row.queue, row.ready_at, row.dispatched_at
    data.started_at = row.started_at if row.state == "running" else began
    return data


def check_lease(row: TaskRow, report: r.AttemptReport) -> AttemptRejection | None:
    """Why the reporter does not hold the lease of this attempt; None if it does."""
    if row.state not in ("dispatched", "running"):
        return Rejection("stale_attempt", f"attempt {report.attempt} has ended; the task is {row.state}")
    if (report.attempt, report.dispatch) != (row.attempt, row.dispatch):
        return Rejection(
            "stale_attempt",
            f"attempt {report.attempt}.{report.dispatch} has ended; the current one is {row.attempt}.{row.dispatch}",
        )
    lease = row.lease
    assert lease is not None, f"a {row.state} task must have a lease"
    if report.token != lease.token:
        return Rejection("stale_token", "the token is not that of the current lease")
    if report.incarnation != lease.worker:
        return Rejection("foreign_worker", f"the attempt belongs to worker {lease.worker}")
    if report.number <= row.number:
        return Rejection("duplicate", f"report {report.number} was already processed; the last one was {row.number}")
    return None


def on_report(task: str, row: TaskRow, report: r.AttemptReport, now: str, now_us: int) -> list[Struct] | AttemptRejection:
    """The events caused by a report of the lease holder, or a rejection."""
    rejection = check_lease(row, report)
    if rejection is not None:
        return rejection
    match report:
        case r.AttemptStarted():
            if row.state != "dispatched":
                return Rejection("wrong_state", "the attempt has already started")
            events = [_started(row, report)]
            if row.policy.delivery == "at_most_once":
                granted = e.AttemptGranted(attempt=row.attempt, dispatch=row.dispatch, worker=worker_of(row), token=report.token)
                events.append(granted)
            return events
        case r.AttemptReleased():
            if row.state != "dispatched":
                return Rejection("wrong_state", "the attempt has started and cannot be released")
            released = _of_attempt(e.AttemptReleasedEvent(**_who(row), reason=cut(report.reason)), row)
            return [released, _cancelled_or_ready(row, now)]
        case r.AttemptCancelled():
            return _on_given_up(task, row, report, now, now_us)
    if row.state == "dispatched" and row.policy.delivery == "at_most_once":
        return Rejection("wrong_state", "the body of an at-most-once task must not run before its grant")
    before = [_started(row, report)] if row.state == "dispatched" else []
    match report:
        case r.AttemptProgressed():
            data = e.TaskProgressed(
                attempt=row.attempt, percent=_percent(report.percent), message=cut(report.message), number=report.number
            )
            return [*before, data]
        case r.AttemptCompleted():
            if len(bytes(report.result)) > RESULT_BYTES_MAX:
                error = TaskError(
                    type="ResultTooLarge", message=f"result: must be at most {RESULT_BYTES_MAX} bytes", retryable=False
                )
                return [*before, *_on_error(task, row, error, None, report, now, now_us)]
            if (problem := _not_json(report.result)) is not None:
                error = TaskError(type="ResultNotJson", message=f"result: {problem}", retryable=False)
                return [*before, *_on_error(task, row, error, None, report, now, now_us)]
            return [*before, completed(row, now, report)]
        case r.AttemptFailed():
            if report.timed_out:
                return [*before, *on_timeout(task, row, now, now_us, number=report.number)]
            return [*before, *_on_error(task, row, cut_error(report.error), report.retry_after, report, now, now_us)]
    raise AssertionError(f"no decision for {type(report).__name__}")


def _percent(reported: float | None) -> float | None:
    """Limit progress to 0 to 100; None if it is not a number."""
    return None if reported is None else min(max(0.0, reported), 100.0)


def _not_json(value: Raw) -> str | None:
    """Why raw bytes, which were not decoded before, are not valid JSON; None if they are."""
    try:
        json.decode(value)
    except (DecodeError, UnicodeDecodeError, RecursionError) as error:
        return str(error)
    return None


def _started(row: TaskRow, report: r.AttemptReport) -> Struct:
    number = report.number if isinstance(report, r.AttemptStarted) else report.number - 1
    if row.attempt == 1:
        return e.TaskStarted(attempt=1, worker=worker_of(row), token=report.token, number=number)
    return e.AttemptStartedEvent(
        attempt=row.attempt, dispatch=row.dispatch, worker=worker_of(row), token=report.token, number=number
    )


def _on_given_up(task: str, row: TaskRow, report: r.AttemptCancelled, now: str, now_us: int) -> list[Struct]:
    if row.cancel is None:
        return on_lost(task, row, now, now_us, reason="the worker abandoned the attempt")
    data = e.AttemptCancelledEvent(**_who(row), number=report.number)
    return [_of_attempt(data, row), cancelled(row, now)]


def _cancelled_or_ready(row: TaskRow, now: str) -> Struct:
    if row.cancel is not None:
        return cancelled(row, now)
    return e.TaskReady(queue=row.queue, priority=row.priority)


def _on_error(
    task: str, row: TaskRow, error: TaskError, retry_after: float | None, report: Any, now: str, now_us: int
) -> list[Struct]:
    data = e.AttemptFailedEvent(**_who(row), number=report.number, error=error, ran_seconds=report.ran_seconds)
    first = _of_attempt(data, row, began=now)
    policy = row.policy
    failures = row.errors + row.timed_out + 1
    if row.cancel is not None:
        return [first, cancelled(row, now)]
    if not error.retryable:
        return [first, failed(row, now, "permanent", error, began=True, number=report.number)]
    if failures >= policy.max_attempts:
        return [first, failed(row, now, "exhausted", error, began=True, number=report.number)]
    delay = (
        min(max(0.0, retry_after), SECONDS_MAX)
        if retry_after is not None
        else delay_seconds(policy.retry, failures, task=task, attempt=row.attempt)
    )
    return [first, _retry(row, delay, "error", error, now_us)]


def on_timeout(task: str, row: TaskRow, now: str, now_us: int, *, number: int = 0) -> list[Struct]:
    """The attempt took longer than its policy allows: reported by the worker (`number`), or found by the agenda."""
    policy = row.policy
    seconds = policy.timeout_seconds or 0.0
    first = _of_attempt(e.AttemptTimedOut(**_who(row), number=number, timeout_seconds=seconds), row, began=now)
    failures = row.errors + row.timed_out + 1
    error = TaskError(type="AttemptTimedOut", message=f"attempt {row.attempt} exceeded its timeout of {seconds:g} s")
    if row.cancel is not None:
        return [first, cancelled(row, now)]
    if not policy.retry.timeout or failures >= policy.max_attempts:
        return [first, failed(row, now, "timed_out", error, began=True, number=number)]
    delay = delay_seconds(policy.retry, failures, task=task, attempt=row.attempt)
    return [first, _retry(row, delay, "timeout", error, now_us)]


def on_lost(task: str, row: TaskRow, now: str, now_us: int, *, reason: str, lease_seconds: float | None = None) -> list[Struct]:
    """The events of an attempt whose worker is lost: its lease of `lease_seconds` expired, or its process died (`reason`)."""
    if row.policy.delivery == "at_most_once" and row.state == "dispatched":
        return on_not_started(row, now, start_seconds=lease_seconds or 0.0)
    first: Struct
    if lease_seconds is not None:
        first = _of_attempt(e.AttemptLeaseExpired(**_who(row), lease_seconds=lease_seconds), row)
    else:
        first = _of_attempt(e.AttemptLost(**_who(row), reason=reason), row)
    lost = row.lost + 1
    retry = row.policy.retry
    if row.cancel is not None:
        return [first, cancelled(row, now)]
    error = TaskError(type="WorkerLost", message=f"the worker of attempt {row.attempt} was lost: {reason}")
    if row.policy.delivery == "at_most_once" or lost > retry.max_lost:
        return [first, failed(row, now, "lost", error)]
    if lost <= LOST_AT_ONCE:
        return [first, e.TaskReady(queue=row.queue, priority=row.priority)]
    delay = delay_seconds(retry, lost - LOST_AT_ONCE, task=task, attempt=row.attempt)
    return [first, _retry(row, delay, "lost", error, now_us)]


def on_worker_stopped(task: str, row: TaskRow, now: str, now_us: int) -> list[Struct]:
    """The events of an attempt whose worker shut down: an attempt that had not started is released, a started one is lost."""
    reason = "the worker has stopped"
    if row.state == "running":
        return on_lost(task, row, now, now_us, reason=reason)
    data = _of_attempt(e.AttemptReleasedEvent(**_who(row), reason=reason), row)
    return [data, _cancelled_or_ready(row, now)]


def on_not_started(row: TaskRow, now: str, *, start_seconds: float) -> list[Struct]:
    """The events of an attempt that was not started before its start deadline: it is dispatched again with a new number."""
    data = _of_attempt(e.AttemptSuperseded(**_who(row), start_seconds=start_seconds), row)
    return [data, _cancelled_or_ready(row, now)]


def _retry(row: TaskRow, delay: float, cause: Any, error: TaskError, now_us: int) -> Struct:
    due = text_of(now_us + us_of_seconds(delay))
    return e.TaskRetryScheduled(
        attempt=row.attempt, next_attempt=row.attempt + 1, delay=round(delay, 6), next_retry_at=due, cause=cause, error=error
    )

"""Processes reports about attempts: decides, then applies."""

from schemas import events as e
from schemas import reports as r

from ..changes import Changes
from ..envelope import Envelope
from ..rejection import AttemptRejection, Rejection
from ..routing import misrouted
from .attempts import on_report


def on_attempt_report(changes: Changes, envelope: Envelope, report: r.AttemptReport) -> None:
    """Process a worker's report about an attempt."""
    if misrouted(changes, envelope, report.root):
        return
    task = changes.state.tasks.get(report.task)
    if task is None:
        _reject(changes, envelope, report, _why_unknown(changes, report))
        return
    decision = on_report(task.id, task.row, report, changes.now, changes.now_us)
    if isinstance(decision, Rejection):
        _reject(changes, envelope, report, decision)
        return
    changes.apply_all(task, decision)
    if isinstance(decision[-1], e.AttemptGranted):
        changes.grant_command(task)


def _why_unknown(changes: Changes, report: r.AttemptReport) -> AttemptRejection:
    if report.task in changes.state.ended:
        return Rejection("already_ended", "the task has ended")
    return Rejection("unknown_task", "the task does not exist, or ended long ago")


def _reject(changes: Changes, envelope: Envelope, report: r.AttemptReport, rejection: AttemptRejection) -> None:
    data = e.AttemptReportRejected(
        code=rejection.code,
        reason=rejection.reason,
        task=report.task,
        report=envelope.type,
        attempt=report.attempt,
        worker=report.incarnation,
    )
    changes.apply_to_engine(data)

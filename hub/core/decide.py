"""The entry point for reports: a table that maps the type of a report to its handler.

A handler gets the changes of the batch, the envelope and the report. It may raise InvalidReport only before it changes
anything. A rejected report only adds an event with the reason to the log.
"""

from collections.abc import Callable
from typing import Any

from schemas import Submission
from schemas import reports as r

from .changes import Changes
from .envelope import Envelope
from .fleet.definitions import on_deprecate
from .fleet.workers import on_worker_lost, on_worker_report
from .observations import on_observed
from .requests import on_await, on_cancel, on_submission
from .tasks.reports import on_attempt_report

Handler = Callable[[Changes, Envelope, Any], None]

#: Reports of clients, which get a reply if they are rejected.
REQUESTS = frozenset({Submission, r.TaskCancel, r.TaskAwait, r.DefinitionDeprecate})

HANDLERS: dict[type, Handler] = {
    Submission: on_submission,
    r.TaskCancel: on_cancel,
    r.TaskAwait: on_await,
    r.AttemptStarted: on_attempt_report,
    r.AttemptProgressed: on_attempt_report,
    r.AttemptCompleted: on_attempt_report,
    r.AttemptFailed: on_attempt_report,
    r.AttemptCancelled: on_attempt_report,
    r.AttemptReleased: on_attempt_report,
    r.DefinitionDeprecate: on_deprecate,
    r.WorkerRegistered: on_worker_report,
    r.WorkerHeartbeat: on_worker_report,
    r.WorkerDraining: on_worker_report,
    r.WorkerStopped: on_worker_report,
    r.WorkerLost: on_worker_lost,
    r.EventObserved: on_observed,
}


def decide_report(changes: Changes, envelope: Envelope, report: Any) -> None:
    """Process one report. Raises InvalidReport; then nothing has changed."""
    HANDLERS[type(report)](changes, envelope, report)

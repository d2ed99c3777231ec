"""The one entry point of reports: the table from a report's type to its handler.

A handler gets the changes of the batch, the envelope and the report. It decides first, and raises InvalidReport before it changes
anything or not at all; a report that cannot be taken changes nothing but the log, which says why.
"""

from collections.abc import Callable
from typing import Any

from schemas import Submission
from schemas import reports as r

from .changes import Changes
from .envelope import Envelope
from .fleet.definitions import on_deprecate
from .fleet.workers import on_worker_lost, on_worker_report
from .requests import on_await, on_cancel, on_submission
from .tasks.reports import on_attempt_report

Handler = Callable[[Changes, Envelope, Any], None]

#: Reports of clients: whoever sends one that cannot be taken is answered.
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
}


def decide_report(changes: Changes, envelope: Envelope, report: Any) -> None:
    """Let one report have its effect. Raises InvalidReport, and then nothing has changed."""
    HANDLERS[type(report)](changes, envelope, report)

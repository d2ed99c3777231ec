"""W3C trace contexts of tasks and attempts. The ids are derived, see `schemas/tracing.py`.

Whether a trace is recorded is decided once, when its root is created: by the sampled flag of the submission's context, otherwise
by `trace_sample`. A root that is not in the sample gets a context of its own with the flag 00. The decision is thus on every
event of the task and of its steps, and in every command. Subscribers and workers need no setting, and replaying the log repeats
it.

Two cases begin a linked trace. A task that another one submitted without waiting for it (`parent_id`, and no address for a reply)
has a trace of its own, with the decision of the submitter. Attempts that are dispatched long after the creation of their root are
in the trace of their period.
"""

from schemas.tracing import (
    NOT_SAMPLED,
    SAMPLED,
    continued_trace_id,
    is_in_sample,
    parse_traceparent,
    span_id_of,
    trace_context,
    trace_id_of,
    traceparent_text,
)

from ..state import Task
from ..times import SECOND_US, us_of, us_of_seconds


def root_traceparent(root: str, run: int, ratio: float) -> str | None:
    """The context of a new root whose submission has none: None if it is in the sample, as the ids are then derived."""
    if ratio >= 1.0 or is_in_sample(trace := trace_id_of(root, run), ratio):
        return None
    return traceparent_text(trace, span_id_of("task", root, run), NOT_SAMPLED)


def linked_traceparent(root: str, run: int, link: str) -> str | None:
    """The context of a new root with a trace of its own that is linked with the context `link`: None if that is recorded, as the
    ids are then derived."""
    submitter = parse_traceparent(link)
    if submitter is None or submitter.sampled:
        return None
    return traceparent_text(trace_id_of(root, run), span_id_of("task", root, run), NOT_SAMPLED)


def step_traceparent(root: Task, run: int) -> str | None:
    """The context of a new step: the trace of its root, whose first span is its parent. None if readers of the log can derive
    that from the step's events: the root has no context, and the step is of the same run."""
    row = root.row
    if row.traceparent is None and run == row.run:
        return None
    context = trace_context(root.id, None, row.run, row.traceparent)
    return traceparent_text(context.trace, span_id_of("task", root.id, row.run), context.flags)


def trace_period(root: Task, now_us: int, max_age_seconds: float) -> int:
    """The period of an attempt that is dispatched now; 0 if `max_age_seconds` is 0."""
    age_us = now_us - us_of(root.row.created_at)
    if not max_age_seconds or age_us < max_age_seconds * SECOND_US:
        return 0
    return age_us // max(1, us_of_seconds(max_age_seconds))


def attempt_traceparent(task: Task, attempt: int, period: int = 0) -> str:
    """The context of an attempt, for its command: the parent of spans that its body creates."""
    row, root = task.row, task.root
    given = parse_traceparent(row.traceparent)
    trace, flags = (trace_id_of(root, row.run), SAMPLED) if given is None else (given.trace, given.flags)
    span = span_id_of("attempt", task.id, row.run, attempt)
    return traceparent_text(continued_trace_id(trace, root, period), span, flags)

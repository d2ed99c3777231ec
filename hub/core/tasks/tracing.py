"""W3C trace contexts of tasks and attempts. The ids are derived, see `schemas/tracing.py`.

Whether a trace is recorded is decided once, when its root is created: by the sampled flag of the submission's context, otherwise
by `trace_sample`. A root that is not in the sample gets a context of its own with the flag 00. The decision is thus on every
event of the task and of its steps, and in every command. Subscribers and workers need no setting, and replaying the log repeats
it.
"""

from schemas.tracing import NOT_SAMPLED, is_in_sample, span_id_of, trace_context, trace_id_of, traceparent_text

from ..state import Task


def root_traceparent(root: str, run: int, ratio: float) -> str | None:
    """The context of a new root whose submission has none: None if it is in the sample, as the ids are then derived."""
    if ratio >= 1.0 or is_in_sample(trace := trace_id_of(root, run), ratio):
        return None
    return traceparent_text(trace, span_id_of("task", root, run), NOT_SAMPLED)


def step_traceparent(root: Task, run: int) -> str | None:
    """The context of a new step: the trace of its root, whose first span is its parent. None if readers of the log can derive
    that from the step's events: the root has no context, and the step is of the same run."""
    row = root.row
    if row.traceparent is None and run == row.run:
        return None
    context = trace_context(root.id, None, row.run, row.traceparent)
    return traceparent_text(context.trace, span_id_of("task", root.id, row.run), context.flags)


def attempt_traceparent(task: Task, attempt: int) -> str:
    """The context of an attempt, for its command: the parent of spans that its body creates."""
    row = task.row
    context = trace_context(task.id, row.root, row.run, row.traceparent)
    return traceparent_text(context.trace, span_id_of("attempt", task.id, row.run, attempt), context.flags)

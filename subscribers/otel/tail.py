"""Tail sampling: spans of a task are exported when it ends, if the task is worth it. Stateless: decided from single events.

Exported are tasks that did not succeed at their first attempt, slow ones, and a share of the rest, chosen by the trace id: of one
trace, all tasks are exported, or only those with a reason of their own. The end of an attempt that was not a success implies that
its task is exported, so it is exported at once; the spans are the same as without tail sampling.

Not exported: waits for a start time and for dependencies, and, of a trace that is not chosen, the root's spans if only a step has
a reason.
"""

from typing import NamedTuple

from schemas import Event
from schemas.events.attempt import AttemptEnded
from schemas.events.base import Ended
from schemas.tracing import context_of_event, is_in_sample

from ..api import error_of, result_of
from .spans import TaskSpan, anchors_of, spans_of
from .times import ns_of, ns_of_seconds


class Tail(NamedTuple):
    """`slow_seconds`: how long a task takes, from when it became ready, to be slow. `share`: of the other tasks, 0 to 1."""

    slow_seconds: float
    share: float

    def spans_of(self, event: Event) -> list[TaskSpan]:
        """The spans to export when this event is read. Raises ValueError if a time in the event is invalid."""
        data = event.data
        if isinstance(data, Ended):
            spans = spans_of(event)
            return [*anchors_of(event), *spans] if spans and self.keeps(event) else []
        if isinstance(data, AttemptEnded):
            given_back = event.type in ("attempt.released", "attempt.superseded")
            return [] if given_back and data.attempt == 1 else spans_of(event)
        return spans_of(event) if event.type == "task.ready" and event.from_state == "retrying" else []

    def keeps(self, event: Event) -> bool:
        """Whether the task of this terminal event is exported."""
        data = event.data
        result = result_of(event)
        if result not in ("success", "skip") or error_of(event) is not None or data.attempt > 1:
            return True
        took = ns_of(data.finished_at) - ns_of(data.ready_at or data.created_at)
        slow = result == "success" and took >= ns_of_seconds(self.slow_seconds)
        return slow or is_in_sample(context_of_event(event).trace, self.share)

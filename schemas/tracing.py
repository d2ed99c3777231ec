"""Trace contexts and span ids of tasks, derived from the log: the same event gives the same ids on every machine.

Engine, workers and subscribers use the same functions, so that the span of an attempt is known before the attempt runs (it is in
the command) and the span that a subscriber exports later has the same id.

- **Trace id**: that of the submission's W3C trace context. Without one: the bits of the root's id if that is a UUIDv7, which the
  client makes for each submission, so that a trace can be found by the id of its task. Any other id may be used again after its
  task has ended, so the trace id is a digest of the id and the run. A UUIDv7 that is submitted again after its retention is not
  told apart: both runs are then in one trace, with different span ids.
- **Span id**: a digest of kind, task, run, and number of the attempt.
- **Parent of a task's first span**: the span in the context of the task. For a step without a context: that of its root.
- **Attempts of long runs**: an attempt that is dispatched later than the engine's `trace_max_age_seconds` after the creation of
  its root belongs to a trace of its own period (the age divided by the maximum): a digest of trace, root, and period. The engine
  decides the period at the dispatch and writes it to the log (`trace_period`), so that nobody else needs the setting.

Sources: W3C Trace Context, section 3.2 (format of traceparent; ids of zeros are invalid); BLAKE2b (RFC 7693).
"""

from hashlib import blake2b
from re import compile as pattern
from typing import Literal, NamedTuple

from .envelope import Event

SpanKind = Literal["task", "submit", "wait", "queue", "dispatch", "attempt", "run"]
"""The spans of a task: its creation, its submission by another task, a wait, the time in a queue, a dispatch without an attempt,
an attempt, the whole run."""

SAMPLED, NOT_SAMPLED = "01", "00"

_TRACEPARENT = pattern(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})").fullmatch
_UUID7 = pattern(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}").fullmatch
_NO_SPAN = "0" * 16
_RATIO_BITS = 64


class TraceContext(NamedTuple):
    """The trace of a task: the ids as lower-case hexadecimal digits. `parent`: the parent of the task's first span, None for the
    first span of a trace. `flags`: two hexadecimal digits."""

    trace: str
    parent: str | None
    flags: str

    @property
    def sampled(self) -> bool:
        """Whether the spans of the trace are recorded (bit 0 of the flags)."""
        return int(self.flags, 16) & 1 == 1


def parse_traceparent(text: str | None) -> TraceContext | None:
    """The trace context in a header `traceparent` of version 00; None if it is absent or invalid."""
    found = None if text is None else _TRACEPARENT(text)
    return None if found is None else TraceContext(*found.groups())


def traceparent_text(trace: str, span: str, flags: str) -> str:
    """A header `traceparent`."""
    return f"00-{trace}-{span}-{flags}"


def trace_id_of(root: str, run: int) -> str:
    """The trace id of a root without a trace context, in this run."""
    if len(root) == 36 and _UUID7(root):
        return root.replace("-", "")
    return blake2b(f"trace/{run}/{root}".encode(), digest_size=16).hexdigest()


def continued_trace_id(trace: str, root: str, period: int) -> str:
    """The trace of the attempts of a root and its steps in this period; `trace`: that of the task, which period 0 continues."""
    if period <= 0:
        return trace
    return blake2b(f"continued/{period}/{trace}/{root}".encode(), digest_size=16).hexdigest()


def span_id_of(kind: SpanKind, task: str, run: int, number: int = 0) -> str:
    """The id of a span of a task. `number`: what distinguishes spans of the same kind in one run, such as the number of the
    attempt."""
    span = blake2b(f"{kind}/{run}/{number}/{task}".encode(), digest_size=8).hexdigest()
    return span if span != _NO_SPAN else f"{1:016x}"


def trace_context(task: str, root: str | None, run: int, traceparent: str | None) -> TraceContext:
    """The trace context of a task. `root`: the id of its root (None or its own id: it is not a step). `traceparent`: that of its
    events. A step without one has the run of its root."""
    given = parse_traceparent(traceparent)
    if given is not None:
        return given
    if root is None or root == task:
        return TraceContext(trace_id_of(task, run), None, SAMPLED)
    return TraceContext(trace_id_of(root, run), span_id_of("task", root, run), SAMPLED)


def context_of_event(event: Event) -> TraceContext:
    """The trace context of the task of an event."""
    return trace_context(event.subject, event.rootid, event.run, event.traceparent)


def attempt_trace_of(event: Event) -> str:
    """The trace of the attempt that an event is about; that of the task if the event is about none."""
    period = getattr(event.data, "trace_period", 0)
    return continued_trace_id(context_of_event(event).trace, event.rootid or event.subject, period)


def is_in_sample(trace: str, ratio: float) -> bool:
    """Whether the trace is among the share `ratio` (0 to 1) of all traces. The digest makes the decision independent of how the
    id was made: the bits of a UUID are not evenly distributed."""
    if ratio >= 1.0:
        return True
    digest = blake2b(bytes.fromhex(trace), digest_size=8, person=b"sample").digest()
    return int.from_bytes(digest, "big") < int(ratio * (1 << _RATIO_BITS))

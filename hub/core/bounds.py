"""How long and how large what outsiders say may be, so that one record cannot outgrow a transaction or freeze a worker's lease.

What a person or a program submits is rejected with the field's name; what a worker reports of work that is done anyway is cut.
"""

from msgspec import json
from msgspec.structs import replace

from schemas import StepSpec, Submission, TaskError, TaskSpec, check_id
from schemas import reports as r
from schemas.fields import byte_bounds
from schemas.tasks import ANNOTATIONS_MAX

#: Ids, keys, names and what else identifies something (bytes).
ID_BYTES = 255


#: The CloudEvents source of a report (bytes in JSON).
SOURCE_BYTES = 1_024


#: A character takes at most this many bytes for each of its own when it is escaped in JSON (a control character).
ESCAPED_MAX = 6


#: A sentence for people: reasons, descriptions, messages of errors and of progress (characters).
TEXT_MAX = 4_096


#: Why something was rejected: enough for a field's path and the value's beginning (characters).
REASON_MAX = 1_024


#: Stack traces (characters); the end says most.
STACKTRACE_MAX = 16_384


#: Of an error, what the ended index keeps (characters).
KEPT_ERROR_MAX = 500


#: Tags and annotations, each, as JSON (bytes).
TAGS_BYTES = 16 * 1024


#: A year: longer waits are more likely a mistake in units (seconds).
SECONDS_MAX = 366 * 86_400.0


#: Silence after which a worker counts as dead can't be longer than this (seconds).
LEASE_SECONDS_MAX = 3_600.0


#: Queues of one worker.
QUEUES_MAX = 10_000


#: What one worker may register, and definitions that one partition may know: each of them is an event and a row.
DEFINITIONS_MAX = 2_000
DEFINITIONS_KNOWN_MAX = 100_000


#: Priorities lie between minus this and this.
PRIORITY_MAX = 1_000_000


_BOUNDS: dict[type[TaskSpec], tuple[tuple[str, int], ...]] = {
    struct: tuple(byte_bounds(struct).items()) for struct in (Submission, StepSpec)
}


def check_texts(spec: TaskSpec, at: str) -> str | None:
    """Why a text of `spec` is too long, naming the field under `at`; None when none is."""
    for name, bytes_max in _BOUNDS[type(spec)]:
        text = getattr(spec, name)
        if text is not None and len(text) > bytes_max // 4 and len(text.encode()) > bytes_max:
            return f"{at}{name}: longer than {bytes_max} bytes"
    if spec.description is not None and len(spec.description) > TEXT_MAX:
        return f"{at}description: longer than {TEXT_MAX} characters"
    for name in ("tags", "annotations"):
        pairs: dict[str, str] = getattr(spec, name)
        if len(pairs) > ANNOTATIONS_MAX:
            return f"{at}{name}: more than {ANNOTATIONS_MAX} entries"
        if pairs and len(json.encode(pairs)) > TAGS_BYTES:
            return f"{at}{name}: more than {TAGS_BYTES} bytes"
    return None


def escaped_bytes(text: str) -> int:
    """How many bytes `text` takes inside a JSON string."""
    return len(json.encode(text)) - 2


def check_ids(report: r.TaskRequest) -> str | None:
    """Why a request names no task, with the field and the value; None when it names one."""
    return check_id(report.id, "id") or (check_id(report.root, "root") if report.root is not None else None)


def check_cancel(report: r.TaskCancel) -> str | None:
    """Why a cancel cannot be taken, naming the field."""
    if len(report.reason) > TEXT_MAX:
        return f"reason: longer than {TEXT_MAX} characters"
    if report.by is not None and len(report.by.encode()) > ID_BYTES:
        return f"by: longer than {ID_BYTES} bytes"
    return None


def cut(text: str, at_most: int = TEXT_MAX) -> str:
    """The beginning of `text`, with a sign that more was there."""
    return text if len(text) <= at_most else text[: at_most - 1] + "…"


def cut_error(error: TaskError, *, message: int = TEXT_MAX, stacktrace: int = STACKTRACE_MAX) -> TaskError:
    """`error` with no text longer than may be; a stack trace loses its beginning."""
    trace = error.stacktrace
    if len(error.message) <= message and len(error.type) <= ID_BYTES and (trace is None or len(trace) <= stacktrace):
        return error
    if trace is not None:
        trace = trace[-stacktrace:] if stacktrace else None
    return replace(error, type=cut(error.type, ID_BYTES), message=cut(error.message, message), stacktrace=trace)

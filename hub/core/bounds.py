"""Limits of sizes and lengths in reports, so that one record can neither exceed a transaction nor block a lease.

Oversized fields of submissions and requests are rejected by name; oversized texts in reports of workers are truncated, because
the work is already done.
"""

from collections.abc import Callable, Mapping
from operator import attrgetter

from msgspec import json
from msgspec.structs import replace

from schemas import StepSpec, Submission, TaskError, TaskSpec, check_id
from schemas import reports as r
from schemas.fields import byte_bounds
from schemas.tasks import ANNOTATIONS_MAX

#: Ids, keys, names and other identifiers (bytes).
ID_BYTES = 255


#: The CloudEvents source of a report (bytes in JSON).
SOURCE_BYTES = 1_024


#: Most bytes per byte after escaping in JSON (for a control character).
ESCAPED_MAX = 6


#: Text for people: reasons, descriptions, messages of errors and of progress (characters).
TEXT_MAX = 4_096


#: Reason of a rejection: enough for the path of a field and the beginning of its value (characters).
REASON_MAX = 1_024


#: Stack traces (characters); the end is kept.
STACKTRACE_MAX = 16_384


#: Error message in the ended index (characters).
KEPT_ERROR_MAX = 500


#: Tags and annotations, each as JSON (bytes).
TAGS_BYTES = 16 * 1024


#: About a year (seconds): a longer duration is probably an error in the unit.
SECONDS_MAX = 366 * 86_400.0


#: Longest lease of a worker (seconds).
LEASE_SECONDS_MAX = 3_600.0


#: Queues of one worker.
QUEUES_MAX = 10_000


#: What one worker may register, and definitions that one partition may know: each of them is an event and a row.
DEFINITIONS_MAX = 2_000
DEFINITIONS_KNOWN_MAX = 100_000


#: Subscribers and alerts that one partition may know, and the data of an event about one of them (bytes).
OBSERVED_MAX = 10_000
OBSERVED_BYTES_MAX = 16 * 1024


#: Priorities lie between minus this and this.
PRIORITY_MAX = 1_000_000


_BOUNDS: dict[type[TaskSpec], dict[str, int]] = {struct: byte_bounds(struct) for struct in (Submission, StepSpec)}
_texts_of: dict[type[TaskSpec], Callable[[TaskSpec], tuple[str | None, ...]]] = {
    struct: attrgetter(*bounds) for struct, bounds in _BOUNDS.items()
}

#: Texts that together have up to this many characters, of at most four bytes each, are within every bound.
CERTAINLY_SHORT = min(min(bounds.values()) for bounds in _BOUNDS.values()) // 4


def check_texts(spec: TaskSpec, at: str) -> str | None:
    """The first text field of `spec` that is too long, as a message with its path below `at`; None if there is none."""
    texts = _texts_of[type(spec)](spec)
    if len("".join(filter(None, texts))) > CERTAINLY_SHORT:
        for text, (name, bytes_max) in zip(texts, _BOUNDS[type(spec)].items(), strict=True):
            if text is not None and len(text.encode()) > bytes_max:
                return f"{at}{name}: longer than {bytes_max} bytes"
    if spec.description is not None and len(spec.description) > TEXT_MAX:
        return f"{at}description: longer than {TEXT_MAX} characters"
    if spec.tags or spec.annotations:
        return _check_pairs("tags", spec.tags, at) or _check_pairs("annotations", spec.annotations, at)
    return None


def _check_pairs(name: str, pairs: Mapping[str, str], at: str) -> str | None:
    if len(pairs) > ANNOTATIONS_MAX:
        return f"{at}{name}: more than {ANNOTATIONS_MAX} entries"
    if len(json.encode(pairs)) > TAGS_BYTES:
        return f"{at}{name}: more than {TAGS_BYTES} bytes as JSON"
    return None


def escaped_bytes(text: str) -> int:
    """The size of `text` in bytes inside a JSON string."""
    return len(json.encode(text)) - 2


def check_ids(report: r.TaskRequest) -> str | None:
    """Why the ids of a request are invalid, with field and value; None if they are valid."""
    return check_id(report.id, "id") or (check_id(report.root, "root") if report.root is not None else None)


def check_cancel(report: r.TaskCancel) -> str | None:
    """Why a cancel request is invalid, with the field; None if it is valid."""
    if len(report.reason) > TEXT_MAX:
        return f"reason: longer than {TEXT_MAX} characters"
    if report.by is not None and len(report.by.encode()) > ID_BYTES:
        return f"by: longer than {ID_BYTES} bytes"
    return None


def cut(text: str, at_most: int = TEXT_MAX) -> str:
    """Truncate `text` to `at_most` characters, with a mark if it was longer."""
    return text if len(text) <= at_most else text[: at_most - 1] + "…"


def cut_error(error: TaskError, *, message: int = TEXT_MAX, stacktrace: int = STACKTRACE_MAX) -> TaskError:
    """`error` with texts truncated to the limits; a stack trace keeps its end."""
    trace = error.stacktrace
    if len(error.message) <= message and len(error.type) <= ID_BYTES and (trace is None or len(trace) <= stacktrace):
        return error
    if trace is not None:
        trace = trace[-stacktrace:] if stacktrace else None
    return replace(error, type=cut(error.type, ID_BYTES), message=cut(error.message, message), stacktrace=trace)

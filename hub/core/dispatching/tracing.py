"""W3C trace context of attempts."""

from hashlib import blake2b
from re import compile as pattern

from ..state import Task

_HEX = pattern(r"[0-9a-f]{32}\Z").match


def traceparent_of(task: Task, attempt: int) -> str:
    """W3C trace context of an attempt: the trace id of the submission, or one derived from the root, and a derived span id."""
    given = task.row.traceparent
    if given is not None and len(given) == 55:
        trace, flags = given[3:35], given[53:55]
    else:
        trace, flags = trace_id_of(task.root), "01"
    span = blake2b(f"attempt/{task.id}/{attempt}".encode(), digest_size=8).hexdigest()
    return f"00-{trace}-{span}-{flags}"


def trace_id_of(root: str) -> str:
    """The trace id derived from a root id: the bits of a UUID, or a digest of any other id (32 hexadecimal digits)."""
    if len(root) == 36:
        digits = root.replace("-", "")
        if _HEX(digits):
            return digits
    return blake2b(root.encode(), digest_size=16).hexdigest()

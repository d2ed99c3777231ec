"""How an attempt ended, as a value."""

import re
import traceback
from hashlib import blake2b
from typing import NamedTuple

from schemas import TaskError

STACKTRACE_BYTES_MAX = 16 * 1024
MESSAGE_BYTES_MAX = 4 * 1024

_NUMBERS = re.compile(r"0x[0-9a-fA-F]+|\d+")


class Succeeded(NamedTuple):
    """The handler returned; `result` is JSON."""

    result: bytes
    ran_seconds: float


class Failed(NamedTuple):
    """The handler raised, or took too long. `retry_after` in seconds wins over the policy's back-off."""

    error: TaskError
    ran_seconds: float
    retry_after: float | None = None
    timed_out: bool = False


class Cancelled(NamedTuple):
    """The code was told to stop, and has."""

    ran_seconds: float


Outcome = Succeeded | Failed | Cancelled


def error_of(raised: BaseException, *, retryable: bool = True) -> TaskError:
    """An exception as a task's error: type, message, shortened stack trace, and a fingerprint that groups like errors."""
    kind = type(raised).__qualname__
    try:
        message = _cut(str(raised), MESSAGE_BYTES_MAX)
    except Exception as error:  # It is the exception's own code.
        message = f"(its text cannot be had: {type(error).__qualname__})"
    stacktrace = _cut("".join(traceback.format_exception(raised)), STACKTRACE_BYTES_MAX)
    return TaskError(
        type=kind, message=message, stacktrace=stacktrace, retryable=retryable, fingerprint=fingerprint_of(kind, message)
    )


def fingerprint_of(kind: str, message: str) -> str:
    """16 hex digits of type and message without its numbers."""
    return blake2b(f"{kind}\n{_NUMBERS.sub('#', message)}".encode(errors="backslashreplace"), digest_size=8).hexdigest()


def _cut(text: str, limit: int) -> str:
    raw = text.encode(errors="backslashreplace")  # half a character, as in the name of a file, is no JSON
    return raw.decode() if len(raw) <= limit else raw[:limit].decode(errors="ignore") + "…"

"""The outcome of an attempt, as a value."""

import re
import traceback
from hashlib import blake2b
from typing import NamedTuple

from msgspec.structs import replace

from schemas import TaskError

STACKTRACE_BYTES_MAX = 16 * 1024
MESSAGE_BYTES_MAX = 4 * 1024
TYPE_BYTES_MAX = 256
SHORT_MESSAGE_BYTES_MAX = 256

_NUMBERS = re.compile(r"0x[0-9a-fA-F]+|\d+")


class Succeeded(NamedTuple):
    """The handler returned; `result` is JSON."""

    result: bytes
    ran_seconds: float


class Failed(NamedTuple):
    """The handler raised an exception or timed out. `retry_after`, in seconds, overrides the policy's backoff."""

    error: TaskError
    ran_seconds: float
    retry_after: float | None = None
    timed_out: bool = False


class Cancelled(NamedTuple):
    """The handler was requested to stop, and has stopped."""

    ran_seconds: float


Outcome = Succeeded | Failed | Cancelled


def error_of(raised: BaseException, *, retryable: bool = True) -> TaskError:
    """Converts an exception to a task's error: type, message, truncated stack trace, fingerprint that groups equal errors."""
    kind, message = _cut(type(raised).__qualname__, TYPE_BYTES_MAX), text_of(raised)
    return TaskError(
        type=kind,
        message=message,
        stacktrace=_stacktrace_of(raised),
        retryable=retryable,
        fingerprint=fingerprint_of(kind, message),
    )


def text_of(raised: BaseException) -> str:
    """The message of an exception, truncated and encodable as UTF-8."""
    try:
        return _cut(str(raised), MESSAGE_BYTES_MAX)
    except BaseException as error:  # `str` calls the exception's own code.
        return f"(no message: str() of the exception raised {type(error).__qualname__})"


def _stacktrace_of(raised: BaseException) -> str | None:
    try:
        return _cut("".join(traceback.format_exception(raised)), STACKTRACE_BYTES_MAX)
    except BaseException:  # This calls the exception's own code, too: its notes may be a property.
        return None


def in_short(outcome: Outcome, refused: Exception) -> Failed:
    """The outcome to report instead of one that could not be sent because of `refused`: a failure with a short message."""
    if not isinstance(outcome, Failed):
        error = error_of(refused, retryable=False)
        return Failed(replace(error, stacktrace=None), outcome.ran_seconds)
    error = replace(outcome.error, message=_cut(outcome.error.message, SHORT_MESSAGE_BYTES_MAX), stacktrace=None)
    return outcome._replace(error=error)


def fingerprint_of(kind: str, message: str) -> str:
    """A hash, 16 hexadecimal digits, of the type and of the message with all numbers removed."""
    return blake2b(f"{kind}\n{_NUMBERS.sub('#', message)}".encode(errors="backslashreplace"), digest_size=8).hexdigest()


def _cut(text: str, limit: int) -> str:
    raw = text.encode(errors="backslashreplace")  # a lone surrogate, as in file names, is not valid in JSON
    return raw.decode() if len(raw) <= limit else raw[:limit].decode(errors="ignore") + "…"

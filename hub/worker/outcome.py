"""How an attempt ended, as a value."""

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
    """The handler raised, or took too long. `retry_after` in seconds wins over the policy's backoff."""

    error: TaskError
    ran_seconds: float
    retry_after: float | None = None
    timed_out: bool = False


class Cancelled(NamedTuple):
    """The code was asked to stop, and has."""

    ran_seconds: float


Outcome = Succeeded | Failed | Cancelled


def error_of(raised: BaseException, *, retryable: bool = True) -> TaskError:
    """An exception as a task's error: type, message, shortened stack trace, and a fingerprint that groups like errors."""
    kind, message = _cut(type(raised).__qualname__, TYPE_BYTES_MAX), text_of(raised)
    return TaskError(
        type=kind,
        message=message,
        stacktrace=_stacktrace_of(raised),
        retryable=retryable,
        fingerprint=fingerprint_of(kind, message),
    )


def text_of(raised: BaseException) -> str:
    """Its message, shortened; it can be sent, whatever it is."""
    try:
        return _cut(str(raised), MESSAGE_BYTES_MAX)
    except BaseException as error:  # It is the exception's own code.
        return f"(its text cannot be had: {type(error).__qualname__})"


def _stacktrace_of(raised: BaseException) -> str | None:
    try:
        return _cut("".join(traceback.format_exception(raised)), STACKTRACE_BYTES_MAX)
    except BaseException:  # The exception's own code again: its notes may be a property.
        return None


def in_short(outcome: Outcome, refused: Exception) -> Failed:
    """The end that is reported where `outcome` could not be sent, because of `refused`: a failure with a short message."""
    if not isinstance(outcome, Failed):
        error = error_of(refused, retryable=False)
        return Failed(replace(error, stacktrace=None), outcome.ran_seconds)
    error = replace(outcome.error, message=_cut(outcome.error.message, SHORT_MESSAGE_BYTES_MAX), stacktrace=None)
    return outcome._replace(error=error)


def fingerprint_of(kind: str, message: str) -> str:
    """16 hex digits of type and message without its numbers."""
    return blake2b(f"{kind}\n{_NUMBERS.sub('#', message)}".encode(errors="backslashreplace"), digest_size=8).hexdigest()


def _cut(text: str, limit: int) -> str:
    raw = text.encode(errors="backslashreplace")  # half a character, as in the name of a file, is not valid JSON
    return raw.decode() if len(raw) <= limit else raw[:limit].decode(errors="ignore") + "…"

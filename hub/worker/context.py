"""The context of a handler, and the exceptions by which it controls retries."""

import logging
from collections.abc import Callable
from numbers import Real
from typing import Any

from msgspec import json

from schemas import ExecuteAttempt

from .shared import Latch


class RetryLater(Exception):
    """Raised by a handler to request another attempt, after `after` seconds (default: the backoff of the retry policy)."""

    def __init__(self, reason: str = "", *, after: float | None = None) -> None:
        super().__init__(reason or "the handler requested another attempt")
        self.after = after


class Permanent(Exception):
    """Raised by a handler to fail the task without further attempts."""


class TaskContext:
    """The context of one attempt, for its handler. Safe to use from the handler's thread."""

    __slots__ = ("_cancelled", "_command", "_dependencies", "_progress")

    def __init__(self, command: ExecuteAttempt, progress: Callable[[float | None, str], None]) -> None:
        self._command = command
        self._progress = progress
        self._cancelled = Latch()
        self._dependencies: dict[str, Any] | None = None

    @property
    def command(self) -> ExecuteAttempt:
        """The command of this attempt; used by the worker."""
        return self._command

    @property
    def logger(self) -> logging.Logger:
        """The logger `hub.task.<name>`."""
        return logging.getLogger(f"hub.task.{self._command.name}")

    @property
    def task_id(self) -> str:
        """The task's id. It is the same in every attempt: use it as idempotency key of calls to other services."""
        return self._command.task

    @property
    def root_id(self) -> str:
        """The id of the workflow's root; the task's own id outside a workflow."""
        return self._command.root

    @property
    def key(self) -> str | None:
        """The step's key in its workflow; None outside a workflow."""
        return self._command.key

    @property
    def name(self) -> str:
        """The task's name."""
        return self._command.name

    @property
    def attempt(self) -> int:
        """The number of this attempt, from 1."""
        return self._command.attempt

    @property
    def max_attempts(self) -> int:
        """The number of failed attempts after which the task fails."""
        return self._command.max_attempts

    @property
    def tags(self) -> dict[str, str]:
        """The task's tags."""
        return self._command.tags

    @property
    def correlation_id(self) -> str | None:
        """The id that groups related tasks; None: the root's id."""
        return self._command.correlation_id

    @property
    def traceparent(self) -> str | None:
        """The W3C trace context of this attempt: the parent of spans that the handler creates."""
        return self._command.traceparent

    @property
    def dependencies(self) -> dict[str, Any]:
        """The results of the steps that this one depends on, by key. Raises LookupError if some are too large to be passed."""
        if self._command.dependencies_omitted:
            names = ", ".join(self._command.dependencies_omitted)
            raise LookupError(f"results too large to be passed to this step: {names}; return a reference in those steps instead")
        if self._dependencies is None:
            self._dependencies = {key: json.decode(value) for key, value in self._command.dependencies.items()}
        return self._dependencies

    @property
    def cancelled(self) -> bool:
        """Whether the handler should stop: the task was cancelled, the attempt timed out, or its lease was lost. Async handlers
        are also cancelled."""
        return self._cancelled.is_set

    def progress(self, percent: float | None = None, message: str = "") -> None:
        """Report the progress: `percent` from 0 to 100 (values outside are clamped) and a message. The report is sent in the
        background; may be called often, from any thread. Raises TypeError if `percent` is not a number, ValueError if NaN."""
        self._progress(_percentage(percent), message.encode(errors="backslashreplace").decode())

    def cancel(self) -> None:
        """Set `cancelled`; called by the worker."""
        self._cancelled.set()


def _percentage(percent: float | None) -> float | None:
    if percent is None:
        return None
    if isinstance(percent, bool) or not isinstance(percent, Real):
        raise TypeError(f"percent must be a number between 0 and 100, got {percent!r}")
    if percent != percent:
        raise ValueError("percent must be a number between 0 and 100, got NaN")
    return float(min(max(percent, 0), 100))

"""What a handler gets and may raise."""

import logging
from collections.abc import Callable
from numbers import Real
from typing import Any

from msgspec import json

from schemas import ExecuteAttempt

from .shared import Latch


class RetryLater(Exception):
    """Raised by a handler: run it again, after `after` seconds (else after the policy's backoff)."""

    def __init__(self, reason: str = "", *, after: float | None = None) -> None:
        super().__init__(reason or "the handler asked for another attempt")
        self.after = after


class Permanent(Exception):
    """Raised by a handler: another attempt would not help."""


class TaskContext:
    """One attempt, as its handler sees it. Safe to use from the handler's thread."""

    __slots__ = ("_cancelled", "_command", "_dependencies", "_progress")

    def __init__(self, command: ExecuteAttempt, progress: Callable[[float | None, str], None]) -> None:
        self._command = command
        self._progress = progress
        self._cancelled = Latch()
        self._dependencies: dict[str, Any] | None = None

    @property
    def logger(self) -> logging.Logger:
        """The logger `hub.task.<name>`."""
        return logging.getLogger(f"hub.task.{self._command.name}")

    @property
    def task_id(self) -> str:
        """The task's id: the same in every attempt, so a good idempotency key for what the handler calls."""
        return self._command.task

    @property
    def root_id(self) -> str:
        """The id of the workflow's root, or the task's own."""
        return self._command.root

    @property
    def key(self) -> str | None:
        """The step's key in its workflow."""
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
        """After how many failed attempts the task fails."""
        return self._command.max_attempts

    @property
    def tags(self) -> dict[str, str]:
        """The task's tags."""
        return self._command.tags

    @property
    def correlation_id(self) -> str | None:
        """What the flow belongs to."""
        return self._command.correlation_id

    @property
    def traceparent(self) -> str | None:
        """W3C trace context of this attempt: spans made under it nest below the attempt's span."""
        return self._command.traceparent

    @property
    def dependencies(self) -> dict[str, Any]:
        """The results of the steps that this one waited for, by key. Raises LookupError where they were too large to hand on."""
        if self._command.dependencies_omitted:
            names = ", ".join(self._command.dependencies_omitted)
            raise LookupError(f"results too large to hand on: {names}; let those steps return a reference")
        if self._dependencies is None:
            self._dependencies = {key: json.decode(value) for key, value in self._command.dependencies.items()}
        return self._dependencies

    @property
    def cancelled(self) -> bool:
        """Whether the handler should stop: cancelled, timed out, or its lease is lost. Async handlers are cancelled besides."""
        return self._cancelled.is_set

    def progress(self, percent: float | None = None, message: str = "") -> None:
        """Report how far it is: 0..100 (a number outside is taken as the nearest of them), and a sentence. Sent in the
        background; may be called often, from any thread. Raises TypeError or ValueError for a percent that is not a number."""
        self._progress(_percentage(percent), message.encode(errors="backslashreplace").decode())

    def cancel(self) -> None:
        """Called by the worker."""
        self._cancelled.set()


def _percentage(percent: float | None) -> float | None:
    if percent is None:
        return None
    if isinstance(percent, bool) or not isinstance(percent, Real):
        raise TypeError(f"percent must be a number between 0 and 100, got {percent!r}")
    if percent != percent:
        raise ValueError("percent must be a number between 0 and 100, got NaN")
    return float(min(max(percent, 0), 100))

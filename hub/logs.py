"""Loggers of the hub's modules: loggers of the standard library with named fields; `OutageLog`.

The output of records is determined by the configuration of `logging`: that of a program that uses the hub as a library (without
one, Python prints warnings and errors to stderr), or that of `telemetry.configure_logging` in the hub's processes.

While a handler of a task or of a subscriber runs, every record of its task or thread has the fields of its scope (`LOG_SCOPE`).

Rules: every record has an `action` (stable; in `extra` with loggers of the standard library) and ids, never payloads.
"""

import logging
import time
from collections.abc import Callable, Hashable, Mapping
from contextvars import ContextVar
from typing import Any

#: The fields of what the current code works on: a task, an event. A function, so that they are only built for a record.
LOG_SCOPE: ContextVar[Callable[[], Mapping[str, object]] | None] = ContextVar("LOG_SCOPE", default=None)


def scope_fields() -> dict[str, object]:
    """The fields of the current scope without those that are None: `task`, `root`, `attempt`, `correlation_id`, `trace_id` and
    `span_id` while a handler of a task or of a subscriber runs, also in its threads. Empty outside."""
    scope = LOG_SCOPE.get()
    return {} if scope is None else {name: value for name, value in scope().items() if value is not None}


class ScopeFilter(logging.Filter):
    """For programs with their own configuration of `logging`: sets the fields of the current scope as attributes of each record
    (`%(task)s`), empty where there are none. Add it to a handler."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Set the attributes; every record passes."""
        fields = scope_fields()
        for name in SCOPE_NAMES:
            setattr(record, name, fields.get(name, ""))
        return True


SCOPE_NAMES = ("task", "root", "attempt", "correlation_id", "trace_id", "span_id")

CALLER_LEVEL = 3
"""The `stacklevel` of the caller of a method of `Logger`, so that records have its file and line."""


class Logger:
    """Writes records with named fields to the standard library's logger of the same name.

    The message of a record is the event, followed by its fields. Its attributes `event`, `fields` and `action` contain them
    separately. The field `exc_info` is that of `logging`: an exception, or True for the one being handled."""

    __slots__ = ("_enabled", "_logger")

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)
        self._enabled = self._logger.isEnabledFor

    def debug(self, event: str, **fields: Any) -> None:
        """Write a record of the level debug."""
        if self._enabled(logging.DEBUG):
            self._write(logging.DEBUG, event, fields)

    def info(self, event: str, **fields: Any) -> None:
        """Write a record of the level info."""
        if self._enabled(logging.INFO):
            self._write(logging.INFO, event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        """Write a record of the level warning."""
        if self._enabled(logging.WARNING):
            self._write(logging.WARNING, event, fields)

    def error(self, event: str, **fields: Any) -> None:
        """Write a record of the level error."""
        if self._enabled(logging.ERROR):
            self._write(logging.ERROR, event, fields)

    def exception(self, event: str, **fields: Any) -> None:
        """Write a record of the level error, with the exception being handled."""
        if self._enabled(logging.ERROR):
            self._write(logging.ERROR, event, {"exc_info": True} | fields)

    def log(self, level: int, event: str, **fields: Any) -> None:
        """Write a record of a level of `logging`."""
        if self._enabled(level):
            self._write(level, event, fields)

    def _write(self, level: int, event: str, fields: dict[str, Any]) -> None:
        error = fields.pop("exc_info", None)
        about = {"event": event, "fields": fields, "action": fields.get("action")}
        self._logger.log(level, message_of(event, fields), exc_info=error, extra=about, stacklevel=CALLER_LEVEL)


def message_of(event: str, fields: Mapping[str, object]) -> str:
    """One line: the event, and each field as `name=value`; the value is quoted as in Python if it has spaces or quotes."""
    return " ".join((event, *(f"{name}={_quoted(str(value))}" for name, value in fields.items())))


def _quoted(text: str) -> str:
    plain = text.isprintable() and not any(mark in text for mark in " \"'=")
    return text if text and plain else repr(text)


class OutageLog:
    """Logs an outage: one warning per cause, however many operations fail, and one record with the duration when all parts work
    again.

    `action` and `over` are the actions of the two records. Each failing part (for example a partition) is identified by a key
    until it recovers. Use from one thread."""

    def __init__(self, logger: Logger, *, action: str, over: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._logger = logger
        self._action = action
        self._over = over
        self._clock = clock
        self._failing: set[Hashable] = set()
        self._causes: set[str] = set()
        self._began = 0.0

    def failed(self, who: Hashable, cause: str, event: str, **about: Any) -> None:
        """Record that `who` fails because of `cause`. Repetitions of a cause are logged at level debug."""
        if not self._failing:
            self._began = self._clock()
        self._failing.add(who)
        if cause in self._causes:
            self._logger.debug(event, action=self._action, **about)
            return
        self._causes.add(cause)
        self._logger.warning(event, action=self._action, **about)

    def works(self, who: Hashable) -> None:
        """Record that `who` works."""
        if who not in self._failing:
            return
        self._failing.discard(who)
        if not self._failing:
            self._causes.clear()
            seconds = round(self._clock() - self._began, 1)
            self._logger.warning("the outage is over", action=self._over, seconds=seconds)

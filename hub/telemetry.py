"""Logging of the hub's processes: structured, to stderr, formatted on a terminal and key=value otherwise. `OutageLog` logs an
outage once that affects many operations.

Rules: every record has an `action` (stable; in `extra` with loggers of the standard library) and ids, never payloads; stdout is
for the output of commands.
"""

import json
import logging
import re
import sys
import time
import traceback
from collections.abc import Callable, Hashable, Iterable
from types import TracebackType
from typing import Any, TextIO
from urllib.parse import quote

import structlog
from structlog.typing import Processor

from .config import check_log_level

MASK = "**********"
"""The replacement for secrets, the same as in pydantic's messages."""
SECRET_CHARACTERS_MIN = 4
"""Shorter secrets are not masked in logs: they would match parts of timestamps."""


def configure_logging(role: str, level: str = "info", stream: TextIO | None = None) -> None:
    """Log records of structlog and of the standard library to `stream` (default: stderr), with the `role` of this process.

    `level`: debug, info, warning or error; raises ConfigurationError for other values."""
    number = logging.getLevelNamesMapping()[check_log_level(level, "--log-level").upper()]
    stream = stream or sys.stderr

    def add_role(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        event["role"] = role
        return event

    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.stdlib.ExtraAdder(allow=["action"]),
        add_role,
    ]
    rendering: list[Processor]
    if stream.isatty():
        rendering = [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
    else:
        keys = ["timestamp", "level", "role", "action", "event"]
        rendering = [
            structlog.processors.format_exc_info,
            structlog.processors.LogfmtRenderer(key_order=keys, drop_missing=True),
        ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        _MaskingFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
        )
    )
    sys.excepthook = _print_masked
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(number)
    # The Kafka client logs each refused connection as an error, twenty times per second; relevant errors are raised.
    logging.getLogger("aiokafka").setLevel(logging.DEBUG if number == logging.DEBUG else logging.CRITICAL)


# --- secrets

_URL_PASSWORD = re.compile(r"(://[^/\s:@]*:)[^/\s@]+@")
_secrets: set[str] = set()
_pattern: re.Pattern[str] | None = None


def conceal(secrets: Iterable[str]) -> None:
    """Mask these texts in all later log records of this process, including tracebacks, also as escaped in JSON and URLs."""
    global _pattern
    for secret in secrets:
        if len(secret) >= SECRET_CHARACTERS_MIN:
            _secrets.update((secret, repr(secret)[1:-1], json.dumps(secret)[1:-1], quote(secret, safe="")))
    longest_first = sorted(_secrets, key=len, reverse=True)
    _pattern = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None


def masked(text: str) -> str:
    """`text` with the known secrets of this process and passwords in URLs masked."""
    if _pattern is not None:
        text = _pattern.sub(MASK, text)
    return _URL_PASSWORD.sub(rf"\g<1>{MASK}@", text) if "://" in text else text


class _MaskingFormatter(structlog.stdlib.ProcessorFormatter):
    def format(self, record: logging.LogRecord) -> str:
        return masked(super().format(record))


def _print_masked(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Replaces the interpreter's excepthook: prints the masked traceback."""
    sys.stderr.write(masked("".join(traceback.format_exception(kind, error, trace))))


# --- outages


class OutageLog:
    """Logs an outage: one warning per cause, however many operations fail, and one record with the duration when all parts work
    again.

    `action` and `over` are the actions of these records. Each failing part (for example a partition) is identified by a key until
    it recovers. Use from one thread."""

    def __init__(self, logger: Any, *, action: str, over: str, clock: Callable[[], float] = time.monotonic) -> None:
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

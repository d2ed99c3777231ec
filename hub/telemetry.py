"""Logging of the hub's processes: structured, to stderr, formatted on a terminal and key=value otherwise, or JSON; without
secrets. stdout is for the output of commands.
"""

import json
import logging
import re
import sys
import traceback
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, TextIO
from urllib.parse import quote

from .config import check_log_level
from .errors import ConfigurationError
from .logs import scope_fields

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor

LOG_FORMATS = ("text", "json")
MASK = "**********"
"""The replacement for secrets, the same as in pydantic's messages."""
SECRET_CHARACTERS_MIN = 4
"""Shorter secrets are not masked in logs: they would match parts of timestamps."""


def configure_logging(
    role: str, level: str = "info", stream: TextIO | None = None, log_format: str = "text", *, structlog: bool = True
) -> None:
    """Log records of structlog and of the standard library to `stream` (default: stderr), with the `role` of this process and the
    fields of the current scope. If a program that is imported later configures structlog, that applies to the loggers that it
    gets from structlog.

    `level`: debug, info, warning or error; raises ConfigurationError for other values. `log_format`: "text" for people on a
    terminal and key=value otherwise, "json" for one JSON object per line; raises ConfigurationError for other values.
    `structlog`: false if no code of users runs in this process; structlog is then imported only for the first record."""
    if log_format not in LOG_FORMATS:
        raise ConfigurationError(f"--log-format: {log_format!r} is not one of {', '.join(LOG_FORMATS)}.")
    number = logging.getLevelNamesMapping()[check_log_level(level, "--log-level").upper()]
    stream = stream or sys.stderr
    style = "json" if log_format == "json" else "terminal" if stream.isatty() else "logfmt"
    if structlog:
        _configure_structlog(role, number)
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_MaskingFormatter(lambda: _formatter(role, style)))
    sys.excepthook = _print_masked
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(number)
    # The Kafka client logs each refused connection as an error, twenty times per second; relevant errors are raised.
    logging.getLogger("aiokafka").setLevel(logging.DEBUG if number == logging.DEBUG else logging.CRITICAL)
    logging.getLogger("httpx2").setLevel(max(number, logging.WARNING))  # it logs every request, with its URL, as info


def _processors(role: str) -> "list[Processor]":
    """What structlog does with each record before it is rendered."""
    import structlog

    def add_role(_logger: object, _method: str, event: "EventDict") -> "EventDict":
        event["role"] = role
        return {**scope_fields(), **event}

    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.stdlib.ExtraAdder(allow=["action"]),
        add_role,
    ]


def _configure_structlog(role: str, number: int) -> None:
    """Let structlog write to the loggers of the standard library, from the level `number`."""
    import structlog

    structlog.configure(
        processors=[*_processors(role), structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )


def _formatter(role: str, style: str) -> logging.Formatter:
    """The formatter of all records: "json", "terminal" or "logfmt"."""
    import structlog

    rendering: list[Processor]
    if style == "json":
        rendering = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)]
    elif style == "terminal":
        rendering = [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
    else:
        keys = ["timestamp", "level", "role", "action", "event"]
        rendering = [
            structlog.processors.format_exc_info,
            structlog.processors.LogfmtRenderer(key_order=keys, drop_missing=True),
        ]
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[_separate_fields, *_processors(role)],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
    )


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


def _separate_fields(_logger: object, _method: str, event: "EventDict") -> "EventDict":
    """The fields of a record of `logs.Logger`, before what the event of any other record has."""
    fields = getattr(event["_record"], "fields", None)
    return event if fields is None else {**fields, **event, "event": event["_record"].event}


class _MaskingFormatter(logging.Formatter):
    """Masks what another formatter returns, which is made for the first record: most commands log nothing."""

    def __init__(self, make: Callable[[], logging.Formatter]) -> None:
        super().__init__()
        self._make = make
        self._formatter: logging.Formatter | None = None

    def format(self, record: logging.LogRecord) -> str:
        if self._formatter is None:
            self._formatter = self._make()
        return masked(self._formatter.format(record))


def _print_masked(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Replaces the interpreter's excepthook: prints the masked traceback."""
    sys.stderr.write(masked("".join(traceback.format_exception(kind, error, trace))))

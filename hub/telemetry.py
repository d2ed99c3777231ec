"""Logging of the hub's processes: structured, to stderr, formatted on a terminal and key=value otherwise, or JSON; without
secrets. stdout is for the output of commands.
"""

import json
import logging
import re
import sys
import traceback
from collections.abc import Iterable
from types import TracebackType
from typing import TextIO
from urllib.parse import quote

import structlog
from structlog.typing import EventDict, Processor

from .config import check_log_level
from .errors import ConfigurationError
from .logs import scope_fields

LOG_FORMATS = ("text", "json")
MASK = "**********"
"""The replacement for secrets, the same as in pydantic's messages."""
SECRET_CHARACTERS_MIN = 4
"""Shorter secrets are not masked in logs: they would match parts of timestamps."""


def configure_logging(role: str, level: str = "info", stream: TextIO | None = None, log_format: str = "text") -> None:
    """Log records of structlog and of the standard library to `stream` (default: stderr), with the `role` of this process and the
    fields of the current scope. If a program that is imported later configures structlog, that applies to the loggers that it
    gets from structlog.

    `level`: debug, info, warning or error; raises ConfigurationError for other values. `log_format`: "text" for people on a
    terminal and key=value otherwise, "json" for one JSON object per line; raises
    ConfigurationError for other values."""
    if log_format not in LOG_FORMATS:
        raise ConfigurationError(f"--log-format: {log_format!r} is not one of {', '.join(LOG_FORMATS)}.")
    number = logging.getLevelNamesMapping()[check_log_level(level, "--log-level").upper()]
    stream = stream or sys.stderr

    def add_role(_logger: object, _method: str, event: EventDict) -> EventDict:
        event["role"] = role
        return {**scope_fields(), **event}

    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.stdlib.ExtraAdder(allow=["action"]),
        add_role,
    ]
    rendering: list[Processor]
    if log_format == "json":
        rendering = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)]
    elif stream.isatty():
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
            foreign_pre_chain=[_separate_fields, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
        )
    )
    sys.excepthook = _print_masked
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(number)
    # The Kafka client logs each refused connection as an error, twenty times per second; relevant errors are raised.
    logging.getLogger("aiokafka").setLevel(logging.DEBUG if number == logging.DEBUG else logging.CRITICAL)
    logging.getLogger("httpx2").setLevel(max(number, logging.WARNING))  # it logs every request, with its URL, as info


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


def _separate_fields(_logger: object, _method: str, event: EventDict) -> EventDict:
    """The fields of a record of `logs.Logger`, before what the event of any other record has."""
    fields = getattr(event["_record"], "fields", None)
    return event if fields is None else {**fields, **event, "event": event["_record"].event}


class _MaskingFormatter(structlog.stdlib.ProcessorFormatter):
    def format(self, record: logging.LogRecord) -> str:
        return masked(super().format(record))


def _print_masked(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Replaces the interpreter's excepthook: prints the masked traceback."""
    sys.stderr.write(masked("".join(traceback.format_exception(kind, error, trace))))

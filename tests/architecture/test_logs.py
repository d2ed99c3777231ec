"""Every log record of the project has a stable `action`, for programs that read the logs."""

import ast
import io
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from hub.errors import ConfigurationError
from hub.logs import Logger
from hub.telemetry import configure_logging

ROOT = Path(__file__).parents[2]
LEVELS = {"debug", "info", "warning", "error", "critical", "exception"}
LOGGERS = {"log", "_log", "logger", "_logger"}


def records(path: Path) -> Iterator[ast.Call]:
    """Calls in a file that write a record."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LEVELS:
            target = node.func.value
            name = target.attr if isinstance(target, ast.Attribute) else target.id if isinstance(target, ast.Name) else ""
            if name in LOGGERS:
                yield node


def test_every_record_says_its_action() -> None:
    found = [(path, call) for path in sorted((ROOT / "hub").rglob("*.py")) for call in records(path)]
    assert len(found) > 30, "the search has lost its object"
    silent = [
        f"{path.relative_to(ROOT)}:{call.lineno}"
        for path, call in found
        if not {"action", "extra"} & {str(keyword.arg) for keyword in call.keywords}
    ]
    assert not silent, f"no action: {silent}"


def test_records_of_both_kinds_of_loggers_are_lines_of_the_same_form(stream: io.StringIO) -> None:
    configure_logging("engine", "info", stream)
    Logger("hub.a").info("taken over", action="engine_started", partition=3)
    logging.getLogger("hub.b").warning("%d left", 2, extra={"action": "flush_failed"})
    logging.getLogger("hub.b").debug("not at this level")
    structlog.get_logger("app").info("charged", action="paid", order=1)
    first, second, third = stream.getvalue().splitlines()
    assert 'level=info role=engine action=engine_started event="taken over" partition=3 logger=hub.a' in first
    assert 'level=warning role=engine action=flush_failed event="2 left" logger=hub.b' in second
    assert "level=info role=engine action=paid event=charged order=1 logger=app" in third


def test_a_program_that_configures_structlog_does_not_change_the_lines_of_its_process(stream: io.StringIO) -> None:
    configure_logging("worker", "info", stream)
    structlog.configure(processors=[structlog.processors.JSONRenderer()], logger_factory=structlog.PrintLoggerFactory(stream))
    structlog.get_logger("app").info("charged")
    Logger("hub.a").info("taken over", action="engine_started", partition=3)
    theirs, ours = stream.getvalue().splitlines()
    assert theirs == '{"event": "charged"}'
    assert 'level=info role=worker action=engine_started event="taken over" partition=3 logger=hub.a' in ours


def test_an_exception_stays_on_the_line_of_its_record(stream: io.StringIO) -> None:
    configure_logging("worker", "info", stream)
    try:
        raise ValueError("no\nsuch thing")
    except ValueError:
        logging.getLogger("hub.b").exception("failed", extra={"action": "it_failed"})
    assert len(stream.getvalue().splitlines()) == 1
    assert "ValueError" in stream.getvalue()


def test_the_kafka_client_is_heard_only_when_asked_for(stream: io.StringIO) -> None:
    configure_logging("worker", "info", stream)
    logging.getLogger("aiokafka").error("Unable to connect")
    assert stream.getvalue() == ""


def test_requests_of_the_http_client_are_not_logged(stream: io.StringIO) -> None:
    configure_logging("worker", "debug", stream)
    logging.getLogger("httpx2").info("HTTP Request: POST http://collector/v1/metrics")
    assert stream.getvalue() == ""


def test_a_level_that_does_not_exist_is_refused(stream: io.StringIO) -> None:
    with pytest.raises(ConfigurationError, match="'loud' is not a log level. It must be one of debug, info, warning, error"):
        configure_logging("worker", "loud", stream)

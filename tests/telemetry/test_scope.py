"""The fields of what a handler works on are on every record: as text, as JSON, and in programs that configure logging."""

import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import structlog

from hub.logs import LOG_SCOPE, Logger, ScopeFilter, scope_fields
from hub.telemetry import configure_logging

SCOPE = {"task": "order-7", "root": "day-1", "attempt": 2, "correlation_id": "c-1", "trace_id": "0af7", "span_id": None}


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """A stream that logging is configured to write to; the former configuration is restored."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    try:
        yield io.StringIO()
    finally:
        root.handlers, root.level = handlers, level
        structlog.reset_defaults()


@contextmanager
def working() -> Iterator[None]:
    token = LOG_SCOPE.set(lambda: SCOPE)
    try:
        yield
    finally:
        LOG_SCOPE.reset(token)


def test_outside_of_a_scope_there_are_no_fields() -> None:
    assert scope_fields() == {}


def test_every_kind_of_logger_writes_the_fields_of_the_scope_as_json(stream: io.StringIO) -> None:
    configure_logging("worker", "info", stream, "json")
    with working():
        logging.getLogger("app.billing").info("charging %d", 5)
        Logger("hub.worker").warning("slow", action="worker_slow", seconds=2.5)
        structlog.get_logger("app").info("seen", amount=7)
    Logger("hub.worker").info("idle", action="worker_idle")
    *inside, outside = [json.loads(line) for line in stream.getvalue().splitlines()]
    fields = {name: value for name, value in SCOPE.items() if value is not None}
    for line in inside:
        assert fields.items() <= line.items()
        assert "span_id" not in line
        assert line["role"] == "worker"
    assert [line["event"] for line in inside] == ["charging 5", "slow", "seen"]
    assert inside[1]["seconds"] == 2.5
    assert not fields.keys() & outside.keys()


def test_an_exception_is_one_json_object_on_one_line(stream: io.StringIO) -> None:
    configure_logging("worker", "info", stream, "json")
    try:
        raise ValueError("two\nlines")
    except ValueError:
        logging.getLogger("app").exception("failed")
    [line] = stream.getvalue().splitlines()
    assert "ValueError: two\nlines" in json.loads(line)["exception"]


def test_a_process_without_code_of_users_imports_structlog_for_its_first_record_only() -> None:
    code = (
        "import logging, sys; from hub.telemetry import configure_logging; configure_logging('cli', structlog=False)\n"
        "assert 'structlog' not in sys.modules\n"
        "logging.getLogger('hub.a').warning('late')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert "level=warning role=cli event=late logger=hub.a" in done.stderr


def test_a_field_of_a_record_is_kept_where_the_scope_has_the_same_name(stream: io.StringIO) -> None:
    configure_logging("worker", "info", stream)
    with working():
        Logger("hub.worker").info("other", action="worker_other", task="order-8")
    assert "task=order-8" in stream.getvalue()
    assert "root=day-1" in stream.getvalue()


def test_a_program_with_its_own_configuration_has_the_fields_as_attributes() -> None:
    record = logging.LogRecord("app", logging.INFO, "app.py", 1, "hello", (), None)
    with working():
        assert ScopeFilter().filter(record)
    assert logging.Formatter("%(task)s %(attempt)s [%(span_id)s] %(message)s").format(record) == "order-7 2 [] hello"

"""Fixtures for every test: see tests/brokers.py."""

import gc
import io
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Generator, Iterator
from types import TracebackType

import pytest
import structlog
from hypothesis import HealthCheck, settings
from structlog.testing import LogCapture

from hub import telemetry
from tests.brokers import (
    bootstrap,
    embedded_bootstrap,
    empty_bootstrap,
    kafka_bootstrap,
    own_kafka,
    private_kafka,
    required,
    summary_lines,
)
from tests.kafka_nodes import ADDRESS

__all__ = ["bootstrap", "embedded_bootstrap", "empty_bootstrap", "kafka_bootstrap", "own_kafka", "private_kafka"]

settings.register_profile("a machine that stalls", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("a machine that stalls")

TURN_SECONDS = 900
"""How long a test may wait for its turn on the cluster that KAFKA_BOOTSTRAP names."""


LONG_FILES = (
    "tests/e2e/test_kills.py",
    "tests/e2e/test_survival.py",
    "tests/cli/test_bench.py",
    "tests/e2e/test_kills_of_brokers.py",
    "tests/cli/test_commands.py",
    "tests/delivery/test_must_show_kills.py",
    "tests/runtime/test_supervisor.py",
    "tests/runtime/test_status.py",
    "tests/health/test_hub_up.py",
    "tests/metrics/test_whole_hub.py",
    "tests/checklist/test_observability_rows.py",
    "tests/analytics/test_process.py",
    "tests/delivery/test_isolation.py",
    "tests/collector/test_export.py",
    "tests/delivery/test_delivery.py",
    "tests/delivery/test_ends_of_processes.py",
    "tests/simulation/test_schedules.py",
    "tests/delivery/test_crashes.py",
    "tests/components/test_hub.py",
    "tests/examples/test_readme.py",
    "tests/e2e/test_kills_on_kafka.py",
    "tests/kafka/test_broker_restart.py",
    "tests/components/test_hostile_topics.py",
    "tests/runtime/test_what_goes_wrong.py",
    "tests/engine/test_schedules.py",
    "tests/kafka/test_kip890.py",
    "tests/runtime/test_format.py",
    "tests/scaffold/test_new_subscriber.py",
    "tests/worker/test_robustness.py",
    "tests/test_kafka_nodes.py",
    "tests/components/test_hostile_hub.py",
    "tests/e2e/test_watching.py",
    "tests/components/test_storage.py",
    "tests/simulation/test_finds_bugs.py",
    "tests/engine/test_silence.py",
    "tests/verify/test_removed_beginnings.py",
    "tests/broker/test_compaction.py",
    "tests/components/test_catalogue.py",
    "tests/conformance/session/test_ownership.py",
    "tests/conformance/session/test_transactions.py",
    "tests/engine/test_hostile_records.py",
)
"""The files that take longest, in that order. They run first: each is whole in one process, and what begins last ends last."""


def pytest_configure() -> None:
    """Refuse a HUB_REQUIRE that nothing acts on. The hub's records are captured by `structlog.testing.capture_logs`."""
    required()
    logging.getLogger("hub").addHandler(CapturedLogs())


class CapturedLogs(logging.Handler):
    """Adds the records of `hub.logs.Logger` to what `structlog.testing.capture_logs` returns."""

    def emit(self, record: logging.LogRecord) -> None:
        """Add a record."""
        fields = getattr(record, "fields", None)
        for capture in structlog.get_config()["processors"]:
            if fields is not None and isinstance(capture, LogCapture):
                error = {"exc_info": record.exc_info[1]} if record.exc_info else {}
                line = {**fields, **error, "event": record.__dict__["event"], "log_level": record.levelname.lower()}
                capture.entries.append(line)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Long files first. Where test processes share one cluster, the timeout of a test that needs all of it begins while it waits
    for its turn."""
    turns = {name: turn for turn, name in enumerate(LONG_FILES)}
    items.sort(key=lambda item: turns.get(item.nodeid.partition("::")[0], len(turns)))
    if not os.environ.get(ADDRESS):
        return
    for item in items:
        if "private_kafka" in getattr(item, "fixturenames", ()) or "empty_bootstrap" in getattr(item, "fixturenames", ()):
            mark = item.get_closest_marker("timeout")
            seconds = float(mark.args[0] if mark else config.getini("timeout"))
            item.add_marker(pytest.mark.timeout(seconds + TURN_SECONDS), append=False)


@pytest.fixture(autouse=True)
def secrets_of_one_test() -> Iterator[None]:
    """What a test conceals is masked in that test alone: a short secret would otherwise mask words in messages of later tests."""
    known, pattern = set(telemetry._secrets), telemetry._pattern
    yield
    telemetry._secrets.clear()
    telemetry._secrets.update(known)
    telemetry._pattern = pattern


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """What `configure_logging` was given; afterwards logging is as it was."""
    root, client = logging.getLogger(), logging.getLogger("aiokafka")
    before = root.handlers[:], root.level, client.level
    try:
        yield io.StringIO()
    finally:
        root.handlers[:], level, client_level = before
        root.setLevel(level)
        client.setLevel(client_level)
        structlog.reset_defaults()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None, object, object]:
    """What a failed test leaves open is reported with it and not by a test that runs later, when the collector comes."""
    failed_before = item.session.testsfailed
    try:
        return (yield)
    finally:
        if item.session.testsfailed > failed_before:
            collect_quietly()


def collect_quietly() -> None:
    """Let go of the frames of the last failure, and collect what only they held, without a warning."""
    for name in ("last_traceback", "last_value", "last_type", "last_exc"):
        if hasattr(sys, name):
            last = getattr(sys, name)
            if isinstance(last, TracebackType):
                traceback.clear_frames(last)
            delattr(sys, name)
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            gc.collect()
    finally:
        sys.unraisablehook = hook


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What the tests on Apache Kafka ran on, or why they were skipped."""
    for line in summary_lines():
        terminalreporter.write_line(line)

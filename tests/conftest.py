"""Fixtures for every test: see tests/brokers.py."""

import os

import pytest

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

TURN_SECONDS = 900
"""How long a test may wait for its turn on the cluster that KAFKA_BOOTSTRAP names."""


def pytest_configure() -> None:
    """Refuse a HUB_REQUIRE that nothing acts on."""
    required()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where test processes share one cluster, the time-out of a test that needs all of it begins while it waits for its turn."""
    if not os.environ.get(ADDRESS):
        return
    for item in items:
        if "private_kafka" in getattr(item, "fixturenames", ()) or "empty_bootstrap" in getattr(item, "fixturenames", ()):
            mark = item.get_closest_marker("timeout")
            seconds = float(mark.args[0] if mark else config.getini("timeout"))
            item.add_marker(pytest.mark.timeout(seconds + TURN_SECONDS), append=False)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What the tests on Apache Kafka ran on, or why they were skipped."""
    for line in summary_lines():
        terminalreporter.write_line(line)

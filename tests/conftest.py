"""Fixtures for every test: see tests/brokers.py."""

import pytest

from tests.brokers import (
    bootstrap,
    embedded_bootstrap,
    empty_bootstrap,
    kafka_bootstrap,
    private_kafka,
    summary_line,
)

__all__ = ["bootstrap", "embedded_bootstrap", "empty_bootstrap", "kafka_bootstrap", "private_kafka"]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line that says why the tests on Apache Kafka were skipped."""
    line = summary_line()
    if line is not None:
        terminalreporter.write_line(line, yellow=True)

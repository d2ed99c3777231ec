"""A collector, for the tests marked `collector`."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.brokers import missing, required

from .binary import CollectorUnavailable, collector_binary
from .collector import Collector, running


@pytest.fixture(scope="session")
def collector_program() -> Path:
    """Skips where there is none; if HUB_REQUIRE names collector, it is built once, and fails if that is impossible."""
    try:
        return collector_binary(build="collector" in required())
    except CollectorUnavailable as reason:
        missing("collector", reason)


@pytest.fixture
def collector(collector_program: Path, tmp_path: Path) -> Iterator[Collector]:
    """A running collector with files of its own."""
    folder = tmp_path / "collector"
    folder.mkdir()
    with running(collector_program, folder) as found:
        yield found

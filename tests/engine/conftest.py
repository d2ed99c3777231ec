"""After every test the checker verifies what the engine wrote."""

from collections.abc import Iterator

import pytest

from tests.engine import harness
from tests.engine.topics import Topics


@pytest.fixture(autouse=True)
def the_checker_agrees(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Check the topics of every world that the test made."""
    watched: list[Topics] = []
    monkeypatch.setattr(harness, "watched", watched)
    yield
    for topics in watched:
        report = topics.verify()
        assert report.ok, report.render()

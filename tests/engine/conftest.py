"""After every test the checker verifies what the engine wrote."""

from collections.abc import Iterator

import pytest

from tests.engine import harness
from tests.engine.harness import World, check_fold, check_log
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


@pytest.fixture
def world() -> Iterator[World]:
    """A partition with one worker; afterwards its log and its state are checked, whatever the test did."""
    world = World()
    world.worker()
    world.step()
    yield world
    check_log(world)
    check_fold(world)

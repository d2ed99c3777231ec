"""Progress of a consumer: lag, offsets to commit, and detection of a stuck consumer."""

import logging

import pytest

from hub.delivery.progress import STUCK_SECONDS, Progress, Silence, StuckPartition
from hub.delivery.window import Session, Window


def assigned(progress: Progress, positions: dict[int, int], end: int, *, in_flight_max: int = 10) -> Session:
    """An assignment that begins at time 0, of a log that ends there."""
    session = Session(in_flight_max, 1_000, wake=lambda: None)
    session.windows.update({number: Window(position) for number, position in positions.items()})
    progress.assign(positions, dict.fromkeys(positions, end), 0.0)
    return session


def test_the_lag_counts_from_what_is_committed_to_the_end() -> None:
    progress = Progress()
    session = assigned(progress, {0: 10, 1: 20}, 30)
    assert progress.lag == 30
    session.windows[0].position = 25
    assert progress.committable(session) == {0: 25}
    assert progress.lag == 15
    progress.committed({0: 25})
    assert progress.committable(session) == {}
    session.windows[1].position = 40  # the end is older than the position
    assert progress.committable(session) == {1: 40}
    assert progress.lag == 5


def test_a_position_that_stands_still_before_the_end_of_the_log_is_stuck() -> None:
    progress = Progress()
    session = assigned(progress, {0: 10, 1: 30}, 30)
    assert progress.find_stuck(session, (), STUCK_SECONDS) is None
    late = STUCK_SECONDS + 1
    assert progress.find_stuck(session, (), late) == StuckPartition(0, 10, 30, late)
    session.windows[0].position = 11
    assert progress.find_stuck(session, (), late) is None, "it moves"
    assert progress.find_stuck(session, (), 2 * late) == StuckPartition(0, 11, 30, late)


@pytest.mark.parametrize("held", ["the subscriber has no room", "the partition is paused", "the log ends there"])
def test_a_position_that_something_holds_is_not_stuck(held: str) -> None:
    progress = Progress()
    session = assigned(progress, {0: 10}, 10 if held == "the log ends there" else 30, in_flight_max=1)
    session.fed = 1 if held == "the subscriber has no room" else 0
    paused = (0,) if held == "the partition is paused" else ()
    late = STUCK_SECONDS + 1
    assert progress.find_stuck(session, paused, late) is None
    progress.ends, session.fed = {0: 30}, 0
    assert progress.find_stuck(session, (), late + STUCK_SECONDS) is None, "it counts from when nothing held it any more"
    assert progress.find_stuck(session, (), 2 * late) is not None


def test_an_outage_is_logged_once_and_when_it_is_over(caplog: pytest.LogCaptureFixture) -> None:
    silence = Silence("hub.events", logging.getLogger("test"))
    with caplog.at_level(logging.WARNING):
        silence.end()
        for _ in range(3):
            silence.note(TimeoutError(), lambda: "no leader of hub.events-0")
        silence.end()
        silence.end()
    interrupted, over = [record.getMessage() for record in caplog.records]
    assert interrupted == "reading hub.events is interrupted: no leader of hub.events-0 (TimeoutError)"
    assert over.startswith("reading hub.events continues after ")

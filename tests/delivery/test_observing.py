"""The lifecycle of subscribers becomes events on the log, whatever the broker does meanwhile."""

import asyncio
from collections.abc import Sequence

import pytest

from hub.delivery import SubscriberObserver, SubscriberStatus
from hub.delivery.observing import DEAD_LETTERS_SECONDS, Observation, Observed
from hub.delivery.status import State
from hub.errors import Unreachable
from schemas import TYPE_OF_DATA
from schemas.events import EventData, SubscriberDeadLettered, SubscriberFailing, SubscriberRecovered


def status(state: State, error: str | None = None, *, dead_lettered: int = 0) -> SubscriberStatus:
    return SubscriberStatus("pager", "pagerduty", state, dead_lettered=dead_lettered, error=error)


def types(events: Sequence[EventData]) -> list[str]:
    return [TYPE_OF_DATA[type(one)].type.removeprefix("subscriber.") for one in events]


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        (["starting", "waiting", "running"], ["started"]),
        (["running", "blocked", "reconnecting", "running"], ["started"]),
        (["starting", "failed", "starting", "failed", "running"], ["failing", "recovered"]),
        (["running", "unavailable", "failed", "running"], ["started", "unavailable", "failing", "recovered"]),
        (["running", "paused", "starting", "running"], ["started", "paused", "resumed"]),
        (["running", "stopped"], ["started", "stopped"]),
    ],
)
def test_each_change_of_the_phase_is_one_event(states: list[State], expected: list[str]) -> None:
    observed = Observed()
    found = [event for now, state in enumerate(states) for event in observed.events_of(status(state), float(now))]
    assert types(found) == expected


def test_a_recovery_says_for_how_long_it_failed_over_all_kinds_of_trouble() -> None:
    observed = Observed()
    observed.events_of(status("running"), 0.0)
    observed.events_of(status("unavailable", "no route"), 10.0)
    [failing] = observed.events_of(status("failed", "e" * 1000), 12.0)
    [recovered] = observed.events_of(status("running"), 15.5)
    assert isinstance(failing, SubscriberFailing)
    assert len(failing.error) == 500
    assert isinstance(recovered, SubscriberRecovered)
    assert recovered.failing_seconds == 5.5


def test_dead_letters_are_counted_and_reported_at_most_every_ten_seconds_also_over_restarts_of_the_process() -> None:
    observed = Observed()
    observed.events_of(status("running"), 0.0)
    counts = []
    for now, count in [(1.0, 2), (2.0, 5), (3.0, 1), (1.0 + DEAD_LETTERS_SECONDS, 4), (2.0 + DEAD_LETTERS_SECONDS, 4)]:
        events = observed.events_of(status("running", "ValueError: no", dead_lettered=count), now)
        counts.append([one.count for one in events if isinstance(one, SubscriberDeadLettered)])
    assert counts == [[2], [], [], [3 + 4], []]  # 5 of the first process and 4 of the second, 2 of them reported


async def test_what_could_not_be_sent_is_sent_in_order_with_what_comes_next() -> None:
    present = [status("running")]
    sent: list[Observation] = []
    reachable = asyncio.Event()

    async def put(observations: Sequence[Observation]) -> None:
        if not reachable.is_set():
            raise Unreachable("no broker")
        sent.extend(observations)

    observer = SubscriberObserver(lambda: present, put)
    observer.start()
    observer.wake()
    present[:] = [status("failed", "ImportError: stripe")]
    observer.wake()
    await asyncio.sleep(0)
    reachable.set()
    present[:] = [status("stopped")]
    await observer.stop()
    assert types([one.data for one in sent]) == ["started", "failing", "stopped"]
    assert {one.subscriber for one in sent} == {"pager"}

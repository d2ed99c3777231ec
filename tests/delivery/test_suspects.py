"""Which events were being handled when a process ended, and what is done with them next: memory, counting, and handling alone."""

import asyncio
import logging
import os
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.delivery.current_events import (
    ENDS_MAX,
    KILLS_MAX,
    CurrentEvents,
    EventPlace,
    ProcessEnded,
    ProcessKilled,
    Remains,
    Suspect,
    remains_of,
    shared_file,
)
from hub.delivery.isolation.suspicion import SUSPECTS_MAX, Suspicion
from hub.delivery.lifecycle import Lifecycle
from hub.delivery.restarting import BACKOFF_INITIAL_SECONDS, Restarting
from hub.testing import make_event_record
from subscribers import Meta
from tests.virtual_time import run

from .virtual_delivery import BEGIN_MS, BatchDestination, BufferingDestination, Delivering, Destination, name_of

CAUSE = "its process 7 ended with SIGSEGV"
ENDED, KILLED = ProcessEnded(CAUSE), ProcessKilled("its process 7 ended with SIGKILL")


def place(offset: int) -> EventPlace:
    return EventPlace(0, offset, BEGIN_MS)


def suspect(offset: int, ends: int = 1) -> Suspect:
    return Suspect(place(offset), ends, 0, "2026-01-01T00:00:00.000Z", CAUSE)


@pytest.fixture
def memory() -> Iterator[int]:
    """The descriptor of a shared memory."""
    descriptor = shared_file()
    yield descriptor
    os.close(descriptor)


# The memory


class Watched(Delivering):
    """A subscriber whose events are in a shared memory, with these suspects."""

    def __init__(self, memory: int, plugin: type[Destination] = Destination, *suspects: Suspect, **entry: Any) -> None:
        self.current = CurrentEvents(memory, suspects)
        super().__init__(plugin, current=self.current, **entry)


def test_the_events_of_every_running_handler_are_in_the_memory_and_no_others(memory: int) -> None:
    async def main() -> None:
        one = Watched(memory, delivery={"concurrency": 3})
        one.destination.script = lambda _: asyncio.sleep(1)
        one.feed("a1", "b1", "a2", "c1", "d1")
        await one.advance(0.5)
        assert set(remains_of(memory).events) == {place(0), place(1), place(3)}
        await one.advance(1.0)
        assert set(remains_of(memory).events) == {place(2), place(4)}
        await one.advance(1.0)
        assert remains_of(memory) == Remains()
        await one.close()

    run(main())


def test_a_batch_and_a_flush_are_in_the_memory_as_a_whole(memory: int) -> None:
    async def main(plugin: type[Destination]) -> None:
        one = Watched(memory, plugin)
        one.destination.script = lambda _: asyncio.sleep(5)
        one.feed("a1", "b1", "a2")
        await one.advance(2)
        assert set(remains_of(memory).events) == {place(0), place(1), place(2)}
        await one.advance(5)
        assert remains_of(memory).events == ()
        await one.close()

    run(main(BatchDestination))
    os.ftruncate(memory, 0)
    run(main(BufferingDestination))


@given(st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(0, 5), max_size=60), st.binary(max_size=7))
def test_whatever_a_plugin_writes_to_the_memory_can_be_read(words: list[int], rest: bytes) -> None:
    descriptor = shared_file()
    try:
        os.write(descriptor, b"".join(word.to_bytes(8, "little", signed=True) for word in words) + rest)
        remains = remains_of(descriptor)
        assert len(remains.events) <= len(words) / 3
        assert all(0 <= number < len(words) for number in remains.acknowledged)
    finally:
        os.close(descriptor)


def test_commits_and_acknowledged_suspects_are_in_the_memory(memory: int) -> None:
    current = CurrentEvents(memory, [suspect(3), suspect(4)])
    current.open(2, 1, 10)
    assert remains_of(memory) == Remains()
    current.acknowledge(suspect(4))
    current.note_commit()
    assert remains_of(memory) == Remains(has_progress=True, acknowledged=(1,))
    assert current.has_suspects
    for _ in range(2):  # after a rebalance it may come, and be acknowledged, again
        current.acknowledge(suspect(3))
        assert not current.has_suspects
    assert remains_of(memory) == Remains(has_progress=True, acknowledged=(0, 1))


# Counting


def test_an_event_is_counted_at_each_end_until_it_is_not_handled_again() -> None:
    suspicion = Suspicion(now=lambda: "then")
    for ends in range(1, ENDS_MAX + 1):
        assert all(one.error is None for one in suspicion.suspects)
        suspicion.note_end(Remains((place(5),)), ProcessEnded(f"{CAUSE} {ends}"))
    [found] = suspicion.suspects
    assert found == Suspect(place(5), ENDS_MAX, 0, "then", f"{CAUSE} 3")
    assert str(found.error) == f"the process of the subscriber ended 3 times while it handled this event; {CAUSE} 3"


def test_kills_from_outside_count_less_because_they_say_little_about_the_event() -> None:
    suspicion = Suspicion()
    for _ in range(KILLS_MAX - 1):
        suspicion.note_end(Remains((place(5),)), KILLED)
        assert suspicion.suspects[0].error is None
    suspicion.note_end(Remains((place(5),)), KILLED)
    assert "ended 10 times while it handled this event; its process 7 ended with SIGKILL" in str(suspicion.suspects[0].error)
    mixed = Suspicion()
    for error in (KILLED, ENDED, KILLED, ENDED):
        mixed.note_end(Remains((place(5),)), error)
        assert mixed.suspects[0].error is None
    mixed.note_end(Remains((place(5),)), ENDED)
    assert mixed.suspects[0].error is not None


def test_an_acknowledged_suspect_and_ends_without_an_event_are_not_counted() -> None:
    suspicion = Suspicion()
    suspicion.note_end(Remains((place(1), place(2), place(3))), ENDED)
    suspicion.note_end(Remains((place(3),), acknowledged=(0, 1)), ENDED)
    for _ in range(5):
        suspicion.note_end(Remains(acknowledged=(7, 8)), ENDED)
    assert [(one.place, one.ends) for one in suspicion.suspects] == [(place(3), 2)]


def test_events_that_were_handled_side_by_side_at_every_end_are_not_given_up() -> None:
    suspicion = Suspicion()
    for _ in range(10):
        suspicion.note_end(Remains((place(1), place(2))), ENDED)
    assert [one.ends for one in suspicion.suspects] == [1, 1]


def test_the_number_of_suspects_is_limited() -> None:
    suspicion = Suspicion()
    suspicion.note_end(Remains(tuple(map(place, range(SUSPECTS_MAX + 5)))), ENDED)
    assert len(suspicion.suspects) == SUSPECTS_MAX
    assert suspicion.suspects[0].place == place(5)


# Handling


def running_together(one: Delivering) -> list[set[str]]:
    """The sets of events that are handled side by side, as they change; each call of a handler takes a second."""
    running: set[str] = set()
    sets: list[set[str]] = []

    async def script(metas: list[Meta]) -> None:
        names = {name_of(meta) for meta in metas}
        running.update(names)
        sets.append(set(running))
        await asyncio.sleep(1)
        running.difference_update(names)

    one.destination.script = script
    return sets


def test_a_suspect_is_handled_alone_and_those_after_it_at_full_concurrency(memory: int) -> None:
    async def main() -> None:
        one = Watched(memory, Destination, suspect(1), suspect(3), delivery={"concurrency": 4})
        sets = running_together(one)
        one.feed("a1", "b1", "c1", "d1", "e1", "f1", "g1", "h1")
        await one.advance(20)
        assert len(one.accepted) == 8
        assert {"b1"} in sets
        assert {"d1"} in sets
        assert not any(len(each) > 1 and each & {"b1", "d1"} for each in sets)
        assert max(map(len, sets)) == 4
        assert remains_of(memory).acknowledged == (0, 1)
        await one.close()

    run(main())


def test_a_batch_is_divided_so_that_a_suspect_is_a_batch_of_its_own(memory: int) -> None:
    async def main() -> None:
        one = Watched(memory, BatchDestination, suspect(2), suspect(3))
        one.feed("a1", "b1", "c1", "d1", "e1", "f1")
        await one.advance(5)
        assert [names for _, names in one.calls] == [["a1", "b1"], ["c1"], ["d1"], ["e1", "f1"]]
        one.feed("a2", "b2")
        await one.advance(5)
        assert [names for _, names in one.calls][4:] == [["a2", "b2"]]
        await one.close()

    run(main())


def test_a_sink_that_buffers_flushes_a_suspect_alone(memory: int) -> None:
    async def main() -> None:
        one = Watched(memory, BufferingDestination, suspect(1))
        one.feed("a1", "b1", "c1", "d1")
        await one.advance(5)
        assert [names for _, names in one.calls] == [["a1"], ["b1"], ["c1", "d1"]]
        assert one.unfinished == 0
        await one.close()

    run(main())


@pytest.mark.parametrize(("policy", "letters", "skipped"), [("dlq", ["b1"], 0), ("skip", [], 1)])
def test_a_suspect_with_too_many_ends_is_given_up_without_a_call(
    memory: int, policy: str, letters: list[str], skipped: int
) -> None:
    async def main() -> None:
        one = Watched(memory, Destination, suspect(1, ENDS_MAX), delivery={"on_error": policy})
        one.feed("a1", "b1", "c1")
        await one.advance(1)
        assert (one.accepted, one.letters, one.counters.skipped) == (["a1", "c1"], letters, skipped)
        assert (one.items[1].failures, one.items[1].wall_first_failure) == (3, "2026-01-01T00:00:00.000Z")
        assert remains_of(memory).acknowledged == (0,)
        await one.close()

    run(main())


def test_a_suspect_that_comes_again_while_it_is_handled_alone_is_an_ordinary_event_afterwards(memory: int) -> None:
    async def main() -> None:
        one = Watched(memory, Destination, suspect(0), delivery={"concurrency": 2})
        sets = running_together(one)
        events = ({"subject": task, "sequence": 1, "rootid": task} for task in ("a", "b"))
        records = [make_event_record("task.progressed", envelope=event) for event in events]
        same = [one.item_of(record, one.now_ms()) for record in records]  # at the same place of the log
        one.runner.feed(same)
        await one.advance(0.5)
        assert sets == [{"a1"}]
        await one.advance(5)
        assert (one.accepted, remains_of(memory).acknowledged) == (["a1", "b1"], (0,))
        assert one.fatal == []
        await one.close()

    run(main())


def test_a_subscriber_that_must_not_leave_out_an_event_stops_before_it(memory: int) -> None:
    async def main() -> None:
        one = Watched(memory, Destination, suspect(1, ENDS_MAX), delivery={"on_error": "stop", "order": "partition"})
        one.feed("a1", "b1", "c1")
        await one.advance(1)
        assert one.accepted == ["a1"]
        assert "0/1 could not be delivered: ProcessEnded: the process of the subscriber ended 3 times" in str(one.fatal[0])
        await one.close()

    run(main())


def test_a_suspect_whose_handler_raises_remains_one_until_it_is_acknowledged(memory: int) -> None:
    async def main() -> None:
        one = Watched(memory, Destination, suspect(0), delivery={"retry": {"initial": 10, "timeout": "1h"}, "concurrency": 2})
        sets = running_together(one)
        taking = one.destination.script

        async def fails_once(metas: list[Meta]) -> None:
            await taking(metas)
            if metas[0].attempt == 1 and name_of(metas[0]) == "a1":
                raise ValueError("not yet")

        one.destination.script = fails_once
        one.feed("a1", "b1", "c1")
        await one.advance(5)
        assert (one.accepted, remains_of(memory).acknowledged) == (["b1", "c1"], ())
        await one.advance(20)
        assert (one.accepted, remains_of(memory).acknowledged) == (["b1", "c1", "a1"], (0,))
        assert sets == [{"a1"}, {"b1"}, {"b1", "c1"}, {"a1"}]
        await one.close()

    run(main())


def test_a_drain_ends_while_a_suspect_waits_for_running_handlers(memory: int) -> None:
    async def main() -> None:
        one = Watched(memory, Destination, suspect(1), delivery={"concurrency": 2})
        one.destination.script = lambda _: asyncio.sleep(25)
        one.feed("a1", "b1", "c1")
        await one.advance(1)
        await one.runner.drain(one.session, 5.0)
        assert one.loop.time() < 7
        await one.advance(60)
        assert [names for _, names in one.calls] == [["a1"]]
        await one.close()

    run(main())


# Restarts


def test_the_backoff_begins_again_after_a_run_with_progress() -> None:
    async def main() -> None:
        restarting = Restarting(Lifecycle(logging.getLogger("test"), lambda: None))
        loop = asyncio.get_running_loop()
        began: list[float] = []

        async def live() -> None:
            began.append(loop.time())
            raise ProcessEnded(CAUSE)

        running = loop.create_task(restarting.run(live, has_progress=lambda: len(began) == 3))
        await asyncio.sleep(12)
        running.cancel()
        await asyncio.wait({running})
        delays = [after - before for before, after in zip(began, began[1:], strict=False)]
        assert delays == [BACKOFF_INITIAL_SECONDS * factor for factor in (1, 2, 1, 2, 4)]

    run(main())

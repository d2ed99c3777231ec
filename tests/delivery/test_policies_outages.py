"""A destination that is unavailable, or that rejects events: handlers wait, nothing is lost, and only rejected events are left
out."""

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import Event
from subscribers import Meta, Unavailable, Undeliverable, on
from tests.virtual_time import run

from .virtual_delivery import BatchDestination, BufferingDestination, Delivering, Destination, name_of, of_task

FEW = settings(max_examples=40, deadline=None)
NAMES = [f"{task}{number}" for number in range(1, 5) for task in "abcdef"]


class World:
    """A destination with endpoints that can be unavailable, and events that it rejects. The endpoint of an event is its task if
    `by_task`, otherwise ""."""

    def __init__(self, *, by_task: bool = False, seconds: float = 0.0) -> None:
        self.down: set[str] = set()
        self.rejected: set[str] = set()
        self.broken: set[str] = set()
        self.retry_after: Any = None
        self._by_task, self._seconds = by_task, seconds

    async def __call__(self, metas: list[Meta]) -> None:
        await asyncio.sleep(self._seconds)
        for meta in metas:
            endpoint = meta.subject if self._by_task else ""
            if endpoint in self.down:
                raise Unavailable(f"503 of {endpoint}", retry_after=self.retry_after, endpoint=endpoint)
            if name_of(meta) in self.rejected:
                raise Undeliverable(f"422 for {name_of(meta)}")
            if name_of(meta) in self.broken:
                raise ValueError(f"cannot handle {name_of(meta)}")


def delivering(
    world: Callable[[list[Meta]], Awaitable[None]], plugin: type[Destination] = Destination, **entry: Any
) -> Delivering:
    made = Delivering(plugin, **entry)
    made.destination.script = world
    return made


def is_unavailable(one: Delivering) -> bool:
    """Whether there is an outage of the whole subscriber."""
    return any(not outage["endpoint"] for outage in one.counters.outages)


# An outage of the whole subscriber


def test_one_probe_at_a_time_with_doubling_delays_and_then_everything_is_delivered(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        world = World(seconds=0.01)
        paged = delivering(world, delivery={"concurrency": 4})
        world.down = {""}
        paged.feed(*NAMES)
        await paged.advance(3 * 3600)
        assert len(paged.called_at[:4]) == 4
        assert paged.called_at[3] < 0.1, "four handlers were running when the first of them raised"
        probes = [paged.called_at[0], *paged.called_at[4:]]
        delays = [later - earlier for earlier, later in zip(probes, probes[1:], strict=False)]
        expected = [min(60.0, 2.0**number) for number in range(len(delays))]
        assert all(0.999 * least <= delay <= 1.11 * least + 0.1 for least, delay in zip(expected, delays, strict=True)), delays
        assert is_unavailable(paged)
        (outage,) = paged.counters.outages
        assert (outage["endpoint"], outage["reason"], outage["attempts"]) == ("", "503 of ", len(probes))
        assert outage["since"].endswith("Z")
        assert paged.runner.error == "the destination is unavailable: 503 of "
        world.down = set()
        await paged.advance(70)
        assert (paged.unfinished, paged.letters, paged.counters.retried) == (0, [], 0)
        for task in "abcdef":
            assert of_task(paged.accepted, task) == [1, 2, 3, 4]
        assert {meta.attempt for meta in paged.destination.metas} == {1}
        assert not paged.counters.outages
        await paged.close()

    run(main())
    lines = [(getattr(one, "action", None), one.levelname) for one in caplog.records if one.levelno > logging.DEBUG]
    assert lines == [("destination_unavailable", "WARNING"), ("destination_available", "WARNING")]


@pytest.mark.parametrize("retry_after", ["90s", 7])
def test_no_probe_is_earlier_than_the_destination_asked_for(retry_after: Any) -> None:
    async def main() -> None:
        world = World()
        paged = delivering(world)
        world.down, world.retry_after = {""}, retry_after
        paged.feed("a1", "b1")
        await paged.advance(200)
        seconds = 90 if retry_after == "90s" else 7
        pairs = zip(paged.called_at, paged.called_at[1:], strict=False)
        assert all(later - earlier >= seconds for earlier, later in pairs)
        assert len(paged.called_at) >= 3
        await paged.close()

    run(main())


def test_a_late_request_to_wait_longer_delays_a_probe_that_is_due() -> None:
    async def main() -> None:
        asked: dict[str, Any] = {"a1": (0.0, None), "b1": (0.9, 30)}

        async def script(metas: list[Meta]) -> None:
            seconds, retry_after = asked.get(name_of(metas[0]), (0.0, None))
            await asyncio.sleep(seconds)
            if asked:
                raise Unavailable("busy", retry_after=retry_after)

        paged = delivering(script, delivery={"concurrency": 2})
        paged.feed("a1", "b1")
        await paged.advance(30.8)
        assert len(paged.calls) == 2
        asked.clear()
        await paged.advance(0.2)
        assert sorted(paged.accepted) == ["a1", "b1"]
        await paged.close()

    run(main())


def test_a_probe_that_no_event_has_used_yet_is_delayed_by_a_later_request_to_wait() -> None:
    async def main() -> None:
        async def script(metas: list[Meta]) -> None:
            if metas[0].subject == "b":
                await asyncio.sleep(5)
                raise Unavailable("busy", retry_after=30)
            if metas[0].subject == "a":
                raise Unavailable("busy")

        paged = delivering(script, delivery={"concurrency": 2, "max_event_age": "10s"})
        paged.feed("b1")
        paged.feed("a1", age_seconds=9.5)
        await paged.advance(6)
        assert (len(paged.calls), paged.counters.too_old) == (2, 1), "a1 was too old to be the probe"
        paged.feed("c1", age_seconds=-60)
        await paged.advance(28)
        assert len(paged.calls) == 2
        await paged.advance(2)
        assert paged.accepted == ["c1"]
        await paged.close()

    run(main())


@pytest.mark.parametrize("by_task", [False, True], ids=["whole subscriber", "endpoint"])
def test_an_outage_does_not_count_for_the_retry_timeout(by_task: bool) -> None:
    """An event that fails before and after an outage of hours gets its full time."""

    async def main() -> None:
        world = World(by_task=by_task)
        paged = delivering(world, delivery={"retry": {"initial": 10, "max": 10, "timeout": "1m"}})
        world.broken = {"a1"}
        paged.feed("a1")
        await paged.advance(25)
        assert len(paged.calls) == 3
        world.down = {"a" if by_task else ""}
        paged.feed("a2")
        await paged.advance(5 * 3600)
        world.down = set()
        before = len(paged.calls)
        await paged.advance(200)
        after = [names for _, names in paged.calls[before:]].count(["a1"])
        assert 3 <= after <= 5, "35 s were left when the outage began"
        assert (paged.accepted, paged.letters) == (["a2"], ["a1"])
        await paged.close()

    run(main())


def test_an_event_for_which_the_destination_always_fails_does_not_stop_the_others() -> None:
    async def main() -> None:
        async def script(metas: list[Meta]) -> None:
            if name_of(metas[0]) == "b1":
                raise Unavailable("500")

        paged = delivering(script)
        paged.feed(*NAMES)
        await paged.advance(60)
        assert set(NAMES) - set(paged.accepted) == {"b1", "b2", "b3", "b4"}
        assert paged.letters == []
        await paged.close()

    run(main())


def test_results_of_a_probe_that_prove_nothing_leave_the_outage_open() -> None:
    async def main() -> None:
        world = World()
        paged = delivering(world, delivery={"on_error": "skip", "retry": {"timeout": 0}, "max_event_age": "1m"})
        world.down = {""}
        paged.feed("a1")
        paged.feed("b1", age_seconds=59.5)
        paged.feed("c1", "d1")
        await paged.advance(0.5)
        assert len(paged.calls) == 1
        world.broken = {"c1"}
        world.down = set()
        down_again = asyncio.get_running_loop().call_later(0.9, world.down.add, "")
        await paged.advance(0.7)
        assert paged.accepted == ["d1", "a1"], "b1 was too old, c1 raised, d1 ended the outage"
        assert (paged.counters.too_old, paged.counters.skipped) == (1, 1)
        down_again.cancel()
        await paged.close()

    run(main())


@pytest.mark.parametrize("at", [0.5, 1.0, 1.005, 3.2])
def test_events_of_a_revoked_session_are_forgotten_and_those_of_the_next_are_delivered(at: float) -> None:
    """Also when the session ends while its lane is the probe."""

    async def main() -> None:
        world = World(seconds=0.01)
        paged = delivering(world, delivery={"concurrency": 2})
        world.down = {""}
        paged.feed("a1", "b1", "c1")
        await paged.advance(at)
        await paged.runner.drain(paged.session, 5.0)
        paged.session = paged.new_session()
        paged.items.clear()
        paged.feed("a1", "b1", "c1")
        await paged.advance(100)
        assert paged.accepted == []
        world.down = set()
        await paged.advance(70)
        assert sorted(paged.accepted) == ["a1", "b1", "c1"]
        assert paged.unfinished == 0
        await paged.close()

    run(main())


# Endpoints


def test_the_outage_of_an_endpoint_delays_only_its_events_and_one_of_them_is_the_probe() -> None:
    async def main() -> None:
        world = World(by_task=True, seconds=0.01)
        paged = delivering(world, delivery={"concurrency": 4})
        world.down = {"a", "b"}
        paged.feed(*NAMES)
        await paged.advance(0.5)
        assert {name[0] for name in paged.accepted} == set("cdef")
        assert len(paged.accepted) == 16
        assert {one["endpoint"] for one in paged.counters.outages} == {"a", "b"}
        assert not is_unavailable(paged)
        await paged.advance(600)
        calls = Counter(names[0] for _, names in paged.calls)
        assert 9 <= calls["a1"] <= 16, "1 + 2 + … + 60 + 60 … seconds"
        world.down = {"b"}
        await paged.advance(70)
        assert of_task(paged.accepted, "a") == [1, 2, 3, 4]
        world.down = set()
        await paged.advance(70)
        assert of_task(paged.accepted, "b") == [1, 2, 3, 4]
        assert (paged.unfinished, paged.letters, paged.counters.outages) == (0, [], ())
        await paged.close()

    run(main())


def test_many_tasks_of_one_endpoint_are_probed_one_at_a_time() -> None:
    async def main() -> None:
        down = True

        async def script(metas: list[Meta]) -> None:
            await asyncio.sleep(0.01)
            if down and metas[0].subject in "abcd":
                raise Unavailable("503", endpoint="eu")

        paged = delivering(script, delivery={"concurrency": 4})
        paged.feed(*NAMES)
        await paged.advance(100)
        eu = [when for when, names in paged.calls if names[0][0] in "abcd"]
        assert len(eu[:4]) == 4
        assert len(eu) <= 4 + 7, "the first events of four tasks, then a probe after 1, 2, 4, 8, 16, 32 s"
        down = False
        await paged.advance(70)
        assert len(paged.accepted) == len(NAMES)
        await paged.close()

    run(main())


def test_a_revoked_session_leaves_no_outage_of_an_endpoint() -> None:
    async def main() -> None:
        world = World(by_task=True)
        paged = delivering(world)
        world.down = {"a"}
        paged.feed("a1", "b1")
        await paged.advance(0.5)
        await paged.runner.drain(paged.session, 5.0)
        assert paged.counters.outages == ()
        world.down = set()
        paged.session = paged.new_session()
        paged.feed("a1")
        await paged.advance(0.1)
        assert paged.accepted == ["b1", "a1"]
        await paged.close()

    run(main())


# Batches


@FEW
@given(
    count=st.integers(1, 24),
    fails_at=st.integers(1, 6),
    seconds=st.floats(0.5, 300),
    rejected=st.sets(st.integers(0, 23), max_size=4),
)
def test_nothing_is_lost_when_an_outage_begins_in_the_middle_of_a_batch(
    count: int, fails_at: int, seconds: float, rejected: set[int]
) -> None:
    async def main() -> None:
        world, calls = World(), 0
        world.rejected = {NAMES[place] for place in rejected}

        async def script(metas: list[Meta]) -> None:
            nonlocal calls
            calls += 1
            if calls == fails_at:
                world.down = {""}
                asyncio.get_running_loop().call_later(seconds, world.down.clear)
            await world(metas)

        paged = delivering(script, BatchDestination)
        paged.feed(*NAMES[:count])
        await paged.advance(1000)
        names = NAMES[:count]
        assert paged.unfinished == 0
        assert paged.letters == [name for name in names if name in world.rejected]
        assert paged.accepted == [name for name in names if name not in world.rejected], "each once, and in order"
        await paged.close()

    run(main())


@FEW
@given(st.sets(st.integers(0, 7), min_size=1))
def test_a_rejected_batch_is_halved_at_once_until_the_rejected_events_are_isolated(rejected: set[int]) -> None:
    async def main() -> None:
        world = World()
        world.rejected = {NAMES[place] for place in rejected}
        paged = delivering(world, BatchDestination)
        paged.feed(*NAMES[:8])
        await paged.advance(0.2)
        assert paged.letters == [NAMES[place] for place in sorted(rejected)]
        assert sorted(paged.accepted) == sorted(set(NAMES[:8]) - world.rejected)
        assert len(paged.calls) <= 1 + 2 * 3 * len(rejected)
        assert Counter(paged.accepted).most_common(1)[0][1] == 1 if paged.accepted else len(rejected) == 8
        assert paged.called_at[-1] - paged.called_at[0] < 0.001, "without a delay"
        assert (paged.counters.retried, paged.counters.dead_lettered) == (0, len(rejected))
        await paged.close()

    run(main())


@pytest.mark.parametrize("policy", ["dlq", "skip", "stop"])
def test_an_event_that_the_destination_rejects_is_not_retried(policy: str) -> None:
    async def main() -> None:
        world = World()
        world.rejected = {"a2"}
        paged = delivering(world, delivery={"on_error": policy})
        paged.feed("a1", "a2", "a3")
        await paged.advance(100)
        assert [names for _, names in paged.calls].count(["a2"]) == 1
        assert paged.letters == (["a2"] if policy == "dlq" else [])
        assert paged.accepted == (["a1"] if policy == "stop" else ["a1", "a3"])
        assert len(paged.fatal) == (policy == "stop")
        await paged.close()

    run(main())


def test_a_rejected_event_ends_an_outage() -> None:
    async def main() -> None:
        world = World()
        paged = delivering(world)
        world.down = {""}
        paged.feed("b1")
        await paged.advance(0.5)
        world.down, world.rejected = set(), {"b1"}
        await paged.advance(1)
        assert (paged.letters, paged.counters.outages) == (["b1"], ())
        await paged.close()

    run(main())


# Flush


def test_a_flush_during_an_outage_is_its_own_probe_and_handlers_wait_for_it() -> None:
    async def main() -> None:
        world = World()
        paged = delivering(world, BufferingDestination, delivery={"retry": {"timeout": "10m"}})
        assert isinstance(paged.destination, BufferingDestination)
        world.down = {""}
        paged.feed("a1", "a2", "b1")
        await paged.advance(1.5)
        assert (len(paged.calls), paged.unfinished, is_unavailable(paged)) == (1, 3, True)
        paged.feed("c1")
        await paged.advance(3600)
        assert [name_of(meta) for meta in paged.destination.buffer] == ["a1", "a2", "b1"], "c1 waits"
        assert len(paged.calls) <= 7 + 60
        world.down, world.broken = set(), {"b1"}
        await paged.advance(69)
        world.broken = set()
        await paged.advance(120)
        assert (paged.unfinished, paged.counters.retried > 0) == (0, True)
        assert Counter(paged.accepted) == Counter(["a1", "a2", "b1", "c1"])
        assert (paged.fatal, paged.letters, paged.counters.outages) == ([], [], ())
        await paged.close()

    run(main())


class DroppingDestination(BufferingDestination):
    """Its handler needs the destination, too."""

    @on("*")
    async def one(self, event: Event, meta: Meta) -> None:
        await asyncio.sleep(3)
        if event.subject == "a" and not self.calls:
            raise Unavailable("no connection")
        self.buffer.append(meta)


def test_a_handler_that_returns_does_not_end_an_outage_of_flush() -> None:
    async def main() -> None:
        world = World()
        world.down = {""}
        paged = delivering(world, DroppingDestination, delivery={"concurrency": 2})
        paged.feed("a1")
        await paged.advance(1.5)
        paged.feed("b1")
        await paged.advance(2)
        assert (paged.calls, is_unavailable(paged)) == ([], True)
        await paged.advance(2)
        paged.feed("c1")
        await paged.advance(2)
        assert len(paged.calls) >= 1, "b1 was handled; its flush failed while a1 was the probe"
        await paged.advance(100)
        assert isinstance(paged.destination, BufferingDestination)
        assert "c1" not in [name_of(meta) for meta in paged.destination.buffer]
        world.down = set()
        await paged.advance(70)
        assert set(paged.accepted) == {"a1", "b1", "c1"}
        assert paged.unfinished == 0
        await paged.close()

    run(main())


def test_a_session_that_ends_during_an_outage_of_flush_does_not_stop_the_next() -> None:
    async def main() -> None:
        world = World()
        paged = delivering(world, BufferingDestination)
        world.down = {""}
        paged.feed("a1")
        await paged.advance(1.5)
        await paged.runner.drain(paged.session, 0.5)
        paged.session = paged.new_session()
        paged.feed("a1", "b1")
        await paged.advance(10)
        world.down = set()
        await paged.advance(70)
        assert {"a1", "b1"} <= set(paged.accepted)
        assert [item.done for item in paged.items[1:]] == [True, True]
        await paged.close()

    run(main())


# Everything at once


@pytest.mark.parametrize("plugin", [Destination, BatchDestination, BufferingDestination])
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1 << 32))
def test_on_a_random_day_nothing_is_lost_and_the_order_per_task_holds(plugin: type[Destination], seed: int) -> None:
    async def main() -> None:
        chance = random.Random(seed)
        world = World(by_task=chance.random() < 0.5 and plugin is Destination, seconds=chance.choice([0, 0.05]))
        world.rejected = set(chance.sample(NAMES, chance.randrange(3))) if plugin is not BufferingDestination else set()
        world.retry_after = chance.choice([None, 5])
        delivery = {
            "concurrency": chance.randrange(1, 4),
            "order": chance.choice(["task", "root", "partition"]),
            "priority": chance.choice([[], ["task.failed"], ["task.*"]]),
            "rate": chance.choice([None, "1/s", "100/m"]),
        }
        types = chance.choice([{}, {"task.failed": {"rate": "30/m"}}, {"task.progressed": {"timeout": "10s"}}])
        paged = delivering(world, plugin, delivery=delivery, types=types)
        loop = asyncio.get_running_loop()
        for name in NAMES:
            paged.feed(name + ("!" if chance.random() < 0.3 else ""))
            await paged.advance(chance.choice([0, 0, 0.05, 2]))
            if chance.random() < 0.2:
                endpoint = name[0] if world._by_task else ""
                world.down.add(endpoint)
                loop.call_later(chance.choice([0.5, 3, 100]), world.down.discard, endpoint)
        await paged.advance(900)
        assert (paged.unfinished, paged.fatal, paged.counters.outages) == (0, [], ())
        assert sorted(paged.letters) == sorted(world.rejected)
        for task in "abcdef":
            assert of_task(paged.accepted, task) == [n for n in range(1, 5) if f"{task}{n}" not in world.rejected]
        await paged.close()

    run(main())


def test_after_an_outage_all_workers_continue() -> None:
    async def main() -> None:
        running = peak = 0
        down = True

        async def script(metas: list[Meta]) -> None:
            nonlocal running, peak
            if down:
                raise Unavailable("503")
            running += 1
            peak = max(peak, running)
            await asyncio.sleep(1)
            running -= 1

        paged = delivering(script, delivery={"concurrency": 4})
        paged.feed(*NAMES)
        await paged.advance(1.5)
        assert peak == 0
        down = False
        await paged.advance(30)
        assert peak == 4
        assert paged.unfinished == 0
        await paged.close()

    run(main())

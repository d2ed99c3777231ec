"""Order and concurrency, whether handlers return at once, wait, or fail."""

import asyncio
from collections.abc import Coroutine, Generator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.delivery.calls import start
from subscribers import Meta, Unavailable
from tests.virtual_time import run

from .virtual_delivery import Delivering, name_of, of_task

TASKS = "abcd"
outcomes = st.sampled_from(["returns", "returns", "returns", "waits", "yields", "fails", "unavailable"])
feeds = st.lists(st.lists(st.tuples(st.sampled_from(TASKS), outcomes), min_size=1, max_size=12), min_size=1, max_size=6)


@settings(max_examples=30, deadline=None)
@given(feeds, st.integers(1, 3), st.sampled_from(["task", "partition"]))
def test_every_event_is_accepted_once_in_the_order_of_its_lane(
    feeds: list[list[tuple[str, str]]], concurrency: int, order: str
) -> None:
    async def main() -> None:
        one = Delivering(delivery={"concurrency": concurrency, "order": order, "retry": {"initial": 0.5, "max": 1}})
        behaviour, running, log, overtaken = dict[str, str](), set[str](), list[str](), list[str]()

        async def behave(metas: list[Meta]) -> None:
            (name,) = map(name_of, metas)
            lane = name[0] if order == "task" else "0"
            if lane in running:
                overtaken.append(name)  # an exception would only be a reason for a retry
            running.add(lane)
            try:
                await _outcome(behaviour.pop(name, "returns"))
            finally:
                running.discard(lane)

        one.destination.script = behave
        for part in feeds:
            names = []
            for task, outcome in part:
                names.append(f"{task}{sum(name[0] == task for name in log) + 1}")
                log.append(names[-1])
                behaviour[names[-1]] = outcome
            one.feed(*names)
            await one.advance(0.15)
        await one.advance(600)
        assert one.unfinished == 0
        assert not overtaken
        assert sorted(one.accepted) == sorted(log)
        for task in TASKS:
            assert of_task(one.accepted, task) == sorted(of_task(log, task))
        if order == "partition":
            assert one.accepted == log
        assert one.counters.delivered == len(log)
        await one.close()

    run(main())


async def _outcome(kind: str) -> None:
    if kind == "waits":
        await asyncio.sleep(0.2)
    elif kind == "yields":
        await asyncio.sleep(0)
    elif kind == "fails":
        raise ValueError(kind)
    elif kind == "unavailable":
        raise Unavailable("for a moment")


def test_handlers_that_wait_run_at_the_same_time() -> None:
    async def main() -> list[tuple[float, list[str]]]:
        one = Delivering(delivery={"concurrency": 3})

        async def wait(metas: list[Meta]) -> None:
            await asyncio.sleep(1)

        one.destination.script = wait
        one.feed("a1", "a2", "b1", "c1", "d1")
        await one.advance(5)
        await one.close()
        return one.calls

    assert run(main()) == [(0, ["a1"]), (0, ["b1"]), (0, ["c1"]), (1, ["a2"]), (1, ["d1"])]


class Pause:
    """Awaitable that suspends once; returns what it is resumed with."""

    def __await__(self) -> Generator[str, str, str]:
        return (yield "paused")


async def awaiting(call: Coroutine[Any, Any, None]) -> None:
    """The rest of a call that is suspended at once."""
    rest = start(call)
    assert rest is not None
    await rest


def test_a_call_that_returns_at_once_leaves_nothing_to_await() -> None:
    async def handler() -> None: ...

    async def broken() -> None:
        raise KeyError("k")

    assert start(handler()) is None
    with pytest.raises(KeyError):
        start(broken())


def test_what_is_left_of_a_call_is_resumed_as_by_await() -> None:
    seen: list[Any] = []

    async def handler() -> None:
        seen.append(await Pause())
        try:
            await Pause()
        except asyncio.CancelledError as error:
            seen.append(error)
        try:
            await Pause()
        finally:
            seen.append("closed")

    steps = awaiting(handler())
    assert steps.send(None) == "paused"
    assert steps.send("resumed") == "paused"
    error = asyncio.CancelledError()
    assert steps.throw(error) == "paused"
    steps.close()
    assert seen == ["resumed", error, "closed"]


def test_a_call_that_is_left_by_an_exception_raises_it() -> None:
    async def handler() -> None:
        await Pause()
        await Pause()

    steps = awaiting(handler())
    steps.send(None)
    with pytest.raises(OSError, match="from outside"):
        steps.throw(OSError("from outside"))
    steps = awaiting(handler())
    steps.send(None)
    steps.send("")
    with pytest.raises(StopIteration):
        steps.send("")

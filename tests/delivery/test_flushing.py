"""When a sink that buffers is flushed."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast

from hub.delivery.failures import Failures
from hub.delivery.flushing import FLUSH_SECONDS, Flushing
from hub.delivery.outages import Outages
from hub.delivery.window import Item, Session
from tests.virtual_time import run

IN_FLIGHT_MAX = 10


class Sink:
    """Notes the times of its flushes; the first ones fail if wanted."""

    def __init__(self, failing: int = 0) -> None:
        self.failing, self.flushed_at = failing, list[float]()

    async def flush(self) -> None:
        self.flushed_at.append(asyncio.get_running_loop().time())
        if len(self.flushed_at) <= self.failing:
            raise ConnectionError("away")


def item(session: Session, finished: list[Item]) -> Item:
    one = SimpleNamespace(session=session)
    one.finish = lambda: finished.append(cast(Item, one))
    return cast(Item, one)


def flushing(sink: Sink, scenario: Callable[[Flushing, asyncio.Task[None]], Awaitable[None]]) -> None:
    async def main() -> None:
        plan = SimpleNamespace(delivery=SimpleNamespace(in_flight_max=IN_FLIGHT_MAX, timeout_seconds=60.0, retry=None))
        parts: Any = (plan, sink, SimpleNamespace(error=None), SimpleNamespace(end_flush=lambda: None), None)
        made = Flushing(*cast("tuple[Any, Any, Failures, Outages, Any]", parts), logging.getLogger(__name__))
        keeping = asyncio.create_task(made.keep())
        await scenario(made, keeping)
        keeping.cancel()

    run(main())


def session() -> Session:
    return cast(Session, SimpleNamespace())


def test_a_flush_follows_the_first_event_by_a_second_and_nothing_wakes_up_before_it() -> None:
    sink, finished = Sink(), list[Item]()

    async def scenario(made: Flushing, _: asyncio.Task[None]) -> None:
        await asyncio.sleep(100.5)  # nothing to flush
        made.add([item(session(), finished)])
        await asyncio.sleep(FLUSH_SECONDS / 2)
        made.add([item(session(), finished)])
        await asyncio.sleep(50)

    flushing(sink, scenario)
    assert sink.flushed_at == [100.5 + FLUSH_SECONDS]
    assert len(finished) == 2


def test_half_of_what_may_be_in_flight_is_flushed_at_once() -> None:
    sink, finished = Sink(), list[Item]()

    async def scenario(made: Flushing, _: asyncio.Task[None]) -> None:
        made.add([item(session(), finished) for _ in range(IN_FLIGHT_MAX // 2)])
        await asyncio.sleep(0.001)

    flushing(sink, scenario)
    assert sink.flushed_at == [0.0]
    assert len(finished) == IN_FLIGHT_MAX // 2


def test_events_of_others_are_flushed_after_a_failure_at_the_end_of_an_assignment() -> None:
    sink, finished, ended = Sink(failing=1), list[Item](), session()
    dropped, kept = item(ended, finished), item(session(), finished)

    async def scenario(made: Flushing, _: asyncio.Task[None]) -> None:
        made.add([dropped, kept])
        await made.finish(ended, timeout_seconds=5.0)
        await asyncio.sleep(50)

    flushing(sink, scenario)
    assert finished == [kept]
    assert len(sink.flushed_at) == 2

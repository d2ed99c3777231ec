"""Subscribers on the log in memory: delivery, and redelivery after failures until the event is dead-lettered."""

from typing import ClassVar

import pytest

from hub.errors import ConfigurationError
from hub.testing import HubInMemory, RecordingSubscriber
from schemas import Event
from schemas.events import TaskCompleted, TaskFailed
from subscribers import (
    Batch,
    Delivery,
    Drop,
    F,
    Meta,
    Postpone,
    Redelivery,
    Subscriber,
    SubscriberContext,
    SubscriberSettings,
    on,
    subscriber,
)
from tests.testing.app import tasks

NO_RETRY = {"retry": {"initial": 1, "max": 1, "timeout": 0}}


async def test_a_recording_subscriber_has_every_event_in_order() -> None:
    async with HubInMemory(tasks) as hub:
        recorded = await hub.attach(RecordingSubscriber)
        task = await hub.submit("flaky")
        await hub.advance(seconds=60)
        assert isinstance(recorded.instance, RecordingSubscriber)
        mine = [meta for meta in recorded.instance.metas if meta.subject == task.id]
        assert [meta.type for meta in mine] == [event.type for event in hub.events_of(task)]
        assert [meta.sequence for meta in mine] == list(range(1, len(mine) + 1))
        assert recorded.instance.types[-1] == "task.completed"


async def test_a_subscriber_begins_at_the_end_or_at_the_beginning_of_the_log() -> None:
    async with HubInMemory(tasks) as hub:
        await hub.run("add", {"a": 1, "b": 2})
        latest = await hub.attach(RecordingSubscriber)
        earliest = await hub.attach(RecordingSubscriber, start_from="earliest")
        await hub.settle()
        assert latest.counters.delivered == 0
        assert [event.id for event in earliest.instance.events] == [event.id for event in hub.events]  # type: ignore[attr-defined]


async def test_filters_and_types_narrow_what_is_handed_over() -> None:
    async with HubInMemory(tasks) as hub:
        ours = await hub.attach(RecordingSubscriber, filter=F.all(F.prefix(type="task."), F.exact(namespace="ours")))
        json = await hub.attach(RecordingSubscriber, id="json", filter={"exact": {"type": "task.completed"}})
        await hub.run("add", {"a": 1, "b": 2}, namespace="ours")
        await hub.run("add", {"a": 1, "b": 2})
        await hub.settle()
        assert {event.namespace for event in ours.instance.events} == {"ours"}  # type: ignore[attr-defined]
        assert json.instance.types == ["task.completed"] * 2  # type: ignore[attr-defined]
        assert json.counters.filtered > 2


class Pager(Subscriber[SubscriberSettings]):
    """Fails as often as it is told to."""

    delivery = Delivery(retry=Redelivery(initial=10, max=10, timeout="1h"))
    failures: ClassVar[int] = 2

    async def open(self, ctx: SubscriberContext) -> None:
        self.id = ctx.id
        self.tries: list[int] = []
        self.closed = False

    @on
    async def failed(self, event: TaskFailed, meta: Meta) -> None:
        self.tries.append(meta.attempt)
        if meta.attempt <= self.failures:
            raise ConnectionError("the pager is away")

    async def close(self) -> None:
        self.closed = True


async def test_a_handler_that_raises_gets_the_event_again_after_its_backoff() -> None:
    async with HubInMemory(tasks) as hub:
        pager = await hub.attach(Pager, id="pager")
        await hub.submit("never")
        await hub.settle()
        assert isinstance(pager.instance, Pager)
        assert (pager.instance.id, pager.instance.tries) == ("pager", [1])
        await hub.advance(seconds=11)
        assert pager.instance.tries == [1, 2]
        await hub.advance(seconds=11)
        assert pager.instance.tries == [1, 2, 3]
        assert (pager.counters.delivered, pager.counters.retried, pager.dead_letters) == (1, 2, [])
    assert pager.instance.closed


async def test_an_event_that_cannot_be_delivered_is_a_dead_letter() -> None:
    async with HubInMemory(tasks) as hub:
        pager = await hub.attach(Pager, delivery=NO_RETRY)
        task = await hub.submit("never")
        await hub.settle()
        (letter,) = pager.dead_letters
        assert letter.event is not None
        assert (letter.event.subject, letter.attempts) == (task.id, 1)
        assert isinstance(letter.error, ConnectionError)
        assert pager.stopped is None


async def test_a_subscriber_stops_before_an_event_where_its_policy_says_so() -> None:
    async with HubInMemory(tasks) as hub:
        pager = await hub.attach(Pager, delivery={**NO_RETRY, "on_error": "stop"})
        await hub.submit("never")
        await hub.submit("never")
        await hub.settle()
        assert "could not be delivered" in str(pager.stopped)
        assert pager.counters.delivered == 0


async def test_batches_postponed_and_dropped_events() -> None:
    seen: list[object] = []

    @subscriber("task.completed", batch=Batch(max=10, linger="5s"))
    async def batched(events: list[TaskCompleted]) -> None:
        seen.append(len(events))

    @subscriber("task.ready")
    async def postponed(event: Event, meta: Meta) -> None:
        if meta.attempt == 1 and len(seen) == 0:
            seen.append("later")
            raise Postpone("1m")

    @subscriber("task.created")
    async def dropped(event: Event) -> None:
        raise Drop("of no use")

    async with HubInMemory(tasks) as hub:
        subscriptions = [await hub.attach(each) for each in (batched, postponed, dropped)]
        await hub.run("add", {"a": 1, "b": 2})
        await hub.run("add", {"a": 1, "b": 2})
        await hub.settle()
        assert seen == ["later"]
        await hub.advance(seconds=5)
        assert seen == ["later", 2]
        await hub.advance(minutes=1)
        assert [each.counters.delivered for each in subscriptions] == [2, 2, 0]
        assert (subscriptions[1].counters.postponed, subscriptions[2].counters.dropped) == (1, 2)


async def test_one_event_at_a_time_fits_and_everything_arrives() -> None:
    async with HubInMemory(tasks, partitions=2) as hub:
        slow = await hub.attach(RecordingSubscriber, delivery={"in_flight_max": 1})
        await hub.submit_many([{"name": "add", "args": {"a": n, "b": 1}} for n in range(50)], reply=False)
        await hub.settle()
        assert slow.instance.types.count("task.completed") == 50  # type: ignore[attr-defined]


async def test_a_subscriber_that_is_set_up_wrongly_is_refused() -> None:
    async with HubInMemory(tasks) as hub:
        with pytest.raises(ConfigurationError, match="concurency"):
            await hub.attach(RecordingSubscriber, delivery={"concurency": 2})
        with pytest.raises(ConfigurationError, match="filter"):
            await hub.attach(RecordingSubscriber, filter={"exact": {"subjekt": "x"}})
        with pytest.raises(ConfigurationError, match="start_from"):
            await hub.attach(RecordingSubscriber, start_from="middle")

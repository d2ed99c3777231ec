"""`ctx.state`: its limits, and what it survives."""

import asyncio
from pathlib import Path
from typing import Any, ClassVar

import pytest

from hub.delivery import DeliveryService, SubscriberConfig
from hub.delivery.administration import StateInMemory, pause
from hub.delivery.administration.control import Control
from hub.delivery.administration.control_records import Mark, Pause, marks_in, pauses_in
from hub.delivery.administration.control_topic import ControlFollower, ControlWriter
from hub.delivery.administration.state import KEY_BYTES_MAX, KEYS_MAX, TOTAL_BYTES_MAX, VALUE_BYTES_MAX, DurableState
from hub.kafka import Cluster
from hub.testing import HubInMemory
from schemas import Event
from subscribers import Delivery, Redelivery, State, Subscriber, SubscriberContext, SubscriberSettings, on
from tests.brokers import broker_in_thread, unique
from tests.ports import free_ports

from .event_log import create_topic, progress, running, write
from .plugins import SEEN, Tagged
from .waiting import until


class Counting(Subscriber[Tagged]):
    """Counts the events of each task in its state."""

    name = "counting"
    uses_state: ClassVar[bool] = True

    async def open(self, ctx: SubscriberContext) -> None:
        self.state: State = ctx.state
        SEEN[self.settings.tag].calls.append(f"open with {self.state.get('a')}")

    @on("task.progressed")
    async def count(self, event: Event) -> None:
        await self.state.put(event.subject, (self.state.get(event.subject) or 0) + 1)
        SEEN[self.settings.tag].events.append((event.subject, int(self.state.get(event.subject) or 0)))


class Undeclared(Subscriber[SubscriberSettings]):
    """Uses the state without declaring it."""

    name = "undeclared"
    delivery = Delivery(retry=Redelivery(timeout=0))

    async def open(self, ctx: SubscriberContext) -> None:
        self.state = ctx.state

    @on("task.*")
    async def any_event(self, event: Event) -> None:
        self.state.get("a")


def counting() -> SubscriberConfig:
    id = unique("counting")
    return SubscriberConfig(use=f"{__name__}:Counting", id=id, settings={"tag": id}, start_from="earliest")


async def test_the_state_is_kept_across_restarts_and_belongs_to_one_id(bootstrap: str) -> None:
    topic, config, other, cluster = unique("events"), counting(), counting(), Cluster.of(bootstrap)
    await create_topic(bootstrap, topic)
    await write(bootstrap, topic, [progress("a", 1), progress("b", 1), progress("a", 2)])
    async with running(DeliveryService(cluster, [config], topic=topic)):
        await until(lambda: len(SEEN[config.id].events) == 3, "three events")
    await write(bootstrap, topic, [progress("a", 3)])
    async with running(DeliveryService(cluster, [config, other], topic=topic)):
        await until(lambda: len(SEEN[config.id].events) == 4, "the fourth event")
        await until(lambda: len(SEEN[other.id].events) == 4, "the events of the other one")
    assert SEEN[config.id].calls == ["open with None", "open with 2"]
    assert SEEN[config.id].of("a") == [1, 2, 3]
    assert SEEN[config.id].of("b") == [1]
    assert SEEN[other.id].calls == ["open with None"]


async def test_processes_of_one_subscriber_see_each_others_writes_and_the_last_one_is_kept(bootstrap: str) -> None:
    id, cluster = unique("shared"), Cluster.of(bootstrap)
    first, second = Control(cluster, id), Control(cluster, id)
    first.start()
    second.start()
    try:
        await first.caught_up.wait()
        await first.state.put("key", {"by": ["first"]})
        await second.state.put("key", {"by": ["second"]})
        await until(lambda: first.state.get("key") == second.state.get("key") == {"by": ["second"]}, "the last write")
        assert first.state.keys("k") == ["key"]
        await first.state.delete("key")
        assert first.state.get("key") is None
        await until(lambda: second.state.get("key") is None, "its deletion")
        await pause(cluster, id)
        await until(lambda: second.paused, "the pause of this id")
    finally:
        await first.stop()
        await second.stop()


async def test_subscribers_of_a_process_share_a_follower_and_get_the_records_about_themselves(embedded_bootstrap: str) -> None:
    cluster, follower = Cluster.of(embedded_bootstrap), ControlFollower(Cluster.of(embedded_bootstrap))
    first, second = (Control(cluster, unique("sharing"), follower) for _ in range(2))
    names = [one.state.prefix.decode().split("/")[1] for one in (first, second)]
    writer = ControlWriter(cluster)
    await pause(cluster, names[0])
    async with asyncio.TaskGroup() as tasks:
        following = tasks.create_task(follower.run())
        await follower.caught_up.wait()
        assert (first.paused is not None, second.paused) == (True, None)
        await writer.put(b"state/" + names[1].encode() + b"/key", b"1")
        await until(lambda: second.state.get("key") == 1, "the record about the second")
        assert first.state.keys() == []
        await first.stop()
        await pause(cluster, names[1])
        await until(lambda: second.paused, "its pause, after the other one has stopped")
        following.cancel()
    await writer.close()


async def test_writes_wait_for_a_broker_that_restarts_and_other_processes_follow(tmp_path: Path) -> None:
    (port,), id = free_ports(1), unique("restart")
    first, second = (Control(Cluster.of(f"127.0.0.1:{port}"), id) for _ in range(2))
    first.start()
    second.start()
    try:
        with broker_in_thread(tmp_path, port=port):
            await first.state.put("key", 1)
            await until(lambda: second.state.get("key") == 1, "the first write")
        async with asyncio.TaskGroup() as tasks:
            writing = tasks.create_task(first.state.put("key", 2))
            await asyncio.sleep(0.2)
            assert not writing.done()
            assert first.state.get("key") == 1
            with broker_in_thread(tmp_path, port=port):
                await writing
                await until(lambda: second.state.get("key") == 2, "the second write")
    finally:
        await first.stop()
        await second.stop()


async def test_an_older_record_does_not_replace_a_value_that_was_written_here() -> None:
    state = DurableState("s", ControlWriter(Cluster.of("127.0.0.1:1")))
    state.wrote("k", b"2", 7)
    state.apply(b"state/s/k", b"1", 6)
    assert state.get("k") == 2
    state.apply(b"state/s/k", b"2", 7)
    state.apply(b"state/s/k", b"not JSON", 8)
    assert state.get("k") is None
    assert state.keys() == []


async def test_records_of_a_topic_that_was_created_again_are_taken() -> None:
    state = DurableState("s", ControlWriter(Cluster.of("127.0.0.1:1")))
    state.apply(b"state/s/k", b"1", 40)
    state.wrote("k", b"2", 41)
    state.apply(b"state/s/k", b"3", 0)
    assert state.get("k") == 3


async def test_a_value_is_a_copy_and_limits_name_what_exceeds_them() -> None:
    state = StateInMemory()
    await state.put("a", {"list": [1]})
    state.get("a")["list"].append(2)  # type: ignore[index]
    assert state.get("a") == {"list": [1]}
    await state.put("k" * KEY_BYTES_MAX, "x" * (VALUE_BYTES_MAX - 2))
    refused: list[tuple[Any, Any, str]] = [
        ("", 1, "1 to 1,024 bytes"),
        ("é" * (KEY_BYTES_MAX // 2 + 1), 1, "1 to 1,024 bytes"),
        ("\ud800", 1, "1 to 1,024 bytes"),
        (7, 1, "1 to 1,024 bytes"),
        ("b", None, "delete"),
        ("b", object(), "JSON"),
        ("b", "x" * (VALUE_BYTES_MAX - 1), "65,537 bytes; the limit is 65,536"),
    ]
    for key, value, message in refused:
        with pytest.raises(ValueError, match=message):
            await state.put(key, value)
    assert len(state.keys()) == 2
    await state.delete("a")
    assert state.keys("a") == []


async def test_the_number_of_keys_and_the_total_size_are_limited() -> None:
    many, large = StateInMemory(), StateInMemory()
    for number in range(KEYS_MAX):
        many.set(str(number), b"1")
    with pytest.raises(ValueError, match="10,000 keys"):
        await many.put("one more", 1)
    await many.put("7", 2)
    value = "x" * (VALUE_BYTES_MAX - 2)
    for number in range(TOTAL_BYTES_MAX // (VALUE_BYTES_MAX + 3)):
        await large.put(f"{number:03}", value)
    with pytest.raises(ValueError, match="16,777,216 bytes"):
        await large.put("more", value)
    await large.put("000", value)
    await large.delete("000")
    await large.put("mor", value)


async def test_a_subscriber_that_does_not_declare_its_use_gets_a_clear_error() -> None:
    async with HubInMemory() as hub:
        subscription = await hub.attach(Undeclared)
        await hub.submit("any")
        await hub.settle()
        assert "uses_state" in str(subscription.dead_letters[0].error)


async def test_a_subscriber_of_a_hub_in_memory_has_a_state() -> None:
    async with HubInMemory() as hub:
        tag = unique("in-memory")
        subscription = await hub.attach(Counting, settings={"tag": tag})
        assert SEEN[tag].calls == ["open with None"]
        await subscription.state.put("a", 3)
        assert subscription.state.get("a") == 3


def test_records_that_are_not_valid_are_ignored() -> None:
    latest = {
        b"pause/a": b'{"since":"2026-01-01T00:00:00Z"}',
        b"pause/b": b"?",
        b"dlq/a/0/7": b'{"outcome":"dropped","at":"2026-01-01T00:00:00Z","timestamp_ms":5}',
        b"dlq/a/0/x": b'{"outcome":"dropped","at":"2026-01-01T00:00:00Z","timestamp_ms":5}',
        b"dlq/a/0/8": b'{"outcome":"eaten","at":"2026-01-01T00:00:00Z","timestamp_ms":5}',
        b"dlq/ab/0/9": b'{"outcome":"retried","at":"2026-01-01T00:00:00Z","timestamp_ms":5}',
    }
    assert pauses_in(latest) == {"a": Pause("2026-01-01T00:00:00Z")}
    assert marks_in(latest, "a") == {(0, 7): Mark("dropped", "2026-01-01T00:00:00Z", 5)}

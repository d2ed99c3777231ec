"""Replays of the log."""

import asyncio
import threading
from typing import Any

import pytest

from hub.delivery import DeliveryService, SubscriberConfig, SubscriberPlan, load
from hub.delivery.administration import FailedItems, ReplayRange, count_matching, replay
from hub.delivery.config import plan
from hub.kafka import Cluster, read_committed
from tests.brokers import unique

from .event_log import completed, create_topic, progress, ready, running, write
from .plugins import SEEN
from .waiting import until

ALL = ReplayRange()


@pytest.fixture
async def topic(bootstrap: str) -> str:
    """A topic of its own with two partitions."""
    name = unique("events")
    await create_topic(bootstrap, name, 2)
    return name


def config_of(plugin: str, id: str = "", tag: str = "", **more: Any) -> SubscriberConfig:
    id = id or unique(plugin.lower())
    return SubscriberConfig(use=f"tests.delivery.plugins:{plugin}", id=id, settings={"tag": tag or id}, **more)


def plan_of(config: SubscriberConfig) -> SubscriberPlan:
    return plan(config, load(config.use))


def place(key: bytes) -> int:
    return int(key[1:]) % 2


async def test_a_replay_delivers_each_event_once_and_in_order_while_the_live_subscriber_keeps_its_offsets(
    bootstrap: str, topic: str
) -> None:
    cluster = Cluster.of(bootstrap)
    live = config_of("Recorder", start_from="earliest")
    replayed = plan_of(config_of("Recorder", live.id, unique("replayed")))
    await write(bootstrap, topic, [progress(f"t{n % 10}", n // 10 + 1) for n in range(400)], partition_of=place)
    async with running(DeliveryService(cluster, [live], topic=topic)) as service:
        await until(lambda: len(SEEN[live.id].events) == 400 and service.status()[0].lag == 0, "the live events committed")
        before = await read_committed(cluster, live.group, topic)
        progressed: list[float] = []
        done = await replay(
            cluster, replayed, ALL, FailedItems(), topic=topic, on_progress=lambda now: progressed.append(now.percent)
        )
        assert await read_committed(cluster, live.group, topic) == before
        assert service.status()[0].reconnects == 0
        await write(bootstrap, topic, [progress("t1", 41)], partition_of=place)
        await until(lambda: len(SEEN[live.id].events) == 401, "a live event after the replay")
    seen = SEEN[replayed.config.settings["tag"]]
    assert len(seen.events) == 400
    assert all(seen.of(f"t{n}") == list(range(1, 41)) for n in range(10))
    assert {meta.replay for meta in seen.metas} == {True}
    assert {meta.replay for meta in SEEN[live.id].metas} == {False}
    assert (done.matching["task.progressed"], done.counters.delivered, done.failed, done.percent) == (400, 400, 0, 100.0)
    assert progressed == sorted(progressed)


async def test_the_range_of_a_replay_is_of_time_type_and_task(bootstrap: str, topic: str) -> None:
    cluster = Cluster.of(bootstrap)
    for hour in (1, 2, 3):
        records = [ready("t1", hour), progress("t1", hour), progress("t2", hour), completed("t2", 10 + hour)]
        await write(bootstrap, topic, records, partition_of=place, timestamp_ms=hour * 3_600_000)
    for wanted, events in (
        (ReplayRange(2 * 3_600_000, 3 * 3_600_000), {("t1", 2), ("t2", 2), ("t2", 12)}),
        (ReplayRange(pattern="task.pro*", task="t2"), {("t2", 1), ("t2", 2), ("t2", 3)}),
        (ReplayRange(from_ms=2 * 3_600_000 + 1, pattern="task.completed"), {("t2", 13)}),
        (ReplayRange(to_ms=3_600_000), set()),
    ):
        chosen = plan_of(config_of("Recorder"))
        done = await replay(cluster, chosen, wanted, FailedItems(), topic=topic)
        assert set(SEEN[chosen.config.id].events) == events
        counted = await count_matching(cluster, chosen, wanted, topic=topic)
        assert counted.matching == done.matching
        assert counted.counters.delivered == 0


async def test_the_types_and_the_filter_of_the_subscriber_apply(bootstrap: str, topic: str) -> None:
    chosen = plan_of(config_of("Progress", filter={"not": {"exact": {"subject": "t2"}}}))
    await write(bootstrap, topic, [ready("t1", 1), progress("t1", 2), progress("t2", 3)])
    done = await replay(Cluster.of(bootstrap), chosen, ALL, FailedItems(), topic=topic)
    assert SEEN[chosen.config.id].events == [("t1", 2)]
    assert dict(done.matching) == {"task.progressed": 1}


async def test_a_replay_ends_at_the_end_of_the_log_at_its_start(bootstrap: str, topic: str) -> None:
    chosen = plan_of(config_of("Blocking"))
    seen = SEEN[chosen.config.id]
    seen.gate = threading.Event()
    await write(bootstrap, topic, [progress("t0", 1), progress("t1", 1)], partition_of=place)
    async with asyncio.TaskGroup() as tasks:
        replaying = tasks.create_task(replay(Cluster.of(bootstrap), chosen, ALL, FailedItems(), topic=topic))
        await until(lambda: "blocks" in seen.calls, "its first event")
        await write(bootstrap, topic, [progress("t0", 2), progress("t1", 2)], partition_of=place)
        seen.gate.set()
    assert sorted(seen.events) == [("t0", 1), ("t1", 1)]
    assert replaying.result().counters.delivered == 2


async def test_an_event_that_fails_is_retried_and_then_given_to_the_dead_letters(bootstrap: str, topic: str) -> None:
    chosen, sink = plan_of(config_of("Recorder")), FailedItems()
    seen = SEEN[chosen.config.id]
    seen.poison = {("t0", 1)}
    await write(bootstrap, topic, [progress("t0", 1), progress("t0", 2), (b"t0", b"{}", [("ce_type", b"no.event")])])
    done = await replay(Cluster.of(bootstrap), chosen, ALL, sink, topic=topic)
    assert seen.events == [("t0", 2)]
    assert [str(error) for error in sink.errors.values() if isinstance(error, ValueError)][0] == "cannot stand t0 1"
    assert done.counters.retried >= 1
    assert done.failed == len(sink.errors)


async def test_a_subscriber_may_leave_replays_out(bootstrap: str, topic: str) -> None:
    chosen = plan_of(config_of("Recorder", delivery={"replay": "skip"}))
    await write(bootstrap, topic, [progress("t0", 1)])
    done = await replay(Cluster.of(bootstrap), chosen, ALL, FailedItems(), topic=topic)
    assert SEEN[chosen.config.id].events == []
    assert (done.counters.replays_skipped, done.counters.delivered) == (1, 0)


async def test_a_replay_uses_the_durable_state_of_the_subscriber(bootstrap: str, topic: str) -> None:
    id = unique("counting")
    chosen = plan_of(
        SubscriberConfig(
            use="tests.delivery.test_administration_state:Counting", id=id, settings={"tag": id}, start_from="earliest"
        )
    )
    await write(bootstrap, topic, [progress("a", 1), progress("a", 2)])
    for _ in range(2):
        await replay(Cluster.of(bootstrap), chosen, ALL, FailedItems(), topic=topic)
    assert SEEN[id].of("a") == [1, 2, 3, 4]
    assert SEEN[id].calls == ["open with None", "open with 2"]

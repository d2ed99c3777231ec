"""Pauses and resets, with running subscribers."""

from typing import Any

import pytest

from hub.delivery import DeliveryService, SubscriberConfig
from hub.delivery.administration import (
    KnownSubscriber,
    OffsetMove,
    SubscriberConnected,
    apply_reset,
    describe_subscribers,
    known_ids,
    pause,
    plan_reset,
    resume,
)
from hub.kafka import Cluster
from tests.brokers import unique

from .event_log import committed_offset, create_topic, progress, running, write
from .plugins import SEEN
from .waiting import until


@pytest.fixture
async def topic(bootstrap: str) -> str:
    """A topic of its own with one partition."""
    name = unique("events")
    await create_topic(bootstrap, name)
    return name


def recorder(**more: Any) -> SubscriberConfig:
    id = unique("recorder")
    return SubscriberConfig(use="tests.delivery.plugins:Recorder", id=id, settings={"tag": id}, start_from="earliest", **more)


async def known(bootstrap: str, config: SubscriberConfig, topic: str) -> KnownSubscriber:
    """What administration says about one subscriber."""
    (found,) = await describe_subscribers(Cluster.of(bootstrap), [config], topic=topic, only=config.id)
    return found


async def test_a_paused_subscriber_gets_nothing_also_after_a_restart_and_misses_nothing_when_it_is_resumed(
    bootstrap: str, topic: str
) -> None:
    config, cluster = recorder(), Cluster.of(bootstrap)
    seen = SEEN[config.id]
    await write(bootstrap, topic, [progress("a", 1)])
    async with running(DeliveryService(cluster, [config], topic=topic)) as service:
        await until(lambda: seen.events == [("a", 1)], "the first event")
        await pause(cluster, config.id, "the pager is being replaced")
        await until(lambda: service.status()[0].state == "paused", "the pause", 20)
        assert "the pager is being replaced" in (service.status()[0].error or "")
        assert service.failing() == {}
        assert seen.calls == ["open", "close"]
        await write(bootstrap, topic, [progress("a", 2)])
        found = await known(bootstrap, config, topic)
        assert (found.state, found.members, found.pause_reason) == ("paused", 0, "the pager is being replaced")
        assert (found.lag or 0) >= 1
        assert found.oldest_unread_seconds is not None
        assert found.oldest_unread_seconds < 60
    async with running(DeliveryService(cluster, [config], topic=topic)) as service:
        assert service.status()[0].state == "paused", "it is ready although nothing runs"
        await resume(cluster, config.id)
        await until(lambda: service.status()[0].state == "running", "the end of the pause", 20)
        await until(lambda: len(seen.events) >= 2, "the event that waited")
        assert service.status()[0].restarts == 0
    assert seen.events == [("a", 1), ("a", 2)]
    assert config.id in await known_ids(cluster)


async def test_offsets_are_reset_only_while_no_process_is_connected(bootstrap: str, topic: str) -> None:
    config, cluster = recorder(), Cluster.of(bootstrap)
    seen = SEEN[config.id]
    await write(bootstrap, topic, [progress("a", 1), progress("a", 2)])
    async with running(DeliveryService(cluster, [config], topic=topic)) as service:
        await until(lambda: len(seen.events) == 2, "both events")
        assert (await known(bootstrap, config, topic)).state == "connected"
        with pytest.raises(SubscriberConnected, match=f"hub subscribers pause {config.id}"):
            await plan_reset(cluster, config.id, "earliest", topic=topic)
        with pytest.raises(SubscriberConnected):
            await apply_reset(cluster, config.id, [OffsetMove(0, None, 0)], topic=topic)
        await pause(cluster, config.id)
        (move,) = await plan_reset(cluster, config.id, "earliest", topic=topic)
        assert move.before in (2, 3), "two events, and perhaps the marker"
        assert move.after == 0
        await apply_reset(cluster, config.id, [move], topic=topic)
        await resume(cluster, config.id)
        await until(lambda: len(seen.events) == 4, "both events again")
        assert service.status()[0].gaps == 0
    assert seen.events == [("a", 1), ("a", 2)] * 2


async def test_a_subscriber_that_never_ran_can_begin_at_a_time(bootstrap: str, topic: str) -> None:
    config, cluster = recorder(), Cluster.of(bootstrap)
    found = await known(bootstrap, config, topic)
    assert (found.state, found.lag, found.partitions[0].committed) == ("disconnected", None, None)
    for number, timestamp_ms in enumerate((1_000_000, 2_000_000), 1):
        await write(bootstrap, topic, [progress("a", number), progress("b", number)], timestamp_ms=timestamp_ms)
    (move,) = await plan_reset(cluster, config.id, 2_000_000, topic=topic)
    assert move.before is None
    await apply_reset(cluster, config.id, [move], topic=topic)
    assert await committed_offset(bootstrap, config.group, topic) == move.after
    async with running(DeliveryService(cluster, [config], topic=topic)):
        await until(lambda: len(SEEN[config.id].events) >= 2, "the events of that time")
    assert SEEN[config.id].events == [("a", 2), ("b", 2)]
    (move,) = await plan_reset(cluster, config.id, "latest", topic=topic)
    assert move.before in (move.after, move.after - 1), "it has read everything but perhaps the marker"

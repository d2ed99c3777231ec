"""Describes the consumer groups of subscribers, with lag, dead letters and pauses; sets their committed offsets."""

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Literal, NamedTuple

from msgspec import Struct

from ...errors import HubError
from ...kafka import (
    DLQ_PREFIX,
    EVENTS,
    Cluster,
    GroupInUse,
    GroupState,
    commit_offsets,
    describe_group,
    describe_groups,
    describe_offsets,
    find_offsets,
    list_groups,
    list_topics,
    read_committed,
    timestamps_at,
)
from ..config import SubscriberConfig
from .control_records import pauses_in
from .control_topic import read_latest
from .letters import LetterBox
from .pausing import read_pauses

GROUP_PREFIX = "hub.sub."
LEAVE_SECONDS = 20.0
"""How long a reset waits until a paused subscriber has left its group."""
LOOK_SECONDS = 0.5


class PartitionLag(Struct, kw_only=True):
    """A partition of the log, as a subscriber reads it. `committed`: the next offset to deliver; None before the first start.
    `lag`: records (and transaction markers) from there to the end of the log."""

    partition: int
    committed: int | None
    end: int
    lag: int | None


class KnownSubscriber(Struct, kw_only=True):
    """A subscriber that is configured here, or has a consumer group, a topic of dead letters, or a pause.

    `use`: None if it is not configured here. `state`: paused, or whether a process of delivery is a member of its group. `lag`:
    None before its first start. `oldest_unread_seconds`: age of the first record that is not acknowledged. `paused_since`:
    RFC 3339, UTC."""

    id: str
    use: str | None
    state: Literal["connected", "disconnected", "paused"]
    members: int
    lag: int | None
    oldest_unread_seconds: float | None
    dead_letters: int
    partitions: list[PartitionLag]
    paused_since: str | None = None
    pause_reason: str = ""


class OffsetMove(NamedTuple):
    """A committed offset of a partition, before and after a reset."""

    partition: int
    before: int | None
    after: int


class SubscriberConnected(HubError):
    """The offsets of a subscriber cannot be reset while a process delivers to it."""

    def __init__(self, subscriber: str, members: Iterable[str]) -> None:
        named = ", ".join(sorted(set(members)))
        super().__init__(
            f"Subscriber {subscriber} is connected ({named}): pause it first with `hub subscribers pause {subscriber}`, "
            "or stop its processes of delivery."
        )


class _Facts(NamedTuple):
    """What was read of the cluster, for all subscribers. `groups`: by subscriber; `latest`: the records of `hub.subscribers`."""

    cluster: Cluster
    topic: str
    ends: dict[int, int]
    groups: dict[str, GroupState]
    latest: dict[bytes, bytes]


async def describe_subscribers(
    cluster: Cluster, configs: Iterable[SubscriberConfig], *, topic: str = EVENTS, only: str | None = None
) -> list[KnownSubscriber]:
    """All known subscribers (or `only` the one with this id), the configured ones first. Raises Unreachable, TopicMissing."""
    facts = _Facts(
        cluster,
        topic,
        {partition: one.end for partition, one in (await describe_offsets(cluster, topic)).items()},
        {one.group.removeprefix(GROUP_PREFIX): one for one in await describe_groups(cluster, GROUP_PREFIX)},
        await read_latest(cluster),
    )
    used = {one.id: one.use for one in configs}
    known = dict.fromkeys([*used, *await known_ids(cluster)])
    return [await _known(facts, one, used.get(one)) for one in known if only in (None, one)]


async def known_ids(cluster: Cluster) -> list[str]:
    """The subscribers that have a consumer group, a topic of dead letters, or a pause, sorted. Raises Unreachable."""
    groups = [one.removeprefix(GROUP_PREFIX) for one in await list_groups(cluster, GROUP_PREFIX)]
    topics = [one.removeprefix(DLQ_PREFIX) for one in await list_topics(cluster, DLQ_PREFIX)]
    return sorted({*groups, *topics, *await read_pauses(cluster)})


async def _known(facts: _Facts, subscriber: str, use: str | None) -> KnownSubscriber:
    pause, group = pauses_in(facts.latest).get(subscriber), facts.groups.get(subscriber)
    members = 0 if group is None else len(group.members)
    partitions = await _partitions(facts, subscriber)
    lags = [one.lag for one in partitions if one.lag is not None]
    return KnownSubscriber(
        id=subscriber,
        use=use,
        state="paused" if pause is not None else "connected" if members else "disconnected",
        members=members,
        lag=sum(lags) if lags else None,
        oldest_unread_seconds=await _age(facts, partitions),
        dead_letters=await LetterBox(facts.cluster, subscriber).count(facts.latest),
        partitions=partitions,
        paused_since=None if pause is None else pause.since,
        pause_reason="" if pause is None else pause.reason,
    )


async def _partitions(facts: _Facts, subscriber: str) -> list[PartitionLag]:
    committed: dict[int, int | None] = {}
    if subscriber in facts.groups:
        committed = await read_committed(facts.cluster, GROUP_PREFIX + subscriber, facts.topic)
    lags = []
    for partition, end in facts.ends.items():
        offset = committed.get(partition)
        lag = None if offset is None else max(0, end - offset)
        lags.append(PartitionLag(partition=partition, committed=offset, end=end, lag=lag))
    return lags


async def _age(facts: _Facts, partitions: list[PartitionLag]) -> float | None:
    """The age of the oldest record that is not acknowledged, in seconds; None if there is none."""
    unread = {one.partition: one.committed for one in partitions if one.lag and one.committed is not None}
    times = (await timestamps_at(facts.cluster, facts.topic, unread)).values()
    return max(0.0, datetime.now(UTC).timestamp() - min(times) / 1000) if times else None


async def plan_reset(
    cluster: Cluster, subscriber: str, to: Literal["latest", "earliest"] | int, *, topic: str = EVENTS
) -> list[OffsetMove]:
    """The moves of a reset: to the end or the beginning of the log, or to the first records at or after a timestamp (ms). Waits
    until a paused subscriber has left its group. Raises SubscriberConnected, Unreachable, TopicMissing."""
    await _wait_until_left(cluster, subscriber)
    ranges = await describe_offsets(cluster, topic)
    before = await read_committed(cluster, GROUP_PREFIX + subscriber, topic)
    if to == "latest":
        after = {partition: one.end for partition, one in ranges.items()}
    elif to == "earliest":
        after = {partition: one.start for partition, one in ranges.items()}
    else:
        first = await find_offsets(cluster, topic, to)
        after = {partition: one.end if (at := first[partition]) is None else at for partition, one in ranges.items()}
    return [OffsetMove(partition, before[partition], after[partition]) for partition in ranges]


async def apply_reset(cluster: Cluster, subscriber: str, moves: Iterable[OffsetMove], *, topic: str = EVENTS) -> None:
    """Commit the offsets. Raises SubscriberConnected if a process joined the group meanwhile, Unreachable."""
    try:
        await commit_offsets(cluster, GROUP_PREFIX + subscriber, topic, {one.partition: one.after for one in moves})
    except GroupInUse:
        raise SubscriberConnected(subscriber, ["a process joined its group"]) from None


async def _wait_until_left(cluster: Cluster, subscriber: str) -> None:
    loop = asyncio.get_running_loop()
    paused = subscriber in await read_pauses(cluster)
    deadline = loop.time() + (LEAVE_SECONDS if paused else 0.0)
    while members := await _members(cluster, subscriber):
        if loop.time() >= deadline:
            raise SubscriberConnected(subscriber, members)
        await asyncio.sleep(LOOK_SECONDS)


async def _members(cluster: Cluster, subscriber: str) -> list[str]:
    group = await describe_group(cluster, GROUP_PREFIX + subscriber)
    return [] if group is None else [f"{member.client_id} at {member.host.lstrip('/')}" for member in group.members]

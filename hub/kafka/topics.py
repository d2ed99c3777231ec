"""The hub's topics as data, and the operations that make them: create what is missing, alter or refuse what is wrong.

Topics are made here and nowhere else; no client creates one by using it.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from aiokafka import TopicPartition as AdminPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete
from aiokafka.errors import KafkaConnectionError, KafkaError, OffsetOutOfRangeError

from ..protocol import ErrorCode
from .clients import make_admin
from .cluster import Cluster
from .codec import BATCH_BYTES_MAX
from .errors import BrokerUnreachable, ConnectionLost, TopicMismatch, TopicMissing, TopicRefused
from .partition import INBOX_PARTITIONS
from .topic_config import TopicChange, alter, compare, describe_configs

PREFIX = "hub."
INTAKE = "hub.intake"
EVENTS = "hub.events"
STATE = "hub.state"
REPLIES = "hub.replies"
COMMANDS_PREFIX = "hub.commands."
DLQ_PREFIX = "hub.dlq."
REPLY_PARTITIONS = 8
DEFAULT_POOL = "default"
CLUSTER_PARTITIONS = 16
"""Engine partitions of a new hub on a cluster, when none are asked for: room for as many engine processes."""
VISIBLE_SECONDS = 10.0
"""How long a new topic may take until every partition has a leader."""

_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS
TOMBSTONES_MS = _DAY_MS
"""How long a deletion stays in `hub.state` at least after compaction: whoever is behind by less misses none."""
DEAD_LETTER_BYTES = 64 * 1024
"""What a dead letter may be larger than the event in it: headers that say why it is there."""
NO_OVERRIDES: Mapping[str, Mapping[str, str]] = {}
NO_CONFIG: Mapping[str, str] = {}


class TopicSpec(NamedTuple):
    """What a topic has to be. `asked_for`: those settings of `config` that somebody configured."""

    name: str
    partitions: int
    config: Mapping[str, str]
    asked_for: Mapping[str, str] = {}


class Ensured(NamedTuple):
    """What was done about the topics: the names of those that were created, the settings that were altered, and those that
    differ from a new hub's and were left as they are."""

    created: list[str]
    altered: list[TopicChange]
    kept: list[TopicChange]


def commands_topic(pool: str) -> str:
    """The topic with the inboxes of a pool's workers."""
    return COMMANDS_PREFIX + pool


def dlq_topic(subscriber: str) -> str:
    """The dead letters of a subscriber."""
    return DLQ_PREFIX + subscriber


def _spec(name: str, partitions: int, cleanup: str, **config: int) -> TopicSpec:
    settings = {"cleanup.policy": cleanup, "max.message.bytes": BATCH_BYTES_MAX, **config}
    return TopicSpec(name, partitions, {key.replace("_", "."): str(value) for key, value in settings.items()})


def hub_topics(partitions: int, *, pools: Iterable[str] = (DEFAULT_POOL,), subscribers: Iterable[str] = ()) -> list[TopicSpec]:
    """Every topic of a hub with this many engine partitions.

    `hub.intake` keeps everything: the engine deletes what lies far enough behind what it has decided. `hub.state` is
    compacted in small segments and soon, since its length is what a restart reads."""
    return [
        _spec(INTAKE, partitions, "delete", retention_ms=-1, retention_bytes=-1),
        _spec(EVENTS, partitions, "delete", retention_ms=30 * _DAY_MS),
        _spec(
            STATE, partitions, "compact", segment_bytes=64 << 20, max_compaction_lag_ms=600_000, delete_retention_ms=TOMBSTONES_MS
        ),
        _spec(REPLIES, REPLY_PARTITIONS, "delete", retention_ms=_HOUR_MS),
        *(pool_topic(pool) for pool in pools),
        *(dlq_spec(subscriber, partitions) for subscriber in subscribers),
    ]


def pool_topic(pool: str) -> TopicSpec:
    """The commands topic of one pool."""
    return _spec(commands_topic(pool), INBOX_PARTITIONS, "delete", retention_ms=_DAY_MS)


def dlq_spec(subscriber: str, partitions: int) -> TopicSpec:
    """The dead-letter topic of one subscriber."""
    bytes_max = BATCH_BYTES_MAX + DEAD_LETTER_BYTES
    return _spec(dlq_topic(subscriber), partitions, "delete", retention_ms=14 * _DAY_MS, max_message_bytes=bytes_max)


async def ensure_topics(
    cluster: Cluster,
    *,
    partitions: int,
    pools: Iterable[str] = (DEFAULT_POOL,),
    subscribers: Iterable[str] = (),
    overrides: Mapping[str, Mapping[str, str]] = NO_OVERRIDES,
) -> Ensured:
    """Create the missing topics of a hub and check those that exist. May run anywhere, any time.

    `overrides`: settings by topic (COMMANDS_PREFIX: of every pool), for new topics and for those that exist. Raises
    `TopicMismatch` (an existing topic cannot be worked with; nothing was created), `TopicRefused`, `BrokerUnreachable`."""
    async with _admin(cluster) as admin:
        known = await _pools(admin) if COMMANDS_PREFIX in overrides else []
        specs = hub_topics(partitions, pools=dict.fromkeys([*pools, *known]), subscribers=subscribers)
        return await _ensure(admin, cluster, [_override(spec, overrides) for spec in specs])


async def ensure_hub(
    cluster: Cluster, partitions: int | None = None, overrides: Mapping[str, Mapping[str, str]] = NO_OVERRIDES
) -> Ensured:
    """`ensure_topics` with the number of partitions that the hub has (a new one: CLUSTER_PARTITIONS) where none is asked for."""
    if partitions is None:
        try:
            partitions = await describe_partitions(cluster)
        except TopicMissing:
            partitions = CLUSTER_PARTITIONS
    return await ensure_topics(cluster, partitions=partitions, overrides=overrides)


async def ensure_pool(cluster: Cluster, pool: str, overrides: Mapping[str, Mapping[str, str]] = NO_OVERRIDES) -> None:
    """Create the commands topic of a pool if it is missing. Raises as `ensure_topics` does."""
    async with _admin(cluster) as admin:
        await _ensure(admin, cluster, [_override(pool_topic(pool), overrides)])


async def ensure_dlq(cluster: Cluster, subscriber: str, *, events: str = EVENTS, config: Mapping[str, str] = NO_CONFIG) -> None:
    """Create the dead-letter topic of a subscriber if it is missing, with as many partitions as the topic `events`; one that
    exists keeps its number and its settings but for `config`, what somebody configured. Raises as `ensure_topics` does, and
    `TopicMissing` where there is no topic `events`."""
    partitions = await describe_partitions(cluster, events)
    async with _admin(cluster) as admin:
        spec = dlq_spec(subscriber, partitions)
        existing = await _existing(admin, [spec.name])
        if spec.name in existing:  # What else it has is the operator's choice: letters are cut to the size that it takes.
            spec = spec._replace(partitions=existing[spec.name], config={})
        await _ensure(admin, cluster, [_override(spec, {spec.name: config})])


async def describe_partitions(cluster: Cluster, topic: str = INTAKE) -> int:
    """The number of partitions of a topic; that of `hub.intake` is the number of engine partitions. Raises `TopicMissing`,
    `BrokerUnreachable`."""
    async with _admin(cluster) as admin:
        found = await _existing(admin, [topic])
    if topic not in found:
        raise TopicMissing(topic, str(cluster))
    return found[topic]


async def describe_replicas(cluster: Cluster, topic: str) -> int:
    """How many replicas a topic has. Raises `TopicMissing`, `BrokerUnreachable`."""
    async with _admin(cluster) as admin:
        found = await _describe(admin, [topic])
    if not found:
        raise TopicMissing(topic, str(cluster))
    return len(found[0]["partitions"][0]["replicas"])


async def delete_hub(cluster: Cluster) -> None:
    """Delete every topic of a hub, with all that is on it; returns when they are gone. Raises `TopicRefused`,
    `BrokerUnreachable`."""
    async with _admin(cluster) as admin:
        names = {name for name in await admin.list_topics() if name.startswith(PREFIX)}
        if not names:
            return
        for name, code, *message in (await admin.delete_topics(sorted(names))).topic_error_codes:
            if code and code != ErrorCode.UNKNOWN_TOPIC_OR_PARTITION:
                raise TopicRefused(name, "delete", code, message[0] if message else None)
        deadline = asyncio.get_running_loop().time() + VISIBLE_SECONDS
        while left := names.intersection(await admin.list_topics()):
            if asyncio.get_running_loop().time() > deadline:
                raise ConnectionLost(f"{', '.join(sorted(left))} are still there {VISIBLE_SECONDS:g} s after they were deleted.")
            await asyncio.sleep(0.02)


async def delete_records(cluster: Cluster, topic: str, partition: int, before: int) -> None:
    """Delete the records of a partition before an offset; returns when the leader has. Records that are gone already are not an
    error. Raises `BrokerUnreachable`, `TopicRefused`."""
    async with _admin(cluster) as admin:
        place = AdminPartition(topic, partition)
        try:
            await admin.delete_records({place: RecordsToDelete(before_offset=before)})
        except OffsetOutOfRangeError:
            return
        except KafkaConnectionError as failure:
            raise BrokerUnreachable(str(cluster), str(failure)) from None
        except KafkaError as refused:
            raise TopicRefused(topic, "delete records of", refused.errno, str(refused)) from refused


async def list_pools(cluster: Cluster) -> list[str]:
    """The pools that have a commands topic, sorted. Raises `BrokerUnreachable`."""
    async with _admin(cluster) as admin:
        return await _pools(admin)


async def describe_setting(cluster: Cluster, topic: str, setting: str) -> str:
    """The value of one setting of a topic. Raises `TopicRefused`, `BrokerUnreachable`."""
    async with _admin(cluster) as admin:
        return (await describe_configs(admin, {topic: [setting]}))[topic][setting]


# --- steps


def _override(spec: TopicSpec, overrides: Mapping[str, Mapping[str, str]]) -> TopicSpec:
    kind = COMMANDS_PREFIX if spec.name.startswith(COMMANDS_PREFIX) else spec.name
    asked_for = overrides.get(kind, {})
    return spec._replace(config={**spec.config, **asked_for}, asked_for=asked_for)


async def _pools(admin: AIOKafkaAdminClient) -> list[str]:
    names = await admin.list_topics()
    return sorted(name.removeprefix(COMMANDS_PREFIX) for name in names if name.startswith(COMMANDS_PREFIX))


@asynccontextmanager
async def _admin(cluster: Cluster) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = make_admin(cluster)
    try:
        try:
            await admin.start()
        except (KafkaConnectionError, OSError) as failure:
            raise BrokerUnreachable(str(cluster), str(failure)) from None
        yield admin
    except KafkaError as failure:
        raise ConnectionLost(f"{cluster} did not answer a request about topics: {failure!r}.") from failure
    finally:
        await admin.close()


async def _ensure(admin: AIOKafkaAdminClient, cluster: Cluster, specs: list[TopicSpec]) -> Ensured:
    existing = await _existing(admin, [spec.name for spec in specs])
    present = [spec for spec in specs if spec.name in existing]
    _check_partitions(present, existing)
    altered, kept = await _settle(admin, cluster, present)
    missing = [spec for spec in specs if spec.name not in existing]
    if not missing:
        return Ensured([], altered, kept)
    created = await _create(admin, missing)
    raced = [spec for spec in missing if spec.name not in created]
    await _wait_for_leaders(admin, cluster, missing)
    _check_partitions(raced, await _existing(admin, [spec.name for spec in raced]))
    raced_altered, raced_kept = await _settle(admin, cluster, raced)
    return Ensured(created, altered + raced_altered, kept + raced_kept)


async def _settle(
    admin: AIOKafkaAdminClient, cluster: Cluster, specs: list[TopicSpec]
) -> tuple[list[TopicChange], list[TopicChange]]:
    """Compare the settings of topics that exist, and alter what has to be altered."""
    found = await describe_configs(admin, {spec.name: spec.config for spec in specs})
    compared = [compare(spec.name, found[spec.name], spec.config, spec.asked_for) for spec in specs]
    to_alter = [change for one in compared for change in one.to_alter]
    if to_alter:
        await alter(cluster, to_alter)
    return to_alter, [change for one in compared for change in one.kept]


async def _existing(admin: AIOKafkaAdminClient, names: list[str]) -> dict[str, int]:
    """Number of partitions by name, of those that exist."""
    return {topic["topic"]: len(topic["partitions"]) for topic in await _describe(admin, names)}


async def _describe(admin: AIOKafkaAdminClient, names: list[str]) -> list[dict[str, Any]]:
    if not names:
        return []
    topics = await admin.describe_topics(names)
    return [topic for topic in topics if topic["error_code"] != ErrorCode.UNKNOWN_TOPIC_OR_PARTITION and topic["partitions"]]


def _check_partitions(specs: list[TopicSpec], existing: Mapping[str, int]) -> None:
    for name, wanted, *_ in specs:
        found = existing[name]
        if found != wanted:
            raise TopicMismatch(
                name,
                "partitions",
                str(found),
                str(wanted),
                "The number is fixed when a hub is made, because ids are spread over it: "
                f"run with partitions = {found}, or delete the hub's topics and start over."
                if not name.startswith((REPLIES, COMMANDS_PREFIX))
                else "Delete the topic while no hub runs; it is created again.",
            )


async def _create(admin: AIOKafkaAdminClient, specs: list[TopicSpec]) -> list[str]:
    """The names of those that were made by us; others made the rest meanwhile."""
    replicas, durable = durability(len((await admin.describe_cluster())["brokers"]))
    topics = [NewTopic(s.name, s.partitions, replicas, topic_configs={**s.config, **durable}) for s in specs]
    answer = await admin.create_topics(topics)
    created = []
    for name, code, *message in answer.topic_errors:
        if code == 0:
            created.append(name)
        elif code != ErrorCode.TOPIC_ALREADY_EXISTS:
            raise TopicRefused(name, "create", code, message[0] if message else None)
    return created


def durability(brokers: int) -> tuple[int, dict[str, str]]:
    """Replicas of a new topic in a cluster of this size, and the settings that go with it."""
    replicas = min(3, brokers)
    return replicas, {"min.insync.replicas": "2"} if replicas == 3 else {}


async def _wait_for_leaders(admin: AIOKafkaAdminClient, cluster: Cluster, specs: list[TopicSpec]) -> None:
    """Until every partition is known with a leader, so that nobody meets a half-made topic."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + VISIBLE_SECONDS
    names = [spec.name for spec in specs]
    while True:
        topics = await _describe(admin, names)
        led = [t["topic"] for t in topics if all(p["leader"] >= 0 for p in t["partitions"])]
        if len(led) == len(names):
            return
        if loop.time() > deadline:
            waiting = ", ".join(sorted(set(names) - set(led)))
            raise BrokerUnreachable(str(cluster), f"{waiting} had no leader {VISIBLE_SECONDS:g} s after it was created")
        await asyncio.sleep(0.02)

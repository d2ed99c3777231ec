"""The hub's topics as data, and the operations on them: create missing topics, alter or reject wrong settings.

Only this module creates topics; clients do not auto-create them.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
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
SUBSCRIBERS = "hub.subscribers"
REPLY_PARTITIONS = 8
DEFAULT_POOL = "default"
CLUSTER_PARTITIONS = 16
"""Default number of engine partitions of a new hub on a cluster, and so the most engine processes."""
VISIBLE_SECONDS = 10.0
"""Timeout until every partition of a new topic has a leader."""

_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS
TOMBSTONES_MS = _DAY_MS
"""How long compaction retains tombstones in `hub.state` at least: a reader with less lag misses none."""
DEAD_LETTER_BYTES = 64 * 1024
"""By how many bytes a dead letter may exceed its event, for headers with the reason."""
NO_OVERRIDES: Mapping[str, Mapping[str, str]] = {}
NO_CONFIG: Mapping[str, str] = {}


class TopicSpec(NamedTuple):
    """The required properties of a topic. `asked_for`: the settings in `config` that are configured explicitly."""

    name: str
    partitions: int
    config: Mapping[str, str]
    asked_for: Mapping[str, str] = {}


class Ensured(NamedTuple):
    """Result of `ensure_topics`: created topics, altered settings, and settings that differ from the defaults and were
    kept."""

    created: list[str]
    altered: list[TopicChange]
    kept: list[TopicChange]


def commands_topic(pool: str) -> str:
    """Name of the topic with the inboxes of the workers of a pool."""
    return COMMANDS_PREFIX + pool


def dlq_topic(subscriber: str) -> str:
    """Name of the dead-letter topic of a subscriber."""
    return DLQ_PREFIX + subscriber


def _spec(name: str, partitions: int, cleanup: str, **config: int) -> TopicSpec:
    settings = {"cleanup.policy": cleanup, "max.message.bytes": BATCH_BYTES_MAX, **config}
    return TopicSpec(name, partitions, {key.replace("_", "."): str(value) for key, value in settings.items()})


def hub_topics(partitions: int, *, pools: Iterable[str] = (DEFAULT_POOL,), subscribers: Iterable[str] = ()) -> list[TopicSpec]:
    """All topics of a hub with this number of engine partitions.

    `hub.intake` has no retention: the engine deletes records some time after it processed them. `hub.state` has small segments
    and is compacted early, because a restart reads all of it."""
    return [
        _spec(INTAKE, partitions, "delete", retention_ms=-1, retention_bytes=-1),
        _spec(EVENTS, partitions, "delete", retention_ms=30 * _DAY_MS),
        _spec(
            STATE, partitions, "compact", segment_bytes=8 << 20, max_compaction_lag_ms=600_000, delete_retention_ms=TOMBSTONES_MS
        ),
        _spec(REPLIES, REPLY_PARTITIONS, "delete", retention_ms=_HOUR_MS),
        *(pool_topic(pool) for pool in pools),
        *(dlq_spec(subscriber, partitions) for subscriber in subscribers),
    ]


def pool_topic(pool: str) -> TopicSpec:
    """Specification of the commands topic of a pool."""
    return _spec(commands_topic(pool), INBOX_PARTITIONS, "delete", retention_ms=_DAY_MS)


def dlq_spec(subscriber: str, partitions: int) -> TopicSpec:
    """Specification of the dead-letter topic of a subscriber."""
    bytes_max = BATCH_BYTES_MAX + DEAD_LETTER_BYTES
    return _spec(dlq_topic(subscriber), partitions, "delete", retention_ms=14 * _DAY_MS, max_message_bytes=bytes_max)


def subscribers_spec() -> TopicSpec:
    """Specification of the topic of control records and state of subscribers. It has one partition, read from its beginning."""
    return _spec(
        SUBSCRIBERS, 1, "compact", segment_bytes=64 << 20, max_compaction_lag_ms=_HOUR_MS, delete_retention_ms=TOMBSTONES_MS
    )


async def ensure_topics(
    cluster: Cluster,
    *,
    partitions: int,
    pools: Iterable[str] = (DEFAULT_POOL,),
    subscribers: Iterable[str] = (),
    overrides: Mapping[str, Mapping[str, str]] = NO_OVERRIDES,
) -> Ensured:
    """Create missing topics of a hub and check existing ones. Safe to run at any time and concurrently.

    `overrides`: settings by topic (COMMANDS_PREFIX: of every pool), for new and existing topics. Raises `TopicMismatch` (an
    existing topic is incompatible; nothing was created), `TopicRefused`, `BrokerUnreachable`."""
    async with _admin(cluster) as admin:
        known = await _pools(admin) if COMMANDS_PREFIX in overrides else []
        specs = hub_topics(partitions, pools=dict.fromkeys([*pools, *known]), subscribers=subscribers)
        return await _ensure(admin, cluster, [_override(spec, overrides) for spec in specs])


async def ensure_hub(
    cluster: Cluster, partitions: int | None = None, overrides: Mapping[str, Mapping[str, str]] = NO_OVERRIDES
) -> Ensured:
    """`ensure_topics`; without a number of partitions, that of the existing hub, or CLUSTER_PARTITIONS for a new one."""
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
    """Create the dead-letter topic of a subscriber if it is missing, with as many partitions as the topic `events`. An
    existing topic keeps its partitions and its settings, except those in `config`. Raises as `ensure_topics` does, and
    `TopicMissing` if the topic `events` does not exist."""
    partitions = await describe_partitions(cluster, events)
    async with _admin(cluster) as admin:
        spec = dlq_spec(subscriber, partitions)
        existing = await _existing(admin, [spec.name])
        if (
            spec.name in existing
        ):  # other settings are the operator's choice: dead letters are truncated to the size that it accepts
            spec = spec._replace(partitions=existing[spec.name], config={})
        await _ensure(admin, cluster, [_override(spec, {spec.name: config})])


async def ensure_subscribers(cluster: Cluster) -> None:
    """Create the topic `hub.subscribers` if it is missing: it is created with its first record. Raises as `ensure_topics`
    does."""
    async with _admin(cluster) as admin:
        await _ensure(admin, cluster, [subscribers_spec()])


async def describe_partitions(cluster: Cluster, topic: str = INTAKE) -> int:
    """The number of partitions of a topic; for `hub.intake` that of engine partitions. Raises `TopicMissing`,
    `BrokerUnreachable`."""
    async with _admin(cluster) as admin:
        found = await _existing(admin, [topic])
    if topic not in found:
        raise TopicMissing(topic, str(cluster))
    return found[topic]


async def describe_replicas(cluster: Cluster, topic: str) -> int:
    """The replication factor of a topic. Raises `TopicMissing`, `BrokerUnreachable`."""
    async with _admin(cluster) as admin:
        found = await _describe(admin, [topic])
    if not found:
        raise TopicMissing(topic, str(cluster))
    return len(found[0]["partitions"][0]["replicas"])


async def delete_hub(cluster: Cluster) -> None:
    """Delete all topics of a hub with their data, and wait until they are deleted. Raises `TopicRefused`, `ConnectionLost`,
    `BrokerUnreachable`."""
    async with _admin(cluster) as admin:
        names = {name for name in await admin.list_topics() if name.startswith(PREFIX)}
        if not names:
            return
        await _delete(admin, sorted(names))
        deadline = asyncio.get_running_loop().time() + VISIBLE_SECONDS
        while left := names.intersection(await admin.list_topics()):
            if asyncio.get_running_loop().time() > deadline:
                raise ConnectionLost(f"Topics {', '.join(sorted(left))} still exist {VISIBLE_SECONDS:g} s after their deletion.")
            await asyncio.sleep(0.02)


async def delete_topic(cluster: Cluster, topic: str) -> None:
    """Delete a topic with its data, if it exists. Raises `TopicRefused`, `ConnectionLost`, `BrokerUnreachable`."""
    async with _admin(cluster) as admin:
        await _delete(admin, [topic])


async def _delete(admin: AIOKafkaAdminClient, names: Sequence[str]) -> None:
    for name, code, *message in (await admin.delete_topics(list(names))).topic_error_codes:
        if code and code != ErrorCode.UNKNOWN_TOPIC_OR_PARTITION:
            raise TopicRefused(name, "delete", code, message[0] if message else None)


async def delete_records(cluster: Cluster, topic: str, partition: int, before: int) -> None:
    """Delete the records of a partition before offset `before`; returns when the leader has deleted them. Not an error if they
    are deleted already. Raises `BrokerUnreachable`, `TopicRefused`."""
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


async def list_topics(cluster: Cluster, prefix: str = PREFIX) -> list[str]:
    """The topics whose names start with `prefix`, sorted. Raises `BrokerUnreachable`."""
    async with _admin(cluster) as admin:
        return sorted(name for name in await admin.list_topics() if name.startswith(prefix))


async def list_pools(cluster: Cluster) -> list[str]:
    """The pools that have a commands topic, sorted. Raises `BrokerUnreachable`."""
    async with _admin(cluster) as admin:
        return await _pools(admin)


async def describe_setting(cluster: Cluster, topic: str, setting: str) -> str:
    """The value of one setting of a topic. Raises `TopicRefused`, `BrokerUnreachable`."""
    async with _admin(cluster) as admin:
        return (await describe_configs(admin, {topic: [setting]}))[topic][setting]


# --- parts


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
        raise ConnectionLost(f"{cluster} did not respond to a request about topics: {failure!r}.") from failure
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
    """Compare the settings of existing topics, and alter them where necessary."""
    found = await describe_configs(admin, {spec.name: spec.config for spec in specs})
    compared = [compare(spec.name, found[spec.name], spec.config, spec.asked_for) for spec in specs]
    to_alter = [change for one in compared for change in one.to_alter]
    if to_alter:
        await alter(cluster, to_alter)
    return to_alter, [change for one in compared for change in one.kept]


async def _existing(admin: AIOKafkaAdminClient, names: list[str]) -> dict[str, int]:
    """Number of partitions by name of the topics that exist."""
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
                "The number of partitions of a hub cannot change, because task ids are hashed to them: "
                f"set partitions = {found}, or delete the hub's topics and start over."
                if not name.startswith((REPLIES, COMMANDS_PREFIX))
                else "Delete the topic while no hub is running; it will be recreated.",
            )


async def _create(admin: AIOKafkaAdminClient, specs: list[TopicSpec]) -> list[str]:
    """Create topics; returns the names of those created here. Other processes may have created the rest."""
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
    """Replication factor of a new topic in a cluster with this number of brokers, and the matching settings."""
    replicas = min(3, brokers)
    return replicas, {"min.insync.replicas": "2"} if replicas == 3 else {}


async def _wait_for_leaders(admin: AIOKafkaAdminClient, cluster: Cluster, specs: list[TopicSpec]) -> None:
    """Wait until every partition has a leader, so that no client uses an incomplete topic."""
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
            raise BrokerUnreachable(str(cluster), f"{waiting} has no leader {VISIBLE_SECONDS:g} s after its creation")
        await asyncio.sleep(0.02)

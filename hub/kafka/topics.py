"""The hub's topics as data, and the operations that make them: create what is missing, refuse what is there but wrong.

Topics are made here and nowhere else; no client creates one by using it.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaConnectionError

from .clients import make_admin
from .codec import BATCH_BYTES_MAX
from .errors import BrokerUnreachable, TopicMismatch, TopicMissing, TopicRefused
from .partition import INBOX_PARTITIONS

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
CHECKED = ("cleanup.policy", "max.message.bytes", "delete.retention.ms")
"""Settings of existing topics that must be as wanted, where a topic names them; the others are the operator's to change."""
AT_LEAST = ("max.message.bytes", "delete.retention.ms")
"""Those of them that may be larger."""
_TOPIC_ALREADY_EXISTS = 36
_UNKNOWN_TOPIC = 3


class TopicSpec(NamedTuple):
    """What a topic has to be."""

    name: str
    partitions: int
    config: Mapping[str, str]


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
    return _spec(dlq_topic(subscriber), partitions, "delete", retention_ms=14 * _DAY_MS)


async def ensure_topics(
    bootstrap: str,
    *,
    partitions: int,
    pools: Iterable[str] = (DEFAULT_POOL,),
    subscribers: Iterable[str] = (),
    retention_ms: Mapping[str, int] | None = None,
) -> list[str]:
    """Create the missing topics of a hub and check those that exist; returns the names of the created ones. May run
    anywhere, any time.

    `retention_ms` by topic name overrides the retention of topics that are created. Raises `TopicMismatch` (an existing
    topic cannot be worked with; nothing was created), `TopicRefused`, `BrokerUnreachable`."""
    specs = [_retain(spec, retention_ms or {}) for spec in hub_topics(partitions, pools=pools, subscribers=subscribers)]
    async with _admin(bootstrap) as admin:
        return await _ensure(admin, bootstrap, specs)


async def ensure_hub(bootstrap: str, partitions: int | None = None) -> list[str]:
    """`ensure_topics` with the number of partitions that the hub has (a new one: CLUSTER_PARTITIONS) where none is asked for."""
    if partitions is None:
        try:
            partitions = await describe_partitions(bootstrap)
        except TopicMissing:
            partitions = CLUSTER_PARTITIONS
    return await ensure_topics(bootstrap, partitions=partitions)


async def ensure_pool(bootstrap: str, pool: str) -> None:
    """Create the commands topic of a pool if it is missing. Raises as `ensure_topics` does."""
    async with _admin(bootstrap) as admin:
        await _ensure(admin, bootstrap, [pool_topic(pool)])


async def ensure_dlq(bootstrap: str, subscriber: str) -> None:
    """Create the dead-letter topic of a subscriber if it is missing. Raises as `ensure_topics` does, and
    `TopicMissing`."""
    partitions = await describe_partitions(bootstrap)
    async with _admin(bootstrap) as admin:
        await _ensure(admin, bootstrap, [dlq_spec(subscriber, partitions)])


async def describe_partitions(bootstrap: str) -> int:
    """The number of engine partitions of an existing hub. Raises `TopicMissing`, `BrokerUnreachable`."""
    async with _admin(bootstrap) as admin:
        found = await _existing(admin, [INTAKE])
    if INTAKE not in found:
        raise TopicMissing(INTAKE, bootstrap)
    return found[INTAKE]


async def list_pools(bootstrap: str) -> list[str]:
    """The pools that have a commands topic, sorted. Raises `BrokerUnreachable`."""
    async with _admin(bootstrap) as admin:
        names = await admin.list_topics()
    return sorted(name.removeprefix(COMMANDS_PREFIX) for name in names if name.startswith(COMMANDS_PREFIX))


# --- steps


def _retain(spec: TopicSpec, retention_ms: Mapping[str, int]) -> TopicSpec:
    if spec.name not in retention_ms:
        return spec
    return spec._replace(config={**spec.config, "retention.ms": str(retention_ms[spec.name])})


@asynccontextmanager
async def _admin(bootstrap: str) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = make_admin(bootstrap)
    try:
        try:
            await admin.start()
        except (KafkaConnectionError, OSError) as failure:
            raise BrokerUnreachable(bootstrap, str(failure)) from failure
        yield admin
    finally:
        await admin.close()


async def _ensure(admin: AIOKafkaAdminClient, bootstrap: str, specs: list[TopicSpec]) -> list[str]:
    existing = await _existing(admin, [spec.name for spec in specs])
    present = [spec for spec in specs if spec.name in existing]
    _check_partitions(present, existing)
    await _check_settings(admin, present)
    missing = [spec for spec in specs if spec.name not in existing]
    if not missing:
        return []
    created = await _create(admin, missing)
    raced = [spec for spec in missing if spec.name not in created]
    await _wait_for_leaders(admin, bootstrap, missing)
    _check_partitions(raced, await _existing(admin, [spec.name for spec in raced]))
    await _check_settings(admin, raced)
    return created


async def _existing(admin: AIOKafkaAdminClient, names: list[str]) -> dict[str, int]:
    """Number of partitions by name, of those that exist."""
    return {topic["topic"]: len(topic["partitions"]) for topic in await _describe(admin, names)}


async def _describe(admin: AIOKafkaAdminClient, names: list[str]) -> list[dict[str, Any]]:
    if not names:
        return []
    topics = await admin.describe_topics(names)
    return [topic for topic in topics if topic["error_code"] != _UNKNOWN_TOPIC and topic["partitions"]]


def _check_partitions(specs: list[TopicSpec], existing: Mapping[str, int]) -> None:
    for name, wanted, _ in specs:
        found = existing[name]
        if found != wanted:
            raise TopicMismatch(
                name,
                "partitions",
                str(found),
                str(wanted),
                "The number is fixed when a hub is made, because ids are spread over it: "
                f"run with partitions = {found}, or delete the hub's topics and start anew."
                if not name.startswith((REPLIES, COMMANDS_PREFIX))
                else "Delete the topic while no hub runs; it is made anew.",
            )


async def _check_settings(admin: AIOKafkaAdminClient, specs: list[TopicSpec]) -> None:
    if not specs:
        return
    resources = [ConfigResource(ConfigResourceType.TOPIC, spec.name, dict.fromkeys(CHECKED)) for spec in specs]
    found: dict[str, dict[str, str]] = {}
    for answer in await admin.describe_configs(resources):
        for code, message, _type, name, entries in answer.resources:
            if code:
                raise TopicRefused(name, "describe", code, message)
            found[name] = {entry[0]: entry[1] for entry in entries}
    for spec in specs:
        for setting in CHECKED:
            if setting in spec.config:
                _check_setting(spec.name, setting, found[spec.name][setting], spec.config[setting])


def _check_setting(topic: str, setting: str, found: str, wanted: str) -> None:
    fits = int(found) >= int(wanted) if setting in AT_LEAST else found == wanted
    if not fits:
        change = f"--entity-type topics --entity-name {topic} --add-config {setting}={wanted}"
        remedy = f"Set it: kafka-configs.sh --alter {change}"
        raise TopicMismatch(topic, setting, found, wanted, remedy)


async def _create(admin: AIOKafkaAdminClient, specs: list[TopicSpec]) -> list[str]:
    """The names of those that were made by us; others made the rest meanwhile."""
    replicas, durable = durability(len((await admin.describe_cluster())["brokers"]))
    topics = [NewTopic(s.name, s.partitions, replicas, topic_configs={**s.config, **durable}) for s in specs]
    answer = await admin.create_topics(topics)
    created = []
    for name, code, *message in answer.topic_errors:
        if code == 0:
            created.append(name)
        elif code != _TOPIC_ALREADY_EXISTS:
            raise TopicRefused(name, "create", code, message[0] if message else None)
    return created


def durability(brokers: int) -> tuple[int, dict[str, str]]:
    """Replicas of a new topic in a cluster of this size, and the settings that go with it."""
    replicas = min(3, brokers)
    return replicas, {"min.insync.replicas": "2"} if replicas == 3 else {}


async def _wait_for_leaders(admin: AIOKafkaAdminClient, bootstrap: str, specs: list[TopicSpec]) -> None:
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
            raise BrokerUnreachable(bootstrap, f"{waiting} had no leader {VISIBLE_SECONDS:g} s after it was created")
        await asyncio.sleep(0.02)

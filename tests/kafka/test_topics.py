"""The hub's topics: created if missing, rejected if incompatible."""

import asyncio

import pytest
from aiokafka.admin import NewTopic

from hub.kafka import (
    TOMBSTONES_MS,
    Cluster,
    TopicMismatch,
    TopicMissing,
    describe_partitions,
    describe_setting,
    ensure_dlq,
    ensure_pool,
    ensure_topics,
    hub_topics,
    list_pools,
    make_admin,
)
from hub.kafka.topics import durability

WANTED = {
    "hub.intake": 4,
    "hub.events": 4,
    "hub.state": 4,
    "hub.replies": 8,
    "hub.commands.default": 16,
    "hub.commands.gpu": 16,
    "hub.dlq.console": 4,
}


async def create(bootstrap: str, name: str, partitions: int, **config: str) -> None:
    """Create a topic, and wait until the broker shows it (a busy one takes a moment)."""
    admin = make_admin(Cluster.of(bootstrap))
    try:
        await admin.start()
        settings = {key.replace("_", "."): value for key, value in config.items()}
        await admin.create_topics([NewTopic(name, partitions, 1, topic_configs=settings)])
        async with asyncio.timeout(60):
            while name not in await admin.list_topics():
                await asyncio.sleep(0.01)
    finally:
        await admin.close()


def test_every_topic_takes_batches_of_eight_mebibytes() -> None:
    assert {spec.config["max.message.bytes"] for spec in hub_topics(4)} == {str(8 << 20)}
    (dead_letters,) = [spec for spec in hub_topics(4, subscribers=["x"]) if spec.name == "hub.dlq.x"]
    assert dead_letters.config["max.message.bytes"] == str((8 << 20) + 65_536), "an event of any size, and why it is there"


def test_only_the_changelog_is_compacted_and_only_the_intake_kept_for_ever() -> None:
    specs = {spec.name: spec.config for spec in hub_topics(4, subscribers=["x"])}
    assert [name for name, config in specs.items() if config["cleanup.policy"] == "compact"] == ["hub.state"]
    assert [name for name, config in specs.items() if config.get("retention.ms") == "-1"] == ["hub.intake"]


def test_deletions_stay_in_the_changelog_for_a_day_because_snapshots_count_on_it() -> None:
    specs = {spec.name: spec.config for spec in hub_topics(4, subscribers=["x"])}
    assert [(name, config["delete.retention.ms"]) for name, config in specs.items() if "delete.retention.ms" in config] == [
        ("hub.state", str(TOMBSTONES_MS))
    ]
    assert TOMBSTONES_MS == 24 * 3_600_000


@pytest.mark.parametrize(
    ("brokers", "wanted"),
    [(1, (1, {})), (2, (2, {})), (3, (3, {"min.insync.replicas": "2"})), (9, (3, {"min.insync.replicas": "2"}))],
)
def test_three_brokers_or_more_keep_three_replicas_of_which_two_must_answer(
    brokers: int, wanted: tuple[int, dict[str, str]]
) -> None:
    assert durability(brokers) == wanted


async def test_missing_topics_are_created_once(empty_bootstrap: str) -> None:
    created = await ensure_topics(Cluster.of(empty_bootstrap), partitions=4, pools=["default", "gpu"], subscribers=["console"])
    assert created == (list(WANTED), [], [])
    again = await ensure_topics(Cluster.of(empty_bootstrap), partitions=4, pools=["default", "gpu"], subscribers=["console"])
    assert again == ([], [], [])
    admin = make_admin(Cluster.of(empty_bootstrap))
    try:
        await admin.start()
        found = {t["topic"]: len(t["partitions"]) for t in await admin.describe_topics(list(WANTED))}
    finally:
        await admin.close()
    assert found == WANTED
    assert await describe_partitions(Cluster.of(empty_bootstrap)) == 4
    assert await list_pools(Cluster.of(empty_bootstrap)) == ["default", "gpu"]


async def test_pools_and_dead_letters_can_be_added_later(empty_bootstrap: str) -> None:
    await ensure_topics(Cluster.of(empty_bootstrap), partitions=1)
    for _ in range(2):
        await ensure_pool(Cluster.of(empty_bootstrap), "late")
        await ensure_dlq(Cluster.of(empty_bootstrap), "slack")
    assert await list_pools(Cluster.of(empty_bootstrap)) == ["default", "late"]


async def test_dead_letters_have_the_partitions_of_the_events_and_keep_them(empty_bootstrap: str) -> None:
    cluster = Cluster.of(empty_bootstrap)
    await ensure_topics(cluster, partitions=2)
    await ensure_dlq(cluster, "slack", config={"retention.ms": "600000"})
    await ensure_dlq(cluster, "slack", events="hub.replies", config={"retention.ms": "700000"})
    assert await describe_partitions(cluster, "hub.dlq.slack") == 2
    assert await describe_setting(cluster, "hub.dlq.slack", "retention.ms") == "700000"
    with pytest.raises(TopicMissing, match="nowhere"):
        await ensure_dlq(cluster, "mail", events="nowhere")


async def test_another_number_of_partitions_is_refused_with_the_remedy(empty_bootstrap: str) -> None:
    await ensure_topics(Cluster.of(empty_bootstrap), partitions=1)
    with pytest.raises(
        TopicMismatch, match=r"hub\.intake has partitions = 1, but the hub requires 4.*partitions = 1"
    ) as mismatch:
        await ensure_topics(Cluster.of(empty_bootstrap), partitions=4)
    assert (mismatch.value.topic, mismatch.value.setting, mismatch.value.found, mismatch.value.wanted) == (
        "hub.intake",
        "partitions",
        "1",
        "4",
    )


@pytest.mark.parametrize(
    ("name", "partitions", "config", "setting"),
    [
        ("hub.state", 1, {"cleanup_policy": "delete", "max_message_bytes": str(8 << 20)}, "cleanup.policy"),
        ("hub.commands.default", 3, {"max_message_bytes": str(8 << 20)}, "partitions"),
    ],
)
async def test_wrong_settings_of_an_existing_topic_are_refused_and_nothing_is_created(
    empty_bootstrap: str, name: str, partitions: int, config: dict[str, str], setting: str
) -> None:
    await create(empty_bootstrap, name, partitions, **config)
    with pytest.raises(TopicMismatch) as mismatch:
        await ensure_topics(Cluster.of(empty_bootstrap), partitions=1)
    assert (mismatch.value.topic, mismatch.value.setting) == (name, setting)
    assert mismatch.value.remedy
    with pytest.raises(TopicMissing):
        await describe_partitions(Cluster.of(empty_bootstrap))


async def settings_of(bootstrap: str, topic: str, *names: str) -> tuple[str, ...]:
    """The values of some settings of a topic."""
    return tuple([await describe_setting(Cluster.of(bootstrap), topic, name) for name in names])


async def altered(bootstrap: str, topic: str, **wanted: str) -> None:
    """Wait until the broker shows these settings: it answers before it has applied them."""
    names = [name.replace("_", ".") for name in wanted]
    async with asyncio.timeout(60):
        while await settings_of(bootstrap, topic, *names) != tuple(wanted.values()):
            await asyncio.sleep(0.01)


async def test_what_is_too_small_is_raised_since_nothing_is_lost_by_it(empty_bootstrap: str) -> None:
    await create(empty_bootstrap, "hub.events", 1, max_message_bytes="1000000", retention_ms="1000000")
    size = {"cleanup_policy": "compact", "max_message_bytes": str(8 << 20)}
    await create(empty_bootstrap, "hub.state", 1, **size, delete_retention_ms="3600000")
    ensured = await ensure_topics(Cluster.of(empty_bootstrap), partitions=1)
    assert {str(change) for change in ensured.altered} == {
        "hub.events: max.message.bytes = 8388608 (was 1000000)",
        "hub.state: delete.retention.ms = 86400000 (was 3600000)",
    }
    assert ("hub.events", "retention.ms", "1000000", str(30 * 86_400_000)) in ensured.kept
    await altered(empty_bootstrap, "hub.events", max_message_bytes=str(8 << 20), retention_ms="1000000")
    await altered(empty_bootstrap, "hub.state", delete_retention_ms="86400000", cleanup_policy="compact")
    assert (await ensure_topics(Cluster.of(empty_bootstrap), partitions=1)).altered == []


async def test_larger_batches_and_other_retention_are_the_operators_choice(empty_bootstrap: str) -> None:
    await create(empty_bootstrap, "hub.events", 1, max_message_bytes=str(16 << 20), retention_ms="1000000")
    ensured = await ensure_topics(Cluster.of(empty_bootstrap), partitions=1)
    assert "hub.events" not in ensured.created
    assert (ensured.altered, [one.setting for one in ensured.kept]) == ([], ["retention.ms"])


async def test_what_is_configured_holds_for_new_topics_and_for_those_that_exist(empty_bootstrap: str) -> None:
    await ensure_topics(Cluster.of(empty_bootstrap), partitions=1, pools=["default", "gpu"])
    overrides = {
        "hub.events": {"retention.bytes": "4194304", "segment.bytes": "1048576"},
        "hub.commands.": {"retention.ms": "60000"},
        "hub.state": {"delete.retention.ms": "60000"},
    }
    ensured = await ensure_topics(Cluster.of(empty_bootstrap), partitions=1, overrides=overrides)
    assert {(one.topic, one.setting, one.wanted) for one in ensured.altered} == {
        ("hub.events", "retention.bytes", "4194304"),
        ("hub.events", "segment.bytes", "1048576"),
        ("hub.commands.default", "retention.ms", "60000"),
        ("hub.commands.gpu", "retention.ms", "60000"),
        ("hub.state", "delete.retention.ms", "60000"),
    }
    await altered(empty_bootstrap, "hub.events", retention_bytes="4194304", retention_ms=str(30 * 86_400_000))
    await altered(empty_bootstrap, "hub.state", delete_retention_ms="60000")
    assert (await ensure_topics(Cluster.of(empty_bootstrap), partitions=1, overrides=overrides)).altered == []
    await ensure_pool(Cluster.of(empty_bootstrap), "late", overrides)
    await altered(empty_bootstrap, "hub.commands.late", retention_ms="60000")


async def test_a_broker_without_a_hub_says_so(empty_bootstrap: str) -> None:
    with pytest.raises(TopicMissing, match="hub init"):
        await describe_partitions(Cluster.of(empty_bootstrap))
    assert await list_pools(Cluster.of(empty_bootstrap)) == []

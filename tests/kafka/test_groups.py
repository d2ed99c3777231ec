"""Deleting consumer groups, on both brokers."""

import asyncio

import pytest

from hub.kafka import (
    BrokerUnreachable,
    Cluster,
    GroupMembership,
    GroupRefused,
    commit_offsets,
    delete_groups,
    list_groups,
    make_admin,
    read_committed,
)
from hub.protocol import ErrorCode
from tests.brokers import unique
from tests.ports import free_port

from .test_topics import create


async def test_a_deleted_group_is_gone_with_its_offsets(bootstrap: str) -> None:
    cluster, topic, prefix = Cluster.of(bootstrap), unique("grouped"), unique("group")
    gone, kept, unknown = (f"{prefix}.{name}" for name in ("gone", "kept", "unknown"))
    await create(bootstrap, topic, 1)
    for group in (gone, kept):
        await commit_offsets(cluster, group, topic, {0: 0})
    assert await delete_groups(cluster, [unknown, gone, gone]) == [gone]
    assert await list_groups(cluster, prefix) == [kept]
    assert await read_committed(cluster, gone, topic) == {0: None}
    assert await read_committed(cluster, kept, topic) == {0: 0}
    assert await delete_groups(cluster, [gone]) == []
    await clean(cluster, topic, [kept])


async def test_a_group_with_members_is_not_deleted_and_named(bootstrap: str) -> None:
    cluster, topic, prefix = Cluster.of(bootstrap), unique("grouped"), unique("group")
    used, idle = f"{prefix}.used", f"{prefix}.idle"
    await create(bootstrap, topic, 1)
    await commit_offsets(cluster, idle, topic, {0: 0})
    member = GroupMembership(cluster, used, topic)
    await member.start()
    try:
        async with asyncio.timeout(60):
            await member.joined.wait()
        with pytest.raises(GroupRefused, match=rf"refused to delete group {used}: it has members\.") as refused:
            await delete_groups(cluster, [used, idle])
        assert (refused.value.group, refused.value.code) == (used, ErrorCode.NON_EMPTY_GROUP)
        assert await list_groups(cluster, prefix) == [used], "the other group was deleted"
    finally:
        await member.stop()
    await clean(cluster, topic, [used])


async def test_no_broker_is_an_error_with_its_address() -> None:
    address = f"127.0.0.1:{free_port()}"
    with pytest.raises(BrokerUnreachable, match=address):
        await delete_groups(Cluster.of(address), ["g"])


async def clean(cluster: Cluster, topic: str, groups: list[str]) -> None:
    """Delete what a test has created."""
    await delete_groups(cluster, groups)
    admin = make_admin(cluster)
    await admin.start()
    try:
        await admin.delete_topics([topic])
    finally:
        await admin.close()

"""Describes consumer groups: members, assigned partitions, lag."""

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, NamedTuple

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.structs import TopicPartition as ClientPartition

from .clients import make_admin, make_consumer, started
from .cluster import Cluster


class GroupMember(NamedTuple):
    """A member of a group. `lag` maps each of its partitions to the number of records, markers included, between the committed
    offset and the end of the log; None without a committed offset."""

    client_id: str
    host: str
    lag: Mapping[tuple[str, int], int | None]


class GroupState(NamedTuple):
    """The current state of a consumer group. `state` is Stable, Empty, PreparingRebalance, CompletingRebalance or Dead. `lag` is
    that of all partitions that have a committed offset or a member, also of a group without members."""

    group: str
    state: str
    members: list[GroupMember]
    lag: Mapping[tuple[str, int], int | None]


async def describe_groups(cluster: Cluster, prefix: str) -> list[GroupState]:
    """The groups whose names start with `prefix`, sorted by name. Raises `BrokerUnreachable`, `ConnectionLost`."""
    async with _admin(cluster, prefix) as admin:
        return [await _describe(admin, cluster, name) for name in await _names(admin, prefix)]


async def list_groups(cluster: Cluster, prefix: str) -> list[str]:
    """The names of the groups that start with `prefix`, sorted. Raises as `describe_groups` does."""
    async with _admin(cluster, prefix) as admin:
        return await _names(admin, prefix)


async def _names(admin: AIOKafkaAdminClient, prefix: str) -> list[str]:
    return sorted(name for name, *_ in await admin.list_consumer_groups() if name.startswith(prefix))


def _admin(cluster: Cluster, prefix: str) -> AbstractAsyncContextManager[AIOKafkaAdminClient]:
    admin = make_admin(cluster)
    return started(admin, admin.close, cluster, f"return the groups {prefix}*")


async def _describe(admin: AIOKafkaAdminClient, cluster: Cluster, name: str) -> GroupState:
    (answer,) = await admin.describe_consumer_groups([name])
    _error, _name, state, _type, _protocol, members, *_ = answer.groups[0]
    assigned = {member[0]: _assignment(member[-1]) for member in members}
    partitions = [one for some in assigned.values() for one in some]
    lag = await _lag(admin, cluster, name, partitions)
    described = [
        GroupMember(client_id, host, {(one.topic, one.partition): lag[one.topic, one.partition] for one in assigned[member_id]})
        for member_id, client_id, host, *_ in _without_instance(members)
    ]
    return GroupState(name, state, described, lag)


def _without_instance(members: list[Any]) -> list[tuple[str, str, str]]:
    """(member id, client id, host) per member; later versions of the response also have an instance id."""
    return [(m[0], m[-4], m[-3]) for m in members]


def _assignment(data: bytes) -> list[ClientPartition]:
    if not data:
        return []
    decoded = ConsumerProtocolMemberAssignment.decode(data)
    return [ClientPartition(topic, partition) for topic, partitions in decoded.assignment for partition in partitions]


async def _lag(
    admin: AIOKafkaAdminClient, cluster: Cluster, group: str, assigned: list[ClientPartition]
) -> dict[tuple[str, int], int | None]:
    committed = {one: at.offset for one, at in (await admin.list_consumer_group_offsets(group)).items() if at.offset >= 0}
    if not committed and not assigned:
        return {}
    partitions = {*committed, *assigned}
    consumer = make_consumer(cluster)
    try:
        await consumer.start()
        ends = await consumer.end_offsets(partitions)
    finally:
        await consumer.stop()
    return {(one.topic, one.partition): max(0, ends[one] - committed[one]) if one in committed else None for one in partitions}

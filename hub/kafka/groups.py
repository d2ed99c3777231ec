"""Describes consumer groups: members, assigned partitions, lag. Deletes groups, which aiokafka cannot."""

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import AbstractAsyncContextManager, closing
from typing import Any, NamedTuple

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.structs import TopicPartition as ClientPartition

from ..protocol import ApiKey, ErrorCode, Message
from .clients import make_admin, make_consumer, started
from .cluster import Cluster
from .errors import ConnectionLost, GroupRefused
from .leaders import BrokerConnections

COORDINATOR_SECONDS = 10.0
"""How long a group may be without a coordinator: Kafka elects one, which then loads the group."""
BACKOFF_SECONDS = 0.1
_GROUP = 0
"""Key type of a coordinator: a consumer group."""
_NO_COORDINATOR = frozenset(
    {ErrorCode.COORDINATOR_LOAD_IN_PROGRESS, ErrorCode.COORDINATOR_NOT_AVAILABLE, ErrorCode.NOT_COORDINATOR}
)


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


async def describe_group(cluster: Cluster, group: str) -> GroupState | None:
    """The group with this name; None if there is none. Raises as `describe_groups` does."""
    async with _admin(cluster, group) as admin:
        return await _describe(admin, cluster, group) if group in await _names(admin, group) else None


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


async def delete_groups(cluster: Cluster, groups: Iterable[str]) -> list[str]:
    """Delete groups without members, with their committed offsets. Returns the names of the deleted ones in the given order;
    groups that do not exist are left out.

    Raises `GroupRefused` for the first group that the broker did not delete (it has members, for example) after the others were
    deleted, `BrokerUnreachable`, `ConnectionLost`."""
    deleted: list[str] = []
    refused: list[GroupRefused] = []
    with closing(BrokerConnections(cluster, role="admin")) as brokers:
        for group in dict.fromkeys(groups):
            code = await _delete(brokers, cluster, group)
            if code == ErrorCode.NONE:
                deleted.append(group)
            elif code != ErrorCode.GROUP_ID_NOT_FOUND:
                refused.append(GroupRefused(group, "delete", code))
    if refused:
        raise refused[0]
    return deleted


async def _delete(brokers: BrokerConnections, cluster: Cluster, group: str) -> int:
    """The error code for one group. Waits for its coordinator for up to COORDINATOR_SECONDS."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + COORDINATOR_SECONDS
    while True:
        code = await _delete_once(brokers, cluster, group)
        if code not in _NO_COORDINATOR or loop.time() > deadline:
            return code
        await asyncio.sleep(BACKOFF_SECONDS)


async def _delete_once(brokers: BrokerConnections, cluster: Cluster, group: str) -> int:
    seconds = cluster.request_seconds
    message: Message = {"key_type": _GROUP, "key": group, "coordinator_keys": [group]}
    found = await (await brokers.any()).ask(ApiKey.FIND_COORDINATOR, message, timeout_seconds=seconds)
    coordinator = next(iter(found["coordinators"]), found)  # a list from version 4 on
    if coordinator["error_code"] != ErrorCode.NONE:
        return int(coordinator["error_code"])
    broker = await brokers.at((coordinator["host"], coordinator["port"]))
    answer = await broker.ask(ApiKey.DELETE_GROUPS, {"groups_names": [group]}, timeout_seconds=seconds)
    for result in answer["results"]:
        return int(result["error_code"])
    raise ConnectionLost(f"{broker.connection.address} responded to DeleteGroups without the group {group}.")

"""Settings of topics that exist: compared with what is wanted, altered where that is safe or was asked for, else refused.

Kafka's AlterConfigs replaces every setting of a topic, and aiokafka has no other: this uses IncrementalAlterConfigs (KIP-339).
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from ..protocol import name_of
from . import requests
from .cluster import Cluster
from .connection import connect_any
from .errors import TopicMismatch, TopicRefused

AT_LEAST = ("max.message.bytes", "delete.retention.ms")
"""Settings that may be larger than wanted, and are raised where they are smaller: nothing is lost by it."""
FIXED = "cleanup.policy"
"""Never altered: it decides what the records of a topic are."""


class TopicChange(NamedTuple):
    """A setting of a topic that has, or had, the value `found` where `wanted` is wanted."""

    topic: str
    setting: str
    found: str
    wanted: str

    def __str__(self) -> str:
        return f"{self.topic}: {self.setting} = {self.wanted} (was {self.found})"


class Comparison(NamedTuple):
    """`to_alter`: what was asked for, or must be larger. `kept`: what differs from the default and is left to the operator."""

    to_alter: list[TopicChange]
    kept: list[TopicChange]


def compare(topic: str, found: Mapping[str, str], wanted: Mapping[str, str], asked_for: Mapping[str, str]) -> Comparison:
    """`found` are the settings of a topic, `wanted` those of a new one, `asked_for` those of them that somebody configured.

    Raises TopicMismatch for a cleanup.policy that is not the wanted one."""
    result = Comparison([], [])
    for setting, value in wanted.items():
        present = found.get(setting, value)  # a broker that does not know a setting does not show it
        if present == value:
            continue
        change = TopicChange(topic, setting, present, value)
        if setting == FIXED:
            raise TopicMismatch(topic, setting, present, value, _remedy(change))
        if setting in asked_for or (setting in AT_LEAST and int(present) < int(value)):
            result.to_alter.append(change)
        elif setting not in AT_LEAST:
            result.kept.append(change)
    return result


def _remedy(change: TopicChange) -> str:
    where = f"--entity-type topics --entity-name {change.topic} --add-config {change.setting}={change.wanted}"
    return f"Set it: kafka-configs.sh --alter {where}"


async def describe_configs(admin: AIOKafkaAdminClient, settings: Mapping[str, Iterable[str]]) -> dict[str, dict[str, str]]:
    """The values of the named settings by topic. Raises TopicRefused."""
    if not settings:
        return {}
    resources = [ConfigResource(ConfigResourceType.TOPIC, name, dict.fromkeys(keys)) for name, keys in settings.items()]
    found: dict[str, dict[str, str]] = {}
    for answer in await admin.describe_configs(resources):
        for code, message, _type, name, entries in answer.resources:
            if code:
                raise TopicRefused(name, "describe", code, message)
            found[name] = {entry[0]: entry[1] for entry in entries}
    return found


async def alter(cluster: Cluster, changes: list[TopicChange]) -> None:
    """Make these changes. Raises TopicMismatch where the broker refuses one, BrokerUnreachable, ConnectionLost."""
    wanted: dict[str, dict[str, str]] = {}
    for change in changes:
        wanted.setdefault(change.topic, {})[change.setting] = change.wanted
    connection = await connect_any(cluster, role="admin")
    try:
        answer = await connection.ask(requests.INCREMENTAL_ALTER_CONFIGS, requests.alter_topics_request(wanted))
    finally:
        connection.close()
    refused = {topic: reason for topic, reason in requests.read_alter_topics(answer).items() if reason[0]}
    for change in changes:
        if change.topic in refused:
            code, message = refused[change.topic]
            reason = f"The broker did not alter it: {message or name_of(code)}. {_remedy(change)}"
            raise TopicMismatch(change.topic, change.setting, change.found, change.wanted, reason)

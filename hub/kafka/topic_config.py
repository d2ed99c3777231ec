"""Settings of existing topics: compared with the required ones, and altered if that is safe or configured; otherwise an error.

AlterConfigs, the only request that aiokafka offers, replaces all settings of a topic; this module uses IncrementalAlterConfigs
(KIP-339).
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
"""Settings that may be larger than required, and are increased if they are smaller, which loses no data."""
FIXED = "cleanup.policy"
"""A setting that is never altered, because it decides which records are kept."""


class TopicChange(NamedTuple):
    """A setting of a topic with the value `found` instead of `wanted`."""

    topic: str
    setting: str
    found: str
    wanted: str

    def __str__(self) -> str:
        return f"{self.topic}: {self.setting} = {self.wanted} (was {self.found})"


class Comparison(NamedTuple):
    """`to_alter`: settings that are configured, or must be increased. `kept`: settings that differ from the default and are
    left to the operator."""

    to_alter: list[TopicChange]
    kept: list[TopicChange]


def compare(topic: str, found: Mapping[str, str], wanted: Mapping[str, str], asked_for: Mapping[str, str]) -> Comparison:
    """Compare the settings `found` of a topic with the settings `wanted` of a new one; `asked_for` are the configured ones
    among them.

    Raises TopicMismatch for another cleanup.policy."""
    result = Comparison([], [])
    for setting, value in wanted.items():
        present = found.get(setting, value)  # a broker omits settings that it does not know
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
    return f"Set it with kafka-configs.sh --alter {where}"


async def describe_configs(admin: AIOKafkaAdminClient, settings: Mapping[str, Iterable[str]]) -> dict[str, dict[str, str]]:
    """The values of the given settings by topic. Raises TopicRefused."""
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
    """Apply the changes. Raises TopicMismatch if the broker rejects one, BrokerUnreachable, ConnectionLost."""
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
            reason = f"The broker refused to alter it: {message or name_of(code)}. {_remedy(change)}"
            raise TopicMismatch(change.topic, change.setting, change.found, change.wanted, reason)

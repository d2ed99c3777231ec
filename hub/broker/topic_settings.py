"""Topic settings as a table: what is accepted, with which values, and what holds when nothing is set.

Every setting is acted on or refused. Those marked `fixed` name a mechanism that this broker does not have; only the value that
says what the broker does anyway is accepted. Names, types and meanings are Kafka's
(https://kafka.apache.org/documentation/#topicconfigs); defaults differ for sizes only.
"""

import math
from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import NamedTuple

from ..protocol import ErrorCode
from .errors import BrokerError

NEVER = 2**63 - 1
"""A time or size that is never reached."""
MESSAGE_BYTES_MAX = 50 << 20
"""Largest `max.message.bytes`: a batch must fit into one request and one answer."""


class SettingType(IntEnum):
    """Kafka's codes for the types of settings, as DescribeConfigs shows them."""

    BOOLEAN = 1
    STRING = 2
    INT = 3
    LONG = 5
    DOUBLE = 6
    LIST = 7


class Setting(NamedTuple):
    """One row of the table."""

    type: SettingType
    default: str
    lowest: float = -math.inf
    highest: float = math.inf
    choices: tuple[str, ...] = ()
    fixed: str = ""
    """Why only the default is accepted; empty for settings that are acted on."""


_ONE_NODE = "this broker has one node"
_SYNCED = "the broker's flush policy decides when data is brought to disk"
_INDEX = "indexes have a fixed form"

SETTINGS: Mapping[str, Setting] = {
    "cleanup.policy": Setting(SettingType.LIST, "delete", choices=("delete", "compact")),
    "compression.type": Setting(SettingType.STRING, "producer", fixed="batches are kept as their producer made them"),
    "delete.retention.ms": Setting(SettingType.LONG, "86400000", 0, NEVER),
    "file.delete.delay.ms": Setting(SettingType.LONG, "60000", fixed="files are removed with the next checkpoint"),
    "flush.messages": Setting(SettingType.LONG, str(NEVER), fixed=_SYNCED),
    "flush.ms": Setting(SettingType.LONG, str(NEVER), fixed=_SYNCED),
    "index.interval.bytes": Setting(SettingType.INT, "16384", fixed=_INDEX),
    "max.compaction.lag.ms": Setting(SettingType.LONG, str(NEVER), 1, NEVER),
    "max.message.bytes": Setting(SettingType.INT, "8388608", 0, MESSAGE_BYTES_MAX),
    "message.timestamp.after.max.ms": Setting(SettingType.LONG, str(NEVER), fixed="timestamps are not compared with the clock"),
    "message.timestamp.before.max.ms": Setting(SettingType.LONG, str(NEVER), fixed="timestamps are not compared with the clock"),
    "message.timestamp.type": Setting(SettingType.STRING, "CreateTime", choices=("CreateTime", "LogAppendTime")),
    "min.cleanable.dirty.ratio": Setting(SettingType.DOUBLE, "0.5", 0, 1),
    "min.compaction.lag.ms": Setting(SettingType.LONG, "0", 0, NEVER),
    "min.insync.replicas": Setting(SettingType.INT, "1", fixed=_ONE_NODE),
    "preallocate": Setting(SettingType.BOOLEAN, "false", fixed="segment files grow as they are written"),
    "retention.bytes": Setting(SettingType.LONG, "-1", -1, NEVER),
    "retention.ms": Setting(SettingType.LONG, "604800000", -1, NEVER),
    "segment.bytes": Setting(SettingType.INT, "67108864", 14, 2**31 - 1),
    "segment.index.bytes": Setting(SettingType.INT, "10485760", fixed=_INDEX),
    "segment.jitter.ms": Setting(SettingType.LONG, "0", fixed="segments of different logs are not begun together"),
    "segment.ms": Setting(SettingType.LONG, "604800000", 1, NEVER),
    "unclean.leader.election.enable": Setting(SettingType.BOOLEAN, "false", fixed=_ONE_NODE),
}


class TopicSettings(NamedTuple):
    """The settings that hold for a topic, typed. Times in milliseconds, sizes in bytes; -1 means without limit."""

    delete: bool
    compact: bool
    retention_ms: int
    retention_bytes: int
    segment_bytes: int
    segment_ms: int
    delete_retention_ms: int
    min_compaction_lag_ms: int
    max_compaction_lag_ms: int
    min_dirty_ratio: float
    message_bytes_max: int
    append_time: bool
    """The broker's time of arrival replaces the timestamps of the producer."""

    @property
    def roll_ms(self) -> int:
        """Age at which a segment is closed though it is not full.

        As in Kafka, `segment.ms`, for a compacted topic at most `max.compaction.lag.ms`. Besides, half of `retention.ms`: a
        record can only be removed with its whole segment, and so goes after one and a half times the retention at the latest."""
        age = self.segment_ms
        if self.compact:
            age = min(age, self.max_compaction_lag_ms)
        if self.delete and self.retention_ms >= 0:
            age = min(age, max(1, self.retention_ms // 2))
        return age


def check_settings(configs: Mapping[str, str | None]) -> dict[str, str]:
    """The same settings, known to be valid. Raises `BrokerError` (INVALID_CONFIG) that names the setting."""
    checked = {name: _check(name, value) for name, value in configs.items()}
    holding = effective(checked)
    shortest, longest = int(holding["min.compaction.lag.ms"]), int(holding["max.compaction.lag.ms"])
    if shortest > longest:
        raise _invalid(f"min.compaction.lag.ms ({shortest}) is more than max.compaction.lag.ms ({longest})")
    return checked


def valid_settings(configs: Mapping[str, str]) -> dict[str, str]:
    """Those of the settings that are valid; for topics that were made when others were accepted too."""
    kept: dict[str, str] = {}
    for name, value in configs.items():
        try:
            kept = check_settings({**kept, name: value})
        except BrokerError:
            continue
    return kept


def effective(configs: Mapping[str, str]) -> dict[str, str]:
    """The value of every setting, with defaults where nothing is set."""
    return {name: configs.get(name, setting.default) for name, setting in SETTINGS.items()}


def typed(configs: Mapping[str, str]) -> TopicSettings:
    """Valid settings, typed."""
    values = effective(configs)
    policies = list_items(values["cleanup.policy"])
    return TopicSettings(
        delete="delete" in policies,
        compact="compact" in policies,
        retention_ms=int(values["retention.ms"]),
        retention_bytes=int(values["retention.bytes"]),
        segment_bytes=int(values["segment.bytes"]),
        segment_ms=int(values["segment.ms"]),
        delete_retention_ms=int(values["delete.retention.ms"]),
        min_compaction_lag_ms=int(values["min.compaction.lag.ms"]),
        max_compaction_lag_ms=int(values["max.compaction.lag.ms"]),
        min_dirty_ratio=float(values["min.cleanable.dirty.ratio"]),
        message_bytes_max=int(values["max.message.bytes"]),
        append_time=values["message.timestamp.type"] == "LogAppendTime",
    )


def list_items(value: str) -> list[str]:
    """The items of a list setting."""
    return [item.strip() for item in value.split(",") if item.strip()]


def _check(name: str, value: str | None) -> str:
    setting = SETTINGS.get(name)
    if setting is None:
        raise _invalid(f"unknown topic setting {name}")
    if value is None:
        raise _invalid(f"{name} has no value")
    value = value.strip()
    if setting.fixed:
        if value.lower() != setting.default:
            raise _invalid(f"{name} cannot be {value!r}: {setting.fixed}; leave it at {setting.default!r}")
    elif setting.type in (SettingType.INT, SettingType.LONG, SettingType.DOUBLE):
        _check_number(name, setting, value)
    else:
        _check_choice(name, setting, list_items(value) if setting.type is SettingType.LIST else [value])
    return value


def _check_number(name: str, setting: Setting, value: str) -> None:
    try:
        number: float = float(value) if setting.type is SettingType.DOUBLE else int(value)
    except ValueError:
        kind = "a number" if setting.type is SettingType.DOUBLE else "a whole number"
        raise _invalid(f"{name} must be {kind}, not {value!r}") from None
    if not setting.lowest <= number <= setting.highest:
        raise _invalid(f"{name} must be from {setting.lowest:.0f} to {setting.highest:.0f}, not {value}")


def _check_choice(name: str, setting: Setting, given: Iterable[str]) -> None:
    items = list(given)
    unknown = [item for item in items if item not in setting.choices]
    if unknown or not items:
        choices = " or ".join(setting.choices)
        raise _invalid(f"{name} must be {choices}, not {unknown[0] if unknown else 'empty'!r}")


def _invalid(reason: str) -> BrokerError:
    return BrokerError(ErrorCode.INVALID_CONFIG, reason)

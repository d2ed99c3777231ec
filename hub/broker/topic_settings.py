"""The table of topic settings: names, types, valid values and defaults.

Every setting is either implemented or rejected. Settings marked `fixed` belong to features that this broker does not have;
only the value that describes its actual behaviour is accepted. Names, types and meanings are those of Kafka
(https://kafka.apache.org/documentation/#topicconfigs); only defaults of sizes differ.
"""

import math
from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import NamedTuple

from ..protocol import ErrorCode
from .errors import BrokerError

NEVER = 2**63 - 1
"""No limit, for a time or a size."""
MESSAGE_BYTES_MAX = 50 << 20
"""Largest `max.message.bytes`: a batch must fit into one request and one response."""


class SettingType(IntEnum):
    """Types of settings, with the codes of DescribeConfigs."""

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
    """Why only the default is accepted; empty for implemented settings."""


_ONE_NODE = "this cluster has a single node"
_SYNCED = "the flush policy of the broker decides when data is synced"
_INDEX = "the format of indexes is fixed"

SETTINGS: Mapping[str, Setting] = {
    "cleanup.policy": Setting(SettingType.LIST, "delete", choices=("delete", "compact")),
    "compression.type": Setting(SettingType.STRING, "producer", fixed="batches are stored as sent by the producer"),
    "delete.retention.ms": Setting(SettingType.LONG, "86400000", 0, NEVER),
    "file.delete.delay.ms": Setting(SettingType.LONG, "60000", fixed="the next checkpoint removes files"),
    "flush.messages": Setting(SettingType.LONG, str(NEVER), fixed=_SYNCED),
    "flush.ms": Setting(SettingType.LONG, str(NEVER), fixed=_SYNCED),
    "index.interval.bytes": Setting(SettingType.INT, "16384", fixed=_INDEX),
    "max.compaction.lag.ms": Setting(SettingType.LONG, str(NEVER), 1, NEVER),
    "max.message.bytes": Setting(SettingType.INT, "8388608", 0, MESSAGE_BYTES_MAX),
    "message.timestamp.after.max.ms": Setting(SettingType.LONG, str(NEVER), fixed="timestamps are not validated"),
    "message.timestamp.before.max.ms": Setting(SettingType.LONG, str(NEVER), fixed="timestamps are not validated"),
    "message.timestamp.type": Setting(SettingType.STRING, "CreateTime", choices=("CreateTime", "LogAppendTime")),
    "min.cleanable.dirty.ratio": Setting(SettingType.DOUBLE, "0.5", 0, 1),
    "min.compaction.lag.ms": Setting(SettingType.LONG, "0", 0, NEVER),
    "min.insync.replicas": Setting(SettingType.INT, "1", fixed=_ONE_NODE),
    "preallocate": Setting(SettingType.BOOLEAN, "false", fixed="segment files are not preallocated"),
    "retention.bytes": Setting(SettingType.LONG, "-1", -1, NEVER),
    "retention.ms": Setting(SettingType.LONG, "604800000", -1, NEVER),
    "segment.bytes": Setting(SettingType.INT, "67108864", 14, 2**31 - 1),
    "segment.index.bytes": Setting(SettingType.INT, "10485760", fixed=_INDEX),
    "segment.jitter.ms": Setting(SettingType.LONG, "0", fixed="segments of different logs do not roll together"),
    "segment.ms": Setting(SettingType.LONG, "604800000", 1, NEVER),
    "unclean.leader.election.enable": Setting(SettingType.BOOLEAN, "false", fixed=_ONE_NODE),
}


class TopicSettings(NamedTuple):
    """The effective settings of a topic, typed. Times in milliseconds, sizes in bytes; -1 means no limit."""

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
    """Whether the broker replaces the timestamps of producers by the time of arrival."""

    @property
    def roll_ms(self) -> int:
        """Age in ms at which a segment is closed even if it is not full.

        As in Kafka this is `segment.ms`, for a compacted topic at most `max.compaction.lag.ms`. In addition it is at most half
        of `retention.ms`: retention removes whole segments, so this removes a record after at most 1.5 times the retention."""
        age = self.segment_ms
        if self.compact:
            age = min(age, self.max_compaction_lag_ms)
        if self.delete and self.retention_ms >= 0:
            age = min(age, max(1, self.retention_ms // 2))
        return age


def check_settings(configs: Mapping[str, str | None]) -> dict[str, str]:
    """Validate settings and return them. Raises `BrokerError` (INVALID_CONFIG) that names the setting."""
    checked = {name: _check(name, value) for name, value in configs.items()}
    holding = effective(checked)
    shortest, longest = int(holding["min.compaction.lag.ms"]), int(holding["max.compaction.lag.ms"])
    if shortest > longest:
        raise _invalid(f"min.compaction.lag.ms ({shortest}) exceeds max.compaction.lag.ms ({longest})")
    return checked


def valid_settings(configs: Mapping[str, str]) -> dict[str, str]:
    """The valid ones of the settings; for topics created by releases that accepted more."""
    kept: dict[str, str] = {}
    for name, value in configs.items():
        try:
            kept = check_settings({**kept, name: value})
        except BrokerError:
            continue
    return kept


def effective(configs: Mapping[str, str]) -> dict[str, str]:
    """The value of every setting, defaults included."""
    return {name: configs.get(name, setting.default) for name, setting in SETTINGS.items()}


def typed(configs: Mapping[str, str]) -> TopicSettings:
    """Convert valid settings to their types."""
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
        raise _invalid(f"{name}: unknown topic setting")
    if value is None:
        raise _invalid(f"{name}: missing value")
    value = value.strip()
    if setting.fixed:
        if value.lower() != setting.default:
            raise _invalid(f"{name}: only the default {setting.default!r} is supported, got {value!r}: {setting.fixed}")
    elif setting.type in (SettingType.INT, SettingType.LONG, SettingType.DOUBLE):
        _check_number(name, setting, value)
    else:
        _check_choice(name, setting, list_items(value) if setting.type is SettingType.LIST else [value])
    return value


def _check_number(name: str, setting: Setting, value: str) -> None:
    try:
        number: float = float(value) if setting.type is SettingType.DOUBLE else int(value)
    except ValueError:
        kind = "a number" if setting.type is SettingType.DOUBLE else "an integer"
        raise _invalid(f"{name}: must be {kind}, got {value!r}") from None
    if not setting.lowest <= number <= setting.highest:
        raise _invalid(f"{name}: must be between {setting.lowest:.0f} and {setting.highest:.0f}, got {value}")


def _check_choice(name: str, setting: Setting, given: Iterable[str]) -> None:
    items = list(given)
    unknown = [item for item in items if item not in setting.choices]
    if unknown or not items:
        choices = " or ".join(setting.choices)
        raise _invalid(f"{name}: must be {choices}, got {unknown[0] if unknown else ''!r}")


def _invalid(reason: str) -> BrokerError:
    return BrokerError(ErrorCode.INVALID_CONFIG, reason)

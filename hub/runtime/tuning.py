"""What the tables `[engine]` and `[topics]` of the settings mean to the rooms: the engine's settings, the topics' configs.

A section is None where nothing is configured: then the rooms' own defaults hold, and pydantic is not loaded.
"""

from typing import TYPE_CHECKING, Any

from ..kafka import COMMANDS_PREFIX, DLQ_PREFIX, EVENTS, REPLIES, STATE, TOMBSTONES_MS

if TYPE_CHECKING:
    from msgspec import Struct

    from ..engine import EngineSettings, LoopSettings
    from ..settings import EngineSection, TopicsSection

SEGMENTS = 4
"""A retention is met by deleting whole segments: a topic keeps at most this fraction more than it was asked to."""
SEGMENT_BYTES = (1 << 20, 1 << 30)
"""Kafka's smallest segment, and its default."""
SEGMENT_MS = (10_000, 7 * 86_400_000)


def engine_settings(section: "EngineSection | None") -> "EngineSettings | None":
    """What a partition is made with."""
    if section is None:
        return None
    from ..engine import EngineSettings

    return EngineSettings(**_fields(section, EngineSettings))


def loop_settings(section: "EngineSection | None", *, max_records: int, tombstones_seconds: int) -> "LoopSettings":
    """What the loop around a partition is made with. `tombstones_seconds` is what `hub.state` really has."""
    from ..engine import LoopSettings

    configured = {} if section is None else _fields(section, LoopSettings)
    return LoopSettings(max_records=max_records, tombstones_seconds=tombstones_seconds, **configured)


def _fields(section: "EngineSection", target: type["Struct"]) -> dict[str, Any]:
    """The values of the section that `target` has a field for, by name."""
    return {name: value for name, value in section if name in target.__struct_fields__}


def tombstones_seconds(section: "TopicsSection | None") -> int:
    """The least that `hub.state` has once its settings were ensured."""
    return TOMBSTONES_MS // 1000 if section is None else section.state_tombstones_seconds


def topic_overrides(section: "TopicsSection | None") -> dict[str, dict[str, str]]:
    """Topic configs by topic (COMMANDS_PREFIX, DLQ_PREFIX: of each of these topics), of what somebody has set."""
    found: dict[str, dict[str, str]] = {}
    if section is None:
        return found
    for topic, prefix in ((EVENTS, "events"), (COMMANDS_PREFIX, "commands"), (REPLIES, "replies"), (DLQ_PREFIX, "dlq")):
        if configs := _retention(section, prefix):
            found[topic] = configs
    if configs := _changelog(section):
        found[STATE] = configs
    return found


def _retention(section: "TopicsSection", prefix: str) -> dict[str, str]:
    configs: dict[str, str] = {}
    if (field := f"{prefix}_retention_seconds") in section.model_fields_set:
        seconds = getattr(section, field)
        configs["retention.ms"] = str(seconds * 1000 if seconds >= 0 else seconds)
        configs["segment.ms"] = str(_part(seconds * 1000, SEGMENT_MS))
    if (field := f"{prefix}_retention_bytes") in section.model_fields_set:
        size = getattr(section, field)
        configs["retention.bytes"] = str(size)
        configs["segment.bytes"] = str(_part(size, SEGMENT_BYTES))
    return configs


def _part(whole: int, bounds: tuple[int, int]) -> int:
    least, most = bounds
    return most if whole < 0 else min(max(whole // SEGMENTS, least), most)


def _changelog(section: "TopicsSection") -> dict[str, str]:
    names = {
        "state_segment_bytes": ("segment.bytes", 1),
        "state_compaction_seconds": ("max.compaction.lag.ms", 1000),
        "state_tombstones_seconds": ("delete.retention.ms", 1000),
    }
    return {
        config: str(getattr(section, field) * factor)
        for field, (config, factor) in names.items()
        if field in section.model_fields_set
    }

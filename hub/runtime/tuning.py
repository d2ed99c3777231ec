"""Maps the tables `[engine]`, `[topics]` and `[health]` of the settings to the values that the rooms take.

A section is None if nothing is configured; then the defaults of the rooms apply, and pydantic is not imported.
"""

from typing import TYPE_CHECKING, Any

from ..kafka import COMMANDS_PREFIX, DLQ_PREFIX, EVENTS, REPLIES, STATE, TOMBSTONES_MS

if TYPE_CHECKING:
    from msgspec import Struct

    from ..engine import EngineSettings, LoopSettings
    from ..settings import EngineSection, HealthSection, TopicsSection
    from .health import HealthLimits

SEGMENTS = 4
"""Segments per retention: retention deletes whole segments, so a topic exceeds its retention by at most one of this many
parts."""
SEGMENT_BYTES = (1 << 20, 1 << 30)
"""Kafka's smallest segment, and its default."""
SEGMENT_MS = (10_000, 7 * 86_400_000)


def engine_settings(section: "EngineSection | None") -> "EngineSettings | None":
    """The settings of a partition."""
    if section is None:
        return None
    from ..engine import EngineSettings

    return EngineSettings(**_fields(section, EngineSettings))


def loop_settings(section: "EngineSection | None", *, max_records: int, tombstones_seconds: int) -> "LoopSettings":
    """The settings of the loop of a partition. `tombstones_seconds`: the actual setting of `hub.state`."""
    from ..engine import LoopSettings

    configured = {} if section is None else _fields(section, LoopSettings)
    return LoopSettings(max_records=max_records, tombstones_seconds=tombstones_seconds, **configured)


def _fields(section: "EngineSection", target: type["Struct"]) -> dict[str, Any]:
    """The values of the section for which `target` has a field, by name."""
    return {name: value for name, value in section if name in target.__struct_fields__}


def health_limits(section: "HealthSection | None") -> "HealthLimits":
    """The limits of health checks."""
    from .health import HealthLimits

    return HealthLimits() if section is None else HealthLimits(**dict(section))


def tombstones_seconds(section: "TopicsSection | None") -> int:
    """The minimum of `delete.retention.ms` of `hub.state` in seconds after `ensure_topics`."""
    return TOMBSTONES_MS // 1000 if section is None else section.state_tombstones_seconds


def topic_overrides(section: "TopicsSection | None") -> dict[str, dict[str, str]]:
    """Explicitly configured topic settings by topic (COMMANDS_PREFIX, DLQ_PREFIX: for each of these topics)."""
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

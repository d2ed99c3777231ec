"""The tables of `hub.toml` whose fields are settings of their own: `[engine]` and `[topics]`."""

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

UNBOUNDED = -1
"""Kafka's own word for a retention without a limit."""


class EngineSection(BaseModel):
    """`[engine]`: what the engine keeps, and for how long."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    retention_seconds: float = Field(
        default=3_600.0,
        ge=1,
        description="Seconds for which the id of an ended task stays known: during that time the same id makes no second task.",
    )
    ended_entries_max: int = Field(
        default=1_000_000, ge=1, description="Ended tasks known per partition at most; beyond it the oldest are forgotten early."
    )
    waiting_max: int = Field(default=1_000_000, ge=1, description="Live tasks per partition; beyond it submissions are refused.")
    strict_namespaces: frozenset[str] = Field(
        default=frozenset(),
        description="Namespaces in which a submission is refused while no worker has registered its name; elsewhere it waits. In"
        " the environment: separated by commas.",
    )
    intake_retention_seconds: float = Field(
        default=7 * 86_400.0,
        ge=0,
        description="Seconds for which records of hub.intake stay after they were decided; then they are deleted.",
    )
    storage_warn_bytes: int | None = Field(
        default=None,
        ge=0,
        description="Free bytes of the broker's disk below which a warning is logged. Unset: 2 GiB, at most a tenth of the disk;"
        " 0: never.",
    )
    storage_low_bytes: int | None = Field(
        default=None,
        ge=0,
        description="Free bytes of the broker's disk below which submissions are refused. Unset: 512 MiB, at most a twentieth of"
        " the disk; 0: never.",
    )

    @field_validator("strict_namespaces", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _warning_comes_first(self) -> "EngineSection":
        warn, low = self.storage_warn_bytes, self.storage_low_bytes
        if warn and low and warn < low:
            raise ValueError(f"storage_warn_bytes ({warn}) must not be less than storage_low_bytes ({low})")
        return self


class TopicsSection(BaseModel):
    """`[topics]`: what the topics keep. What is set here is given to new topics and, at the start, to those that exist; what is
    not set stays as it is there. Sizes are per partition."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    events_retention_seconds: int = Field(
        default=30 * 86_400, ge=UNBOUNDED, description="Seconds for which hub.events keeps an event; -1: forever."
    )
    events_retention_bytes: int = Field(
        default=UNBOUNDED, ge=UNBOUNDED, description="Bytes that hub.events keeps per partition; -1: no limit."
    )
    commands_retention_seconds: int = Field(
        default=86_400,
        ge=60,
        description="Seconds for which the topics hub.commands.<pool> keep a command: longer than a worker may be away.",
    )
    commands_retention_bytes: int = Field(
        default=UNBOUNDED, ge=UNBOUNDED, description="Bytes that the topics hub.commands.<pool> keep per partition; -1: no limit."
    )
    replies_retention_seconds: int = Field(
        default=3_600, ge=60, description="Seconds for which hub.replies keeps a reply: longer than a client takes to read it."
    )
    replies_retention_bytes: int = Field(
        default=UNBOUNDED, ge=UNBOUNDED, description="Bytes that hub.replies keeps per partition; -1: no limit."
    )
    dlq_retention_seconds: int = Field(
        default=14 * 86_400,
        ge=UNBOUNDED,
        description="Seconds for which the topics hub.dlq.<subscriber> keep a dead letter; -1: forever.",
    )
    dlq_retention_bytes: int = Field(
        default=UNBOUNDED,
        ge=UNBOUNDED,
        description="Bytes that the topics hub.dlq.<subscriber> keep per partition; -1: no limit.",
    )
    state_segment_bytes: int = Field(
        default=64 << 20, ge=1 << 20, description="Bytes of a segment of hub.state: only segments that are full are compacted."
    )
    state_compaction_seconds: int = Field(
        default=600,
        ge=1,
        description="Seconds after which a row of hub.state that was replaced is compacted away, at the latest.",
    )
    state_tombstones_seconds: int = Field(
        default=86_400,
        ge=60,
        description="Seconds for which hub.state keeps deletions: twice the age up to which a snapshot is used, and longer than a"
        " restart takes.",
    )

    @field_validator("events_retention_seconds", "dlq_retention_seconds")
    @classmethod
    def _at_least_a_minute(cls, value: int) -> int:
        if 0 <= value < 60:
            raise ValueError("must be -1 or at least 60")
        return value

    @field_validator("events_retention_bytes", "commands_retention_bytes", "replies_retention_bytes", "dlq_retention_bytes")
    @classmethod
    def _at_least_a_segment(cls, value: int) -> int:
        if value != UNBOUNDED and value < 1 << 20:
            raise ValueError("must be -1 or at least 1048576 (1 MiB)")
        return value


SECTIONS: dict[str, type[BaseModel]] = {"engine": EngineSection, "topics": TopicsSection}
"""By the name of the table. A field is also a variable: `[engine] waiting_max`, HUB_ENGINE_WAITING_MAX."""

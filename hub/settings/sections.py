"""The tables `[engine]` and `[topics]` of `hub.toml`."""

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

UNBOUNDED = -1
"""Kafka's value for unlimited retention."""


class EngineSection(BaseModel):
    """`[engine]`: limits and retention of the engine."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    retention_seconds: float = Field(
        default=3_600.0,
        ge=1,
        description="Seconds for which the id of an ended task is kept: during that time the same id creates no second task.",
    )
    ended_entries_max: int = Field(
        default=1_000_000, ge=1, description="Most ended tasks kept per partition; beyond it the oldest are removed early."
    )
    waiting_max: int = Field(
        default=1_000_000, ge=1, description="Most live tasks per partition; further submissions are rejected."
    )
    strict_namespaces: frozenset[str] = Field(
        default=frozenset(),
        description="Namespaces in which a submission is refused while no worker has registered its name; elsewhere it waits. In"
        " the environment: separated by commas.",
    )
    intake_retention_seconds: float = Field(
        default=7 * 86_400.0,
        ge=0,
        description="Seconds for which records of hub.intake are kept after they were processed.",
    )
    storage_warn_bytes: int | None = Field(
        default=None,
        ge=0,
        description="Free bytes of the broker's disk below which a warning is logged. Unset: 2 GiB, at most a tenth of the disk;"
        " 0: disabled.",
    )
    storage_low_bytes: int | None = Field(
        default=None,
        ge=0,
        description="Free bytes of the broker's disk below which submissions are rejected. Unset: 512 MiB, at most a twentieth of"
        " the disk; 0: disabled.",
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
    """`[topics]`: retention of the topics. Values set here apply to new topics and, at the start, to existing ones; unset
    values do not change existing topics. Sizes are per partition."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    events_retention_seconds: int = Field(
        default=30 * 86_400, ge=UNBOUNDED, description="Seconds for which hub.events keeps events; -1: unlimited."
    )
    events_retention_bytes: int = Field(
        default=UNBOUNDED, ge=UNBOUNDED, description="Bytes that hub.events keeps per partition; -1: unlimited."
    )
    commands_retention_seconds: int = Field(
        default=86_400,
        ge=60,
        description="Seconds for which the topics hub.commands.<pool> keep commands: longer than a worker may be disconnected.",
    )
    commands_retention_bytes: int = Field(
        default=UNBOUNDED,
        ge=UNBOUNDED,
        description="Bytes that the topics hub.commands.<pool> keep per partition; -1: unlimited.",
    )
    replies_retention_seconds: int = Field(
        default=3_600, ge=60, description="Seconds for which hub.replies keeps replies: longer than a client takes to read them."
    )
    replies_retention_bytes: int = Field(
        default=UNBOUNDED, ge=UNBOUNDED, description="Bytes that hub.replies keeps per partition; -1: unlimited."
    )
    dlq_retention_seconds: int = Field(
        default=14 * 86_400,
        ge=UNBOUNDED,
        description="Seconds for which the topics hub.dlq.<subscriber> keep dead letters; -1: unlimited.",
    )
    dlq_retention_bytes: int = Field(
        default=UNBOUNDED,
        ge=UNBOUNDED,
        description="Bytes that the topics hub.dlq.<subscriber> keep per partition; -1: unlimited.",
    )
    state_segment_bytes: int = Field(
        default=64 << 20, ge=1 << 20, description="Segment size of hub.state in bytes; only full segments are compacted."
    )
    state_compaction_seconds: int = Field(
        default=600,
        ge=1,
        description="Most seconds until compaction removes a superseded row of hub.state.",
    )
    state_tombstones_seconds: int = Field(
        default=86_400,
        ge=60,
        description="Seconds for which hub.state keeps tombstones: twice the age up to which a snapshot is used, longer than a"
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
"""Sections by the name of their table. Each field also has a variable: `[engine] waiting_max`, HUB_ENGINE_WAITING_MAX."""

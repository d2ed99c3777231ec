"""The tables `[engine]`, `[topics]`, `[health]`, `[otlp]`, `[metrics]` and `[analytics]` of `hub.toml`."""

import re
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

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
    trace_sample: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="Share of tasks whose trace is recorded, decided when the task or workflow is created. A submission with a"
        " trace context decides by its own sampled flag.",
    )
    trace_max_age_seconds: float = Field(
        default=86_400.0,
        ge=0,
        description="Seconds from the creation of a task or workflow after which its attempts are in a new trace, which is linked"
        " with the first one; again after each such time. 0: never.",
    )
    intake_retention_seconds: float = Field(
        default=7 * 86_400.0,
        ge=0,
        description="Seconds for which records of hub.intake are kept after they were processed.",
    )
    compression: Literal["lz4", "zstd", "none"] = Field(
        default="lz4",
        description="Compression of the records that the engine writes, in batches of at least 1 KiB: lz4, zstd (about half the"
        " size, but two to four times the CPU time) or none.",
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
        default=8 << 20, ge=1 << 20, description="Segment size of hub.state in bytes; only full segments are compacted."
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


class HealthSection(BaseModel):
    """`[health]`: limits beyond which a process reports that it is not ready."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    commit_age_max_seconds: float = Field(
        default=30.0,
        ge=0,
        description="Seconds for which an engine may have undecided input without committing; 0: no limit.",
    )
    watermark_age_max_seconds: float = Field(
        default=30.0,
        ge=0,
        description="Seconds since the time up to which an engine has read all reports; 0: no limit.",
    )
    intake_lag_max: int = Field(
        default=100_000,
        ge=0,
        description="Records of hub.intake per partition that an engine may not have decided yet; 0: no limit.",
    )
    delivery_lag_max: int = Field(
        default=0,
        ge=0,
        description="Records of hub.events that a subscriber may not have acknowledged yet; 0: no limit, because a new subscriber"
        " may begin with the oldest event.",
    )


class OtlpSection(BaseModel):
    """`[otlp]`: export of traces, logs and metrics to a collector over OTLP/HTTP. `[engine] trace_sample` decides which traces
    exist."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    endpoint: str | None = Field(
        default=None,
        description="URL of a collector for OTLP over HTTP, such as http://127.0.0.1:4318, to which subscribers and workers"
        " export. Unset: nothing is exported.",
    )
    headers: SecretStr = Field(
        default=SecretStr(""), description="Headers of each request to the collector, as name=value,name=value. Secret."
    )
    timeout_seconds: float = Field(default=10.0, gt=0, le=600, description="Seconds for one request to the collector.")
    compression: Literal["gzip", "none"] = Field(default="gzip", description="Compression of requests: gzip or none.")
    environment: str = Field(
        default="", description="Attribute deployment.environment.name of what subscribers export. Empty: it is omitted."
    )
    metrics_interval_seconds: float = Field(
        default=15.0, ge=1, le=3600, description="Seconds between two pushes of metrics to the collector."
    )
    traces_mode: Literal["live", "on_terminal"] = Field(
        default="live",
        description="What is exported. live: each span when it ends. on_terminal: the spans of a task when it has ended, if it"
        " did not succeed at once or was slow, and of a share of the other tasks.",
    )
    traces_slow: float | str = Field(
        default="10s", description="With on_terminal: duration from which a task is slow, such as 500ms, 10s or 1m."
    )
    traces_keep: float = Field(
        default=0.1, ge=0, le=1, description="With on_terminal: share of the other tasks whose spans are exported."
    )

    @field_validator("endpoint")
    @classmethod
    def _is_a_url(cls, value: str | None) -> str | None:
        if not value:
            return None
        if re.fullmatch(r"https?://[^\s?#]+", value) is None:
            raise ValueError("must be a URL such as http://127.0.0.1:4318, without a query")
        return value.rstrip("/")


class MetricsSection(BaseModel):
    """`[metrics]`: figures of tasks and workflows for Prometheus."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    enabled: bool = Field(
        default=False,
        description="Run the subscriber metrics, which counts events and measures durations for the page /metrics. It always runs"
        " with otlp.endpoint; figures of processes need no subscriber.",
    )
    histograms: Literal["explicit", "exponential"] = Field(
        default="explicit",
        description="Buckets of histograms that are pushed to otlp.endpoint. explicit: with fixed bounds. exponential: with"
        " bounds that follow from the values. The page /metrics always has fixed ones.",
    )


class AnalyticsSection(BaseModel):
    """`[analytics]`: the process that evaluates `[[rules]]`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    pane_seconds: float = Field(
        default=10.0,
        ge=1,
        le=3_600,
        description="Length in seconds of the shortest windows of figures; longer ones are sums of them.",
    )
    keep_seconds: float = Field(
        default=3_600.0,
        ge=1,
        le=31 * 86_400,
        description="Seconds for which figures are kept. A restart without a snapshot reads the events of this time, and of the"
        " longest window of a rule.",
    )
    snapshot_seconds: float = Field(
        default=30.0, ge=1, le=3_600, description="Seconds between two snapshots, which shorten a restart (with --data)."
    )

    @model_validator(mode="after")
    def _panes_fit(self) -> "AnalyticsSection":
        if self.pane_seconds > self.keep_seconds:
            raise ValueError(f"pane_seconds ({self.pane_seconds:g}) must not be more than keep_seconds ({self.keep_seconds:g})")
        return self


SECTIONS: dict[str, type[BaseModel]] = {
    "engine": EngineSection,
    "topics": TopicsSection,
    "health": HealthSection,
    "otlp": OtlpSection,
    "metrics": MetricsSection,
    "analytics": AnalyticsSection,
}
"""Sections by the name of their table. Each field also has a variable: `[engine] waiting_max`, HUB_ENGINE_WAITING_MAX."""

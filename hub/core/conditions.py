"""The inputs of a batch besides state and records. State, records and these inputs determine the batch completely."""

from collections.abc import Mapping, Set

from msgspec import Struct

#: Identity of a timer over restarts: its kind, the task, its run (-1: the task is not in memory), and its mark.
TimerKey = tuple[str, str, int, int]


class Known(Struct, frozen=True):
    """What the loop knows. A partition gets these values only as this argument, so that equal values give equal batches.

    `events_offset`: the events of the batch are at or after this offset of `hub.events`. `time_watermark_us`: all reports made
    up to this time have been read; None if no such time is known. `pools`: pools with a commands topic; workers of other pools
    get no work. `poison_records`, `poison_timers`: records and timers to dead-letter instead of processing them, with the
    reason.
    """

    events_offset: int = 0
    time_watermark_us: int | None = None
    pools: Set[str] = frozenset()
    poison_records: Mapping[int, str] = {}
    poison_timers: Mapping[TimerKey, str] = {}


class CoreSettings(Struct, frozen=True, kw_only=True):
    """Settings for all batches: operator settings and the layout of the topics; `EngineSettings` extends it.

    `retention_seconds`: how long the id of an ended task stays known. `waiting_max`: live tasks that a partition may hold; beyond
    it submissions are refused. `strict_namespaces`: those in which a submission must have a name that a worker has registered.
    `trace_sample`: the share of new roots, of those without a trace context, whose trace is recorded.
    `trace_max_age_seconds`: attempts of a run that is older are in a linked trace; 0: never. `inboxes`: partitions of each
    commands topic."""

    retention_seconds: float = 3_600.0
    waiting_max: int = 1_000_000
    strict_namespaces: frozenset[str] = frozenset()
    trace_sample: float = 1.0
    trace_max_age_seconds: float = 86_400.0
    inboxes: int

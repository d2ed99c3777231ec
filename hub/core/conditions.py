"""What holds while a batch is decided, beside the state: together with the state and the records it decides the batch alone."""

from collections.abc import Mapping, Set
from typing import NamedTuple

from msgspec import Struct

#: What a timer is about, over restarts: its kind, the task, its run (-1: the task is gone), and what the row must still say.
TimerKey = tuple[str, str, int, int]


class Known(NamedTuple):
    """What the loop knows. A partition learns none of it in any other way, so that the same values give the same batch.

    `events_offset`: the batch's events lie at or after this offset of `hub.events`. `time_watermark_us`: every report made up to
    this time has been read, so that silence up to it is silence; None where that is not known of any time. `pools`: those that
    have a commands topic; a worker of another pool gets no work, since nothing could be sent to it. `poison_records`,
    `poison_timers`: what is dead-lettered instead of taken, with the reason.
    """

    events_offset: int = 0
    time_watermark_us: int | None = None
    pools: Set[str] = frozenset()
    poison_records: Mapping[int, str] = {}
    poison_timers: Mapping[TimerKey, str] = {}


class CoreSettings(Struct, frozen=True, kw_only=True):
    """What holds for every batch: what an operator has set, and how the topics are laid out; `EngineSettings` extends it.

    `retention_seconds`: how long the id of an ended task stays known. `waiting_max`: live tasks that a partition may hold; beyond
    it submissions are refused. `strict_namespaces`: those in which a submission must have a name that a worker has registered.
    `inboxes`: partitions of each commands topic."""

    retention_seconds: float = 3_600.0
    waiting_max: int = 1_000_000
    strict_namespaces: frozenset[str] = frozenset()
    inboxes: int

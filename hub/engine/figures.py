"""Figures of a partition, as plain data: how long batches take, and the tasks by state and queue. They are read at any time and
published as metrics by `hub.runtime.instruments`.

Tasks are counted from the events of committed batches, and once from the rows when a partition is taken over, so that reading
the figures does not visit every task. Batches of few events are counted together, later: right after a commit the loop competes
with the broker and the worker for the processor. Times are in seconds, those with `_us` in microseconds since the Unix epoch.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from schemas.instruments import COUNT_BOUNDS, OPERATION_BOUNDS, WAIT_BOUNDS

from ..core import LIVE, EmittedEvent, PartitionState, TaskCategory, us_of
from ..metrics.values import Histogram

#: Queues whose arrivals and completions are counted separately; those of further ones are counted as OTHER.
QUEUES_MAX = 1_000
OTHER = "other"

#: Waiting tasks of a partition up to which each of them is looked at for the ages of queues; about 1 ms.
LOOKED_AT_MAX = 2_000

#: Batches are counted when this many of them, of their events, or of the bytes of these are uncounted.
UNCOUNTED_BATCHES_MAX = 50
UNCOUNTED_EVENTS_MAX = 50
UNCOUNTED_BYTES_MAX = 64 << 10

#: Timers whose delay is recorded: those that move a task to another state.
TIMERS = ("start", "retry", "attempt", "expire", "total")

_LIVE = frozenset(LIVE)
_BEFORE_AGAIN = frozenset({"retrying", "dispatched", "running"})
"""From these states a task becomes ready again: it has arrived at its queue before."""

NameOfTask = tuple[str, str]
"""Namespace and name."""


class QueueBacklog(NamedTuple):
    """The tasks of a queue that wait for a worker: their number, and how long the first of them has waited."""

    depth: int
    oldest_seconds: float


class PartitionFigures:
    """The figures of one partition in this process, also over several take-overs. Written by its loop only. They are complete
    after `count`.

    `active`: tasks that have not ended, by name and state. `waiting`: those that wait for a worker, by queue. `arrivals`: tasks
    that became ready for the first time, by queue; `completions`: those that ended after they were dispatched."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.clock = clock
        self.batch_seconds = Histogram(OPERATION_BOUNDS)
        self.batch_records = Histogram(COUNT_BOUNDS)
        self.commit_seconds = Histogram(OPERATION_BOUNDS)
        self.restore_seconds = Histogram(WAIT_BOUNDS)
        self.timer_delays = {kind: Histogram(OPERATION_BOUNDS) for kind in TIMERS}
        self.active: dict[NameOfTask, dict[str, int]] = {}
        self.waiting: dict[str, int] = {}
        self.arrivals: dict[str, int] = {}
        self.completions: dict[str, int] = {}
        self._state: PartitionState | None = None
        self._decided: list[tuple[float, int]] = []
        self._committed: list[tuple[Sequence[EmittedEvent], int, float]] = []
        self._uncounted_events = self._uncounted_bytes = 0
        """What is in `_committed`."""

    @property
    def owned(self) -> bool:
        """Whether the partition has been taken over by this process and not been given up."""
        return self._state is not None

    # Written by the loop

    def begin(self, state: PartitionState, restored: Mapping[TaskCategory, int]) -> None:
        """The partition was restored, with these numbers of tasks."""
        self._state, self.active, self.waiting = state, {}, {}
        for (namespace, name, row_state, queue), number in restored.items():
            if row_state in _LIVE:
                _add(self.active.setdefault((namespace, name), {}), row_state, number)
                if row_state == "ready":
                    _add(self.waiting, queue, number)

    def end(self) -> None:
        """The partition was given up, or its state is discarded."""
        self.count()
        self._state, self.active, self.waiting = None, {}, {}

    def decided(self, seconds: float, records: int) -> None:
        """A batch with this number of records took this time until it could be committed."""
        self._decided.append((seconds, records))
        if len(self._decided) >= UNCOUNTED_BATCHES_MAX:
            self.count()

    def committed(self, events: Sequence[EmittedEvent], size: int, now_us: int, began: float) -> None:
        """These events, of `size` bytes, of a batch of the time `now_us` are committed; the commit was requested at `began`, a
        time of `clock`."""
        self._committed.append((events, now_us, self.clock() - began))
        self._uncounted_events += len(events)
        self._uncounted_bytes += size
        if (
            self._uncounted_events >= UNCOUNTED_EVENTS_MAX
            or self._uncounted_bytes >= UNCOUNTED_BYTES_MAX
            or len(self._committed) >= UNCOUNTED_BATCHES_MAX
        ):
            self.count()

    def count(self) -> None:
        """Count all batches so far."""
        decided, self._decided = self._decided, []
        for seconds, records in decided:
            self.batch_seconds.record(seconds)
            self.batch_records.record(records)
        committed, self._committed = self._committed, []
        self._uncounted_events = self._uncounted_bytes = 0
        for events, now_us, seconds in committed:
            self.commit_seconds.record(seconds)
            self._count_events(events, now_us)

    def _count_events(self, events: Sequence[EmittedEvent], now_us: int) -> None:
        active, live = self.active, _LIVE
        for event in events:
            before, after = event.from_state, event.to_state
            if after is None or event.kind != "task":
                continue
            name = event.namespace or "", event.taskname or ""
            states = active.get(name) or active.setdefault(name, {})
            if before is not None:
                if left := states.get(before, 0) - 1:
                    states[before] = left
                else:
                    del states[before]
            if after in live:
                states[after] = states.get(after, 0) + 1
            else:
                self._count_end(name, event.data)
            if after == "ready" or before == "ready":
                self._pass_queue(getattr(event.data, "queue", ""), before, after)
            if event.src[0] == "a":  # the others begin with a number
                self._was_due(event.src, now_us)

    def _count_end(self, name: NameOfTask, data: Any) -> None:
        if not self.active[name]:
            del self.active[name]
        if data.attempt:
            _count(self.completions, data.queue)

    def _pass_queue(self, queue: str, before: str | None, after: str) -> None:
        if before == "ready":
            _add(self.waiting, queue, -1)
        else:
            _add(self.waiting, queue, 1)
            if before not in _BEFORE_AGAIN:
                _count(self.arrivals, queue)

    def _was_due(self, src: str, now_us: int) -> None:
        """`src` is the provenance of an event that a timer caused: `agenda/<partition>/<kind>:<task>.<mark>/<due ms>/<n>`."""
        about, due_ms, index = src.rsplit("/", 2)
        delays = self.timer_delays.get(about.split("/", 2)[2].partition(":")[0])
        if delays is not None and index == "0":
            delays.record(max(0.0, now_us / 1e6 - int(due_ms) / 1e3))

    # Read by any caller, in the thread of the loop, after `count`

    @property
    def live_tasks(self) -> int:
        """Tasks that have not ended."""
        return 0 if self._state is None else self._state.live

    def queues(self, now_us: int) -> dict[str, QueueBacklog]:
        """The tasks that wait for a worker, by queue. With more than LOOKED_AT_MAX of them, an age is that of the tasks that
        would be dispatched next."""
        if self._state is None:
            return {}
        ages: dict[str, float] = {}
        for queue, ready_us in self._ready_since(self._state):
            ages[queue] = max(ages.get(queue, 0.0), (now_us - ready_us) / 1e6)
        return {queue: QueueBacklog(depth, ages.get(queue, 0.0)) for queue, depth in self.waiting.items()}

    @staticmethod
    def _ready_since(state: PartitionState) -> Iterator[tuple[str, int]]:
        ready = state.ready
        looked_at = ready.waiting if len(ready) <= LOOKED_AT_MAX else {heap[0][2] for heap in ready.buckets.values() if heap}
        for task in looked_at:
            known = state.tasks.get(task)
            if known is not None and known.row.state == "ready" and known.row.ready_at is not None:
                yield known.row.queue, us_of(known.row.ready_at)

    def workers(self) -> Iterator[tuple[str, str]]:
        """Pool and state (active, silent, draining) of each worker whose home is this partition."""
        if self._state is not None:
            for row in self._state.worker_rows.values():
                yield row.pool, row.state


def _count(totals: dict[str, int], queue: str) -> None:
    queue = queue if queue in totals or len(totals) < QUEUES_MAX else OTHER
    totals[queue] = totals.get(queue, 0) + 1


def _add(numbers: dict[str, int], key: str, number: int) -> None:
    """Change a number, which is absent if it is 0."""
    changed = numbers.get(key, 0) + number
    if changed:
        numbers[key] = changed
    else:
        numbers.pop(key, None)

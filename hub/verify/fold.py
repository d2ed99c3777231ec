"""A second fold: rebuilds tasks from their events, without code of the engine.

Live tasks are kept completely, ended ones as a small tuple, to save memory. Rules read these values; they see the task as it
was before the event.
"""

from collections import Counter
from typing import Any, NamedTuple

from msgspec import Struct, field

from schemas import DEFAULT_POLICY, DEFAULT_RETRY, ExecutionPolicy

from .facts import Fact, time_ms
from .tables import COMMANDS_PREFIX, ENDS_OF_ATTEMPT, MET_BY, STATE_AFTER


class AttemptLease(Struct):
    """The right of one worker to one attempt. `inbox`: location of its command, as "<topic>/<partition>". `number`: the last
    accepted report, at intake offset `number_input`."""

    attempt: int
    dispatch: int
    worker: str
    token: str
    inbox: str = ""
    started: bool = False
    granted: bool = False
    number: int = 0
    number_input: int = -1


class LiveTask(Struct):
    """A task between its creation and its end.

    `shown`: the `to` of its last event that had one. `waits`: its unmet dependencies (id → on). `broken`: dependencies whose
    end did not satisfy `on` (id → on and end state), in the order of their ends. `unsure`: the end of a dependency may be
    before the start of the log. `partial`: its creation is before the start of the log; only its retained events are known.
    `last_end`, `last_end_type`: how its last attempt ended. `start_delay_ms`: delay after its creation, or after the end of
    its last dependency (`unmet_ms`). `version`, `policy`: those of its attempts; while it is `unresolved`, from its submission
    and the defaults. `given`: the parts of the policy that its submission set. `started_ms`: when the current attempt started.
    """

    id: str
    root: str
    partition: int
    run: int
    sequence: int
    namespace: str | None = None
    name: str = ""
    queue: str = "default"
    priority: int = 0
    created_ms: int = 0
    version: str | None = None
    policy: ExecutionPolicy = DEFAULT_POLICY
    unresolved: bool = False
    given: frozenset[str] = frozenset()
    start_after_ms: int = -1
    start_delay_ms: int = 0
    not_start_after_ms: int = -1
    start_seconds: float | None = None
    total_seconds: float | None = None
    state: str = ""
    shown: str | None = None
    attempt: int = 0
    dispatch: int = 0
    lease: AttemptLease | None = None
    last_end: str | None = None
    last_end_type: str = ""
    last_end_started: bool = False
    started_ms: int = -1
    errors: int = 0
    lost: int = 0
    due_ms: int = -1
    first_ready_ms: int = -1
    started_once: bool = False
    cancel_requested: bool = False
    waits: dict[str, str] = {}
    broken: dict[str, tuple[str, str]] = {}
    unsure: bool = False
    unmet_ms: int = -1
    partial: bool = False
    offset: int = -1

    @property
    def at_most_once(self) -> bool:
        """Whether its body may run only once."""
        return self.policy.delivery == "at_most_once"

    @property
    def earliest_ms(self) -> int:
        """Earliest time at which it may become ready, in ms; -1 without a delay."""
        if self.start_delay_ms:
            return (self.unmet_ms if self.unmet_ms >= 0 else self.created_ms) + self.start_delay_ms
        return self.start_after_ms


class EndedTask(NamedTuple):
    """An ended task; `runs`: number of its runs so far."""

    run: int
    sequence: int
    state: str
    partition: int
    runs: int
    at_most_once: bool


class Graph(Struct):
    """The steps of a live root: number of live steps, and number of ended ones by state."""

    live: int = 0
    ended: Counter[str] = field(default_factory=Counter)


class Fold:
    """All tasks of all partitions. `adopted`: number of tasks whose creation was not seen."""

    def __init__(self) -> None:
        self.live: dict[str, LiveTask] = {}
        self.ended: dict[str, EndedTask] = {}
        self.graphs: dict[str, Graph] = {}
        self.adopted = 0
        self._dependents: dict[str, list[str]] = {}

    def begin(self, fact: Fact, *, truncated: bool) -> LiveTask:
        """Start a run with `fact`, a task.created. `truncated`: unknown dependencies may have ended before the start of the
        log."""
        data = fact.data
        timeouts = data.timeouts
        given = {"retry": data.retry, "timeout_seconds": timeouts.attempt if timeouts else None, "delivery": data.delivery}
        task = LiveTask(
            id=fact.id,
            root=fact.root or fact.id,
            partition=fact.partition,
            run=fact.run,
            sequence=fact.sequence,
            namespace=fact.namespace,
            name=data.name,
            queue=data.queue,
            priority=data.priority,
            created_ms=fact.time_ms,
            version=data.version,
            policy=_unresolved_policy(data) if data.unresolved else data.policy,
            unresolved=data.unresolved,
            given=frozenset(name for name, value in given.items() if value is not None),
            start_after_ms=time_ms(data.start_after) if isinstance(data.start_after, str) else -1,
            start_delay_ms=int(data.start_after * 1000) if isinstance(data.start_after, int | float) else 0,
            not_start_after_ms=_ms(data.not_start_after),
            start_seconds=timeouts.start if timeouts else None,
            total_seconds=timeouts.total if timeouts else None,
            shown=fact.to_state,
            offset=fact.offset,
        )
        if data.depends_on:
            self._depend(task, fact, truncated=truncated)
        self._enter(task)
        return task

    def adopt(self, fact: Fact) -> LiveTask:
        """Add a task whose creation was not seen; it is checked from this event."""
        self.adopted += 1
        task = LiveTask(
            id=fact.id, root=fact.root or fact.id, partition=fact.partition, run=fact.run, sequence=fact.sequence, partial=True
        )
        self._enter(task)
        return task

    def forget(self, partition: int) -> None:
        """Remove all live and ended tasks of this partition."""
        for task_id in [task.id for task in self.live.values() if task.partition == partition]:
            self.graphs.pop(self.live[task_id].root, None)
            self._dependents.pop(task_id, None)
            del self.live[task_id]
        self.ended = {task_id: gone for task_id, gone in self.ended.items() if gone.partition != partition}

    def evolve(self, task: LiveTask, fact: Fact) -> None:
        """Apply an event to a live task."""
        task.sequence = fact.sequence
        task.offset = fact.offset
        step = _STEPS.get(fact.type)
        if step is not None:
            step(task, fact)
        after = STATE_AFTER.get(fact.type)
        if after is not None:
            task.state = after
        if fact.to_state is not None:
            task.shown = fact.to_state
            if fact.type == "attempt.granted":
                task.state = fact.to_state

    def end(self, task: LiveTask, fact: Fact) -> None:
        """End the run of `task` with `fact`, and update its dependents."""
        state = STATE_AFTER[fact.type]
        before = self.ended.get(task.id)
        del self.live[task.id]
        self.ended[task.id] = EndedTask(
            task.run, fact.sequence, state, task.partition, 1 + (before.runs if before else 0), task.at_most_once
        )
        self._leave(task, state)
        for dependent in self._dependents.pop(task.id, ()):
            waiting = self.live.get(dependent)
            on = waiting.waits.pop(task.id, None) if waiting is not None else None
            if waiting is not None and on is not None:
                _judge(waiting, task.id, on, state)
                waiting.unmet_ms = fact.time_ms

    def _enter(self, task: LiveTask) -> None:
        self.live[task.id] = task
        if task.root != task.id:
            self.graphs.setdefault(task.root, Graph()).live += 1

    def _leave(self, task: LiveTask, state: str) -> None:
        if task.root == task.id:
            self.graphs.pop(task.id, None)
            return
        graph = self.graphs.get(task.root)
        if graph is not None:
            graph.live -= 1
            graph.ended[state] += 1

    def _depend(self, task: LiveTask, fact: Fact, *, truncated: bool) -> None:
        task.waits, task.broken, task.unmet_ms = {}, {}, fact.time_ms
        for dependency in fact.data.depends_on:
            gone = self.ended.get(dependency.task)
            if dependency.task in self.live or gone is None:
                if truncated and dependency.task not in self.live:
                    task.unsure = True
                    continue
                task.waits[dependency.task] = dependency.on
                self._dependents.setdefault(dependency.task, []).append(task.id)
            else:
                _judge(task, dependency.task, dependency.on, gone.state)


def _unresolved_policy(data: Any) -> ExecutionPolicy:
    return ExecutionPolicy(
        retry=data.retry or DEFAULT_RETRY,
        timeout_seconds=data.timeouts.attempt if data.timeouts else None,
        delivery=data.delivery or "at_least_once",
    )


def _ms(text: str | None) -> int:
    return -1 if text is None else time_ms(text)


def _judge(task: LiveTask, dependency: str, on: str, state: str) -> None:
    if state not in MET_BY[on]:
        task.broken[dependency] = on, state


def _ready(task: LiveTask, fact: Fact) -> None:
    if task.first_ready_ms < 0:
        task.first_ready_ms = fact.time_ms
    task.due_ms = -1


def _dispatched(task: LiveTask, fact: Fact) -> None:
    data = fact.data
    task.attempt, task.dispatch, task.policy = data.attempt, data.dispatch, data.policy
    task.version, task.unresolved = data.version or task.version, False
    task.lease = AttemptLease(data.attempt, data.dispatch, data.worker, data.token, f"{COMMANDS_PREFIX}{data.pool}/{data.inbox}")


def _started(task: LiveTask, fact: Fact) -> None:
    task.started_once = True
    task.started_ms = fact.time_ms
    if task.lease is not None:
        task.lease.started = True
    _reported(task, fact)


def _granted(task: LiveTask, fact: Fact) -> None:
    if task.lease is not None:
        task.lease.granted = True
    _reported(task, fact)


def _reported(task: LiveTask, fact: Fact) -> None:
    if task.lease is not None and fact.data.number and fact.input_offset >= 0:
        task.lease.number, task.lease.number_input = fact.data.number, fact.input_offset


def _attempt_ended(task: LiveTask, fact: Fact) -> None:
    how = ENDS_OF_ATTEMPT[fact.type]
    lease, task.lease = task.lease, None
    task.last_end, task.last_end_type = how, fact.type
    task.last_end_started = lease is not None and (lease.granted if task.at_most_once else lease.started)
    if how == "failed":
        task.errors += 1
    elif how == "lost":
        task.lost += 1


def _retry_scheduled(task: LiveTask, fact: Fact) -> None:
    task.due_ms = time_ms(fact.data.next_retry_at)


def _cancel_requested(task: LiveTask, fact: Fact) -> None:
    task.cancel_requested = True


_STEPS: dict[str, Any] = {
    "task.ready": _ready,
    "task.dispatched": _dispatched,
    "task.started": _started,
    "attempt.started": _started,
    "attempt.granted": _granted,
    "task.progressed": _reported,
    "task.retry_scheduled": _retry_scheduled,
    "task.cancel_requested": _cancel_requested,
    **dict.fromkeys(ENDS_OF_ATTEMPT, _attempt_ended),
}

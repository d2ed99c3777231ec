"""What the other topics must say, given the log: the rows of `hub.state`, commands, intake, replies.

Each class takes records one by one and reports at the end through `findings`. `exact` = nothing was committed while the
topics were read; otherwise what is newer than the events that were read is counted in `newer`, not judged.
"""

from array import array
from bisect import bisect_left
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from msgspec import Struct, json

from schemas import COMMANDS, DEFAULT_POLICY, ExecutionPolicy, GrantAttempt, RunAttempt, TaskReply

from .facts import Fact, time_ms
from .fold import Ended, Fold, Lease, LiveTask
from .history import LogRecord, Starts, headers_of
from .lane import Lane
from .report import Findings
from .tables import SOFT_REPORTS

META_ROW = b"!meta"
META_OFFSET = "offset"
META_EPOCH = "epoch"
ENDED_FIELD = "ended"

_HELD = frozenset({"dispatched", "running"})
_ABSENT: Any = object()


class RowField(NamedTuple):
    """One compared field of a live task's row: its value when absent, what the fold says, and in which states it counts.

    With the default `_ABSENT` a row without the field is not compared.
    """

    name: str
    default: Any
    expected: Callable[[LiveTask], Any]
    states: frozenset[str] | None = None


@lru_cache(maxsize=256)
def _json_of(policy: bytes) -> Any:
    return json.decode(policy)


def _plain_policy(policy: ExecutionPolicy) -> Any:
    """A policy as it stands in a row."""
    return {} if policy is DEFAULT_POLICY else _json_of(json.encode(policy))


ROW_FIELDS: tuple[RowField, ...] = (
    RowField("life", None, lambda task: task.life),
    RowField("sequence", None, lambda task: task.sequence),
    RowField("state", None, lambda task: task.state),
    RowField("name", _ABSENT, lambda task: task.name),
    RowField("queue", "default", lambda task: task.queue),
    RowField("priority", 0, lambda task: task.priority),
    RowField("attempt", 0, lambda task: task.attempt, _HELD),
    RowField("dispatch", 0, lambda task: task.dispatch, _HELD),
    RowField("worker", None, lambda task: task.lease.worker if task.lease else None, _HELD),
    RowField("token", None, lambda task: task.lease.token if task.lease else None, _HELD),
    RowField("unmet", 0, lambda task: len(task.waits), frozenset({"blocked"})),
    RowField("policy", {}, lambda task: _plain_policy(task.policy) if task.dispatch else {}),
    RowField("lost", 0, lambda task: task.lost),
    RowField("cancelling", False, lambda task: task.cancel_requested),
    RowField("root", _ABSENT, lambda task: task.root),
    RowField("created_at", _ABSENT, lambda task: task.created_ms),
)
"""Compared between `task/<id>` and the fold, in this order."""


class StateRows:
    """The last row by key of each partition of `hub.state`: I10, and `!meta` (I7, I26). `unseen_tasks`: live tasks whose events
    all lie before the kept log."""

    def __init__(self) -> None:
        self.rows_read = 0
        self.unseen_tasks = 0
        self._tasks: dict[str, tuple[int, bytes]] = {}
        self._others: dict[str, tuple[int, bytes]] = {}
        self._meta: dict[int, bytes] = {}

    def take(self, partition: int, key: bytes, value: bytes | None) -> None:
        """Note a row; a later one of the same key replaces it, None removes it."""
        self.rows_read += 1
        if key == META_ROW:
            if value is not None:
                self._meta[partition] = value
            return
        kind, _, entity = key.decode(errors="replace").partition("/")
        if kind not in ("task", "engine", "worker"):
            return
        rows, name = (self._tasks, entity) if kind == "task" else (self._others, f"{kind}/{entity}")
        if value is None:
            rows.pop(name, None)
        else:
            rows[name] = (partition, value)

    def meta_offset(self, partition: int) -> int:
        """The next intake offset to decide, as `!meta` of the partition says; 0 where it says nothing."""
        offset = self._meta_fields(partition).get(META_OFFSET)
        return offset if isinstance(offset, int) else 0

    def findings(
        self, found: Findings, fold: Fold, lanes: dict[int, Lane], sequences: dict[str, tuple[int, int, int]], *, exact: bool
    ) -> int:
        """Compare everything; returns how many rows were newer than the events and left out."""
        newer = 0
        for task in fold.live.values():
            if task.id not in self._tasks:
                found.add("I10", "a live task has no row", partition=task.partition, offset=task.offset, subject=task.id)
        for task_id, (partition, value) in self._tasks.items():
            row = _object_of(value)
            if isinstance(row, str):
                found.add("I10", f"the row cannot be read: {row}", partition=partition, subject=task_id)
                continue
            newer += self._compare(found, fold, lanes, task_id, partition, row, exact)
        for entity, (partition, value) in self._others.items():
            newer += self._compare_sequence(found, sequences, lanes, entity, partition, value, exact)
        for partition, lane in lanes.items():
            self._check_meta(found, partition, lane)
        return newer

    def _compare(
        self, found: Findings, fold: Fold, lanes: dict[int, Lane], task_id: str, partition: int, row: dict[str, Any], exact: bool
    ) -> int:
        def note(message: str, offset: int | None = None) -> None:
            found.add("I10", message, partition=partition, offset=offset, subject=task_id)

        task: LiveTask | Ended | None = fold.live.get(task_id) or fold.ended.get(task_id)
        life, sequence, end = row.get("life", -1), row.get("sequence", -1), row.get(ENDED_FIELD)
        if not isinstance(life, int) or not isinstance(sequence, int):
            note(f"the row has life {life!r} and sequence {sequence!r}")
            return 0
        if task is None:
            lane = lanes.get(partition)
            if lane is not None and lane.truncated:
                self.unseen_tasks += end is None
                return 0
            from_plan = row.get("root", task_id) != task_id  # The agenda makes steps long after the record that is their life.
            if lane is not None and (exact or (life <= lane.input_last and not from_plan)):
                note("a row of a task that has no events")
            return int(not exact)
        if task.partition != partition:
            note(f"the row lies on partition {partition}, its events on {task.partition}")
        if not exact and (life, sequence) > (task.life, task.sequence):
            return 1
        if isinstance(task, Ended):
            if end is None and row.get("root", task_id) != task_id:
                end = row.get("state")  # The row of an ended step shrinks only when its workflow has ended too.
            if end is None:
                note(f"a live row, but the task is {task.state}")
            elif (end, life, sequence) != (task.state, task.life, task.sequence):
                note(f"row: {end}, life {life}, sequence {sequence}; log: {task.state}, {task.life}, {task.sequence}")
        elif end is not None:
            note(f"the row says {end}, but the task is {task.state!r} by its events", task.offset)
        else:
            differences = [text for text in (_difference(field, task, row) for field in ROW_FIELDS) if text is not None]
            if differences:
                note("row and fold differ: " + "; ".join(differences), task.offset)
        return 0

    @staticmethod
    def _compare_sequence(
        found: Findings,
        sequences: dict[str, tuple[int, int, int]],
        lanes: dict[int, Lane],
        entity: str,
        partition: int,
        value: bytes,
        exact: bool,
    ) -> int:
        row = _object_of(value)
        sequence = row if isinstance(row, str) else row.get("sequence")
        if not isinstance(sequence, int):
            found.add("I10", f"the row has no sequence ({sequence!r})", partition=partition, subject=entity)
            return 0
        known = sequences.get(entity)
        if known is None:
            lane = lanes.get(partition)
            if exact and sequence > 0 and lane is not None and not lane.truncated:
                found.add("I10", f"the row says sequence {sequence}, the log has none", partition=partition, subject=entity)
            return 0
        if known[1] != sequence:
            if not exact and sequence > known[1]:
                return 1
            found.add("I10", f"the row says sequence {sequence}, the log {known[1]}", partition=partition, subject=entity)
        return 0

    def _check_meta(self, found: Findings, partition: int, lane: Lane) -> None:
        if lane.events == 0:
            return
        if partition not in self._meta:
            found.add("I7", "hub.state has no !meta row", partition=partition)
            return
        fields = self._meta_fields(partition)
        offset, epoch = fields.get(META_OFFSET), fields.get(META_EPOCH)
        if not isinstance(offset, int) or not isinstance(epoch, int):
            found.add("I7", f"!meta has no {META_OFFSET} or no {META_EPOCH}", partition=partition)
            return
        if offset <= lane.input_last:
            found.add("I7", f"!meta stands at intake offset {offset}, but {lane.input_last} is decided", partition=partition)
        if epoch < lane.epoch:
            found.add("I26", f"!meta is of epoch {epoch}, the last event of epoch {lane.epoch}", partition=partition)

    def _meta_fields(self, partition: int) -> dict[str, Any]:
        fields = _object_of(self._meta.get(partition, b"{}"))
        return {} if isinstance(fields, str) else fields


def _difference(field: RowField, task: LiveTask, row: dict[str, Any]) -> str | None:
    if task.partial and not (field.name in ("life", "sequence") or (field.name == "state" and task.state)):
        return None
    if field.states is not None and task.state not in field.states:
        return None
    if field.name == "unmet" and task.unsure:
        return None
    said = row.get(field.name, field.default)
    if said is _ABSENT:
        return None
    if field.name == "created_at" and isinstance(said, str):
        said = _time_or_text(said)
    expected = field.expected(task)
    return None if said == expected else f"{field.name} is {said!r}, by the events {expected!r}"


def _time_or_text(text: str) -> int | str:
    try:
        return time_ms(text)
    except ValueError:
        return text


class Commands:
    """I23: run commands against dispatches, grants against grants. One number per pair that is still open.

    `starts`: where the topics begin. `partial`: how many records have a partner that may have been removed.
    """

    def __init__(self, starts: Starts) -> None:
        self.read = 0
        self.partial = 0
        self._open: dict[int, tuple[int, int, int, str, str | None]] = {}
        self._early: dict[int, tuple[str, int, RunAttempt | GrantAttempt]] = {}
        self._first_ms: dict[str, int] = {}
        self._cut = [f"{topic}/{partition}" for topic, by in starts.items() for partition, start in by.items() if start]

    def expect(self, fact: Fact, lease: Lease | None, timestamp_ms: int) -> None:
        """An event that has a command: task.dispatched or attempt.granted. `lease`: the one that it gives or is about."""
        data = fact.data
        if fact.type == "task.dispatched":
            attempt = fact.id, data.attempt, data.dispatch, data.token, data.worker
            policy = data.policy.max_attempts, data.policy.timeout_seconds, data.policy.delivery
            mark = hash(("run", *attempt, *policy, fact.partition, fact.root, lease.inbox if lease else None))
        else:
            mark = hash(("grant", fact.id, data.attempt, data.token, data.worker or (lease.worker if lease else None)))
        if self._early.pop(mark, None) is None:
            self._open[mark] = (fact.partition, fact.offset, timestamp_ms, fact.id, lease.inbox if lease else None)

    def take(self, topic: str, partition: int, record: LogRecord, found: Findings) -> None:
        """A command record of `topic`."""
        self.read += 1
        place = f"{topic} partition {partition} offset {record.offset}"
        self._first_ms.setdefault(f"{topic}/{partition}", record.timestamp_ms)
        headers = headers_of(record)
        kind = headers.get("ce_type", b"").decode(errors="replace")
        struct = COMMANDS.get(kind)
        if struct is None:
            found.add("I32", f"{place}: {kind!r} is no command")
            return
        try:
            command = json.decode(record.value or b"", type=struct)
        except (ValueError, RecursionError) as error:
            found.add("I32", f"{place}: {kind} does not fit its schema: {error}")
            return
        worker = headers.get("worker", b"").decode(errors="replace")
        if isinstance(command, RunAttempt):
            attempt = command.task, command.attempt, command.dispatch, command.token, worker
            policy = command.max_attempts, command.timeout_seconds, command.delivery
            mark = hash(("run", *attempt, *policy, command.partition, command.root, f"{topic}/{partition}"))
        elif isinstance(command, GrantAttempt):
            mark = hash(("grant", command.task, command.attempt, command.token, worker))
        else:
            return
        if self._open.pop(mark, None) is None:
            if mark in self._early:
                found.add("I23", f"{place}: {kind} of attempt {command.attempt} is issued twice", subject=command.task)
            self._early[mark] = (place, record.timestamp_ms, command)

    def findings(self, found: Findings, fold: Fold, lanes: dict[int, Lane], *, exact: bool, grace_ms: int) -> int:
        """What has no partner; returns how many were newer than the events and left out.

        What is not later than the oldest record of a place whose beginning was removed may have had its partner there: the two
        are written with one timestamp.
        """
        newer = 0
        latest = max((row[2] for row in self._open.values()), default=0)
        for partition, offset, timestamp_ms, task_id, inbox in self._open.values():
            if self._may_be_removed(inbox, timestamp_ms):
                self.partial += 1
                continue
            if not exact and timestamp_ms + grace_ms > latest:
                newer += 1
                continue
            found.add("I23", "no command matches this event", partition=partition, offset=offset, subject=task_id)
        for place, timestamp_ms, command in self._early.values():
            if _event_may_be_removed(command, timestamp_ms, lanes):
                self.partial += 1
                continue
            task = fold.live.get(command.task)
            if not exact and command.task not in fold.ended and (task is None or _is_newer(command, task)):
                newer += 1
                continue
            found.add("I23", f"{place}: attempt {command.attempt} has no event of its own", subject=command.task)
        return newer

    def _may_be_removed(self, inbox: str | None, timestamp_ms: int) -> bool:
        """Whether a command of this time may have been removed from the inbox (None: from some inbox)."""
        cut = [place for place in self._cut if inbox in (None, place)]
        return any(place not in self._first_ms or timestamp_ms <= self._first_ms[place] for place in cut)


def _event_may_be_removed(command: RunAttempt | GrantAttempt, timestamp_ms: int, lanes: dict[int, Lane]) -> bool:
    partition = command.partition if isinstance(command, RunAttempt) else None
    cut = [lane for number, lane in lanes.items() if lane.truncated and partition in (None, number)]
    return any(lane.events == 0 or timestamp_ms <= lane.first_ms for lane in cut)


def _is_newer(command: RunAttempt | GrantAttempt, task: LiveTask) -> bool:
    if isinstance(command, RunAttempt):
        return (command.attempt, command.dispatch) > (task.attempt, task.dispatch)
    return task.lease is None or not task.lease.granted or command.attempt > task.attempt


class Intake:
    """I31: each record of `hub.intake` was decided, is soft, or its turn has not come; I6: every src names a record there.

    `starts`: where its partitions begin. Only what was decided may be removed. `partial`: how many records were decided before
    the kept log, if they were.
    """

    def __init__(self, starts: Mapping[int, int]) -> None:
        self.read = 0
        self.partial = 0
        self._starts = starts
        self._offsets: dict[int, array[int]] = {}
        self._silent: dict[int, array[int]] = {}

    def take(self, partition: int, record: LogRecord, lane: Lane | None) -> None:
        """A record of intake, in offset order."""
        self.read += 1
        self._offsets.setdefault(partition, array("q")).append(record.offset)
        if (lane is None or not lane.has_decided(record.offset)) and _report_type(record) not in SOFT_REPORTS:
            self._silent.setdefault(partition, array("q")).append(record.offset)

    def findings(self, found: Findings, lanes: dict[int, Lane], rows: StateRows, *, exact: bool) -> None:
        """Report what nobody accounted for; where the log's beginning was deleted, only from its first cause on."""
        for lane in lanes.values():
            lane.sort()
        for partition, start in self._starts.items():
            if start > (decided_to := rows.meta_offset(partition)):
                message = f"hub.intake begins at offset {start}, but only offsets below {decided_to} are decided"
                found.add("I31", message, partition=partition)
        for partition, offsets in self._silent.items():
            known = lanes.get(partition)
            decided_to = rows.meta_offset(partition)
            if known is not None and not exact:
                decided_to = min(decided_to, known.input_last + 1)
            decided_from = _first_decided(known, decided_to)
            self.partial += sum(offset < decided_from for offset in offsets)
            for offset in offsets:
                if decided_from <= offset < decided_to and not (known is not None and known.has_decided(offset)):
                    found.add("I31", f"hub.intake offset {offset} was passed over without a trace", partition=partition)
        for partition, lane in lanes.items():
            present = self._offsets.get(partition, array("q"))
            for offset in lane.decided if present else ():
                at = bisect_left(present, offset)
                if offset >= present[0] and (at == len(present) or present[at] != offset):
                    found.add("I6", f"src names hub.intake offset {offset}, which holds no record", partition=partition)


def _first_decided(lane: Lane | None, decided_to: int) -> int:
    """From which offset on a record must have left a trace in the kept log."""
    if lane is None or not lane.truncated:
        return 0
    return lane.decided[0] if lane.decided else decided_to


class Replies:
    """R1: replies that tell of an end. `partial`: how many tell of an end that may have been removed."""

    def __init__(self) -> None:
        self.read = 0
        self.partial = 0

    def take(
        self, partition: int, record: LogRecord, fold: Fold, lanes: dict[int, Lane], found: Findings, *, exact: bool
    ) -> None:
        """A record of `hub.replies`, after all events."""
        self.read += 1
        place = f"hub.replies partition {partition} offset {record.offset}"
        try:
            reply = json.decode(record.value or b"", type=TaskReply)
        except (ValueError, RecursionError) as error:
            found.add("I32", f"{place}: the reply does not fit its schema: {error}")
            return
        if reply.kind != "ended":
            return
        ended, lane = fold.ended.get(reply.task), lanes.get(reply.partition)
        if ended is not None and (ended.lives > 1 or (reply.state, reply.sequence) == (ended.state, ended.sequence)):
            return
        if lane is not None and lane.truncated:
            self.partial += 1
        elif ended is None:
            if exact:
                found.add("R1", f"{place} says {reply.state}, but the log knows no end", subject=reply.task)
        else:
            found.add(
                "R1",
                f"{place} says {reply.state} at sequence {reply.sequence}, the log {ended.state} at {ended.sequence}",
                partition=ended.partition,
                subject=reply.task,
            )


class _Typed(Struct):
    type: str = ""


def _report_type(record: LogRecord) -> str:
    named = headers_of(record).get("ce_type")
    if named is not None:
        return named.decode(errors="replace")
    try:
        return json.decode(record.value or b"", type=_Typed).type
    except (ValueError, RecursionError):
        return ""


def _object_of(value: bytes) -> dict[str, Any] | str:
    """A row's fields, or why it has none."""
    try:
        fields = json.decode(value)
    except (ValueError, RecursionError) as error:
        return str(error)
    return fields if isinstance(fields, dict) else "it is not an object"

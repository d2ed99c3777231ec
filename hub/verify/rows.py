"""Checks `hub.state` against the log: the last row of every key equals the fold of its events (I10); `!meta` (I7, I26)."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

from msgspec import json

from schemas import DEFAULT_POLICY, OBSERVED_KINDS, ExecutionPolicy

from .definitions import DefinitionBook
from .facts import time_ms
from .fold import EndedTask, Fold, LiveTask
from .partition_book import PartitionBook
from .report import Findings

META_ROW = b"!meta"
META_OFFSET = "offset"
META_EPOCH = "epoch"
ENDED_FIELD = "ended"

_HELD = frozenset({"dispatched", "running"})
_ABSENT: Any = object()


class RowField(NamedTuple):
    """A field of a live task's row to compare: its default, its value in the fold, and the states in which it is compared. A
    name with a dot refers to a field of a part of the row.

    With the default `_ABSENT` the field is not compared if the row lacks it.
    """

    name: str
    default: Any
    expected: Callable[[LiveTask], Any]
    states: frozenset[str] | None = None


@lru_cache(maxsize=256)
def _json_of(policy: bytes) -> Any:
    return json.decode(policy)


def _plain_policy(policy: ExecutionPolicy) -> Any:
    """A policy in the format of a row."""
    return {} if policy is DEFAULT_POLICY else _json_of(json.encode(policy))


ROW_FIELDS: tuple[RowField, ...] = (
    RowField("run", None, lambda task: task.run),
    RowField("sequence", None, lambda task: task.sequence),
    RowField("state", None, lambda task: task.state),
    RowField("name", _ABSENT, lambda task: task.name),
    RowField("queue", "default", lambda task: task.queue),
    RowField("priority", 0, lambda task: task.priority),
    RowField("attempt", 0, lambda task: task.attempt, _HELD),
    RowField("dispatch", 0, lambda task: task.dispatch, _HELD),
    RowField("lease.worker", None, lambda task: task.lease.worker if task.lease else None, _HELD),
    RowField("lease.token", None, lambda task: task.lease.token if task.lease else None, _HELD),
    RowField("unmet", 0, lambda task: len(task.waits), frozenset({"blocked"})),
    RowField("version", None, lambda task: task.version),
    RowField("unresolved", False, lambda task: task.unresolved),
    RowField("policy", {}, lambda task: {} if task.unresolved else _plain_policy(task.policy)),
    RowField("lost", 0, lambda task: task.lost),
    RowField("cancel", None, lambda task: task.cancel_requested),
    RowField("root", _ABSENT, lambda task: task.root),
    RowField("created_at", _ABSENT, lambda task: task.created_ms),
)
"""Fields of `task/<id>` that are compared with the fold, in this order."""


class StateRows:
    """The last row by key of each partition of `hub.state`: I10, and `!meta` (I7, I26). `unseen_tasks`: live tasks whose
    events are all before the log start."""

    def __init__(self) -> None:
        self.rows_read = 0
        self.unseen_tasks = 0
        self._tasks: dict[str, tuple[int, bytes]] = {}
        self._others: dict[str, tuple[int, bytes]] = {}
        self._meta: dict[int, bytes] = {}

    def take(self, partition: int, key: bytes, value: bytes | None) -> None:
        """Add a row; it replaces an earlier one with the same key, None removes it."""
        self.rows_read += 1
        if key == META_ROW:
            if value is not None:
                self._meta[partition] = value
            return
        kind, _, entity = key.decode(errors="replace").partition("/")
        if kind not in ("task", "engine", "worker", "definition", *OBSERVED_KINDS):
            return
        rows, name = (self._tasks, entity) if kind == "task" else (self._others, f"{kind}/{entity}")
        if value is None:
            rows.pop(name, None)
        else:
            rows[name] = (partition, value)

    def meta_offset(self, partition: int) -> int:
        """The next intake offset to process in `!meta` of the partition; 0 if missing."""
        offset = self._meta_fields(partition).get(META_OFFSET)
        return offset if isinstance(offset, int) else 0

    def findings(
        self,
        found: Findings,
        fold: Fold,
        books: dict[int, PartitionBook],
        sequences: dict[str, tuple[int, int, int]],
        definitions: DefinitionBook,
        *,
        exact: bool,
    ) -> int:
        """Compare all rows. Returns how many were newer than the events, and skipped."""
        newer = 0
        for task in fold.live.values():
            if task.id not in self._tasks:
                found.add("I10", "a live task has no row", partition=task.partition, offset=task.offset, subject=task.id)
        for task_id, (partition, value) in self._tasks.items():
            row = _object_of(value)
            if isinstance(row, str):
                found.add("I10", f"invalid row: {row}", partition=partition, subject=task_id)
                continue
            newer += self._compare(found, fold, books, task_id, partition, row, exact)
        for entity, (partition, value) in self._others.items():
            newer += self._compare_sequence(found, sequences, books, entity, partition, value, exact)
            if exact and entity.startswith("definition/") and (book := books.get(partition)) and not book.truncated:
                self._compare_definition(found, definitions, entity, partition, value)
        for partition, book in books.items():
            self._check_meta(found, partition, book)
        return newer

    def _compare(
        self,
        found: Findings,
        fold: Fold,
        books: dict[int, PartitionBook],
        task_id: str,
        partition: int,
        row: dict[str, Any],
        exact: bool,
    ) -> int:
        def note(message: str, offset: int | None = None) -> None:
            found.add("I10", message, partition=partition, offset=offset, subject=task_id)

        task: LiveTask | EndedTask | None = fold.live.get(task_id) or fold.ended.get(task_id)
        run, sequence, end = row.get("run", -1), row.get("sequence", -1), row.get(ENDED_FIELD)
        if not isinstance(run, int) or not isinstance(sequence, int):
            note(f"the row has run {run!r} and sequence {sequence!r}")
            return 0
        if task is None:
            book = books.get(partition)
            if book is not None and book.truncated:
                self.unseen_tasks += end is None
                return 0
            from_plan = row.get("root", task_id) != task_id  # a step may be created long after the record whose offset is its run
            if book is not None and (exact or (run <= book.input_last and not from_plan)):
                note("the row belongs to a task without events")
            return int(not exact)
        if task.partition != partition:
            note(f"the row is on partition {partition}, the events of its task on {task.partition}")
        if not exact and (run, sequence) > (task.run, task.sequence):
            return 1
        if isinstance(task, EndedTask):
            if end is None and row.get("root", task_id) != task_id:
                end = row.get("state")  # the row of an ended step is reduced only after its workflow has ended
            if end is None:
                note(f"the row is live, but the task is {task.state}")
            elif (end, run, sequence) != (task.state, task.run, task.sequence):
                note(f"row: {end}, run {run}, sequence {sequence}; log: {task.state}, {task.run}, {task.sequence}")
        elif end is not None:
            note(f"the row has state {end}, but by its events the task is {task.state!r}", task.offset)
        else:
            differences = [text for text in (_difference(field, task, row) for field in ROW_FIELDS) if text is not None]
            if differences:
                note("the row differs from the fold: " + "; ".join(differences), task.offset)
        return 0

    @staticmethod
    def _compare_sequence(
        found: Findings,
        sequences: dict[str, tuple[int, int, int]],
        books: dict[int, PartitionBook],
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
            book = books.get(partition)
            if exact and sequence > 0 and book is not None and not book.truncated:
                found.add(
                    "I10", f"the row has sequence {sequence}, but the log has no event", partition=partition, subject=entity
                )
            return 0
        if known[1] != sequence:
            if not exact and sequence > known[1]:
                return 1
            found.add("I10", f"the row has sequence {sequence}, the log has {known[1]}", partition=partition, subject=entity)
        return 0

    @staticmethod
    def _compare_definition(found: Findings, definitions: DefinitionBook, entity: str, partition: int, value: bytes) -> None:
        row = _object_of(value)
        problem = None if isinstance(row, str) else definitions.difference(entity, row)
        if problem is not None:
            found.add("I10", problem, partition=partition, subject=entity)

    def _check_meta(self, found: Findings, partition: int, book: PartitionBook) -> None:
        if book.events == 0:
            return
        if partition not in self._meta:
            found.add("I7", "hub.state has no !meta row", partition=partition)
            return
        fields = self._meta_fields(partition)
        offset, epoch = fields.get(META_OFFSET), fields.get(META_EPOCH)
        if not isinstance(offset, int) or not isinstance(epoch, int):
            found.add("I7", f"!meta lacks {META_OFFSET} or {META_EPOCH}", partition=partition)
            return
        if offset <= book.input_last:
            found.add("I7", f"!meta has intake offset {offset}, but {book.input_last} was already processed", partition=partition)
        if epoch < book.epoch:
            found.add("I26", f"!meta has epoch {epoch}, the last event has {book.epoch}", partition=partition)

    def _meta_fields(self, partition: int) -> dict[str, Any]:
        fields = _object_of(self._meta.get(partition, b"{}"))
        return {} if isinstance(fields, str) else fields


def _difference(field: RowField, task: LiveTask, row: dict[str, Any]) -> str | None:
    if task.partial and not (field.name in ("run", "sequence") or (field.name == "state" and task.state)):
        return None
    if field.states is not None and task.state not in field.states:
        return None
    if field.name == "unmet" and task.unsure:
        return None
    said = _field_of(row, field)
    if said is _ABSENT:
        return None
    if field.name == "cancel":
        said = said is not None
    if field.name == "created_at" and isinstance(said, str):
        said = _time_or_text(said)
    expected = field.expected(task)
    return None if said == expected else f"{field.name} is {said!r}, expected {expected!r} from the events"


def _field_of(row: dict[str, Any], field: RowField) -> Any:
    part, _, name = field.name.rpartition(".")
    fields = row.get(part) if part else row
    return fields.get(name, field.default) if isinstance(fields, dict) else field.default


def _time_or_text(text: str) -> int | str:
    try:
        return time_ms(text)
    except ValueError:
        return text


def _object_of(value: bytes) -> dict[str, Any] | str:
    """The fields of a row, or the reason why it cannot be decoded."""
    try:
        fields = json.decode(value)
    except (ValueError, RecursionError) as error:
        return str(error)
    return fields if isinstance(fields, dict) else "not a JSON object"

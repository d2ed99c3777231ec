"""The check: takes records topic by topic and returns a report.

`check` takes a whole history. `Checker` takes records one by one, so that a long log need not fit into memory: events of a
partition in offset order, other topics in any order. `finish` compares across topics.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from schemas import CATALOGUE, TERMINAL_TYPES

from .books import IntakeBook, Replies
from .commands import Commands
from .definitions import DefinitionBook
from .facts import Fact, Unreadable, read_fact
from .fold import EndedTask, Fold, LiveTask
from .history import Execution, History, LogRecord, Options, Starts, SubscriberJournal
from .invariants import INVARIANTS
from .journals import LogIndex, check_executions, check_journal
from .partition_book import PartitionBook
from .placement import partition_of_root
from .report import Findings, Prefix, VerificationReport
from .rows import StateRows
from .tables import COMMANDS_PREFIX, EVENTS, INTAKE, STARTS
from .task_rules import Rule, rules_of


class Checker:
    """Verifies one log. `partitions`: number of partitions of `hub.events`; `starts`: log start offset by topic and partition,
    0 if absent."""

    def __init__(
        self,
        partitions: int,
        options: Options | None = None,
        *,
        starts: Starts | None = None,
        acknowledged: Iterable[str] | None = None,
        journals: list[SubscriberJournal] | None = None,
        executions: Iterable[Execution] | None = None,
    ) -> None:
        self.options = options or Options()
        self.found = Findings()
        self.fold = Fold()
        self._starts = {topic: dict(by) for topic, by in (starts or {}).items()}
        self.commands = Commands(self._starts)
        self.definitions = DefinitionBook(self._starts.get(INTAKE, {}))
        self.rows = StateRows()
        self.intake = IntakeBook(self._starts.get(INTAKE, {}))
        self.replies = Replies()
        self.inputs = {"require_all_ended"} if self.options.require_all_ended else set()
        if self.options.earlier:
            self.inputs.add("earlier")
        self._partitions = partitions
        self._books = {
            partition: PartitionBook(
                partition, self._starts.get(EVENTS, {}).get(partition, 0), self.options.earlier.get(partition)
            )
            for partition in range(partitions)
        }
        self._rules: dict[str, tuple[Rule, ...]] = {name: rules_of(name) for name in CATALOGUE}
        self._sequences: dict[str, tuple[int, int, int]] = {}
        self._keys: dict[int, tuple[str, str | None, int, float]] = {}
        self._refused: set[str] = set()
        self._granted: set[str] = set()
        self._acknowledged = self._given("acknowledged", None if acknowledged is None else Counter(acknowledged))
        self._journals = self._given("journals", journals)
        self._executions = self._given("executions", executions)
        self._index = LogIndex() if journals is not None else None
        self._began = time.perf_counter()

    def event(self, partition: int, record: LogRecord) -> None:
        """Add a record of `hub.events`; in offset order within a partition."""
        book = self._books[partition]
        for invariant, message in book.pass_record(record):
            self._note(invariant, message, partition, record.offset)
        problems: list[str] = []
        try:
            fact = read_fact(partition, record, problems)
        except (Unreadable, UnicodeDecodeError) as error:
            self._note("I32", str(error), partition, record.offset)
            return
        for problem in problems:
            self._at("I32", problem, fact)
        for invariant, message in book.pass_fact(fact):
            self._at(invariant, message, fact)
        if self._index is not None:
            self._index.add(partition, record.offset, fact.src, fact.type)
        try:
            if fact.kind == "task":
                self._task_event(fact, book, record.timestamp_ms)
            else:
                self._entity_event(fact, book)
        except ValueError as error:
            self._at("I32", f"a time in the data is malformed: {error}", fact)

    def command(self, topic: str, partition: int, record: LogRecord) -> None:
        """Add a record of `hub.commands.<pool>`."""
        self.inputs.add("commands")
        self.commands.take(topic, partition, record, self.found)

    def row(self, partition: int, key: bytes, value: bytes | None) -> None:
        """Add a record of `hub.state`, in offset order (or the last record of each key, in any order)."""
        self.inputs.add("state")
        self.rows.take(partition, key, value)

    def intake_record(self, partition: int, record: LogRecord) -> None:
        """Add a record of `hub.intake`, in offset order."""
        self.inputs.add("intake")
        self.intake.take(partition, record, self._books.get(partition))
        self.definitions.intake_record(partition, record)

    def reply(self, partition: int, record: LogRecord, *, exact: bool = True) -> None:
        """Add a record of `hub.replies`, after all events."""
        self.inputs.add("replies")
        self.replies.take(partition, record, self.fold, self._books, self.found, exact=exact)

    def removed(self, topic: str, partition: int, start: int) -> None:
        """Records of `topic` that were not yet added have been deleted: the partition now starts at offset `start`.

        Discards everything known of a partition of `hub.events`, because the content of the gap is unknown.
        """
        self._starts.setdefault(topic, {})[partition] = start
        if topic == EVENTS:
            self._books[partition] = PartitionBook(partition, start)
            self.fold.forget(partition)
            self.definitions.forget(partition)
            self._sequences = {entity: known for entity, known in self._sequences.items() if known[2] != partition}
        elif topic == INTAKE:
            self.intake.removed(partition)
            self.definitions.removed(partition)
        elif topic.startswith(COMMANDS_PREFIX):
            self.commands.removed(topic, partition)

    def finish(self, *, exact: bool = True) -> VerificationReport:
        """Compare across topics and return the report. `exact`: nothing was committed while the topics were read."""
        newer = 0
        for book in self._books.values():
            for invariant, message in book.changed_prefix():
                self._note(invariant, message, book.partition)
        if "state" in self.inputs:
            newer += self.rows.findings(self.found, self.fold, self._books, self._sequences, self.definitions, exact=exact)
        if "commands" in self.inputs:
            grace_ms = int(self.options.grace_seconds * 1000)
            newer += self.commands.findings(self.found, self.fold, self._books, exact=exact, grace_ms=grace_ms)
        if {"intake", "state"} <= self.inputs:
            self.intake.findings(self.found, self._books, self.rows, exact=exact)
        if "intake" in self.inputs:
            self.definitions.findings(self.found)
        self._check_ends()
        if self._acknowledged is not None:
            self._check_acknowledged(self._acknowledged)
        for journal in self._journals or ():
            if self._index is not None:
                check_journal(journal, self._index, self.found, exact=exact)
        if self._executions is not None:
            check_executions(self._executions, self.fold, self._granted, self.found)
        return self._report(exact, newer)

    @property
    def _truncated(self) -> bool:
        return any(book.truncated for book in self._books.values())

    def _given(self, name: str, value: Any) -> Any:
        if value is not None:
            self.inputs.add(name)
        return value

    def _note(self, invariant: str, message: str, partition: int, offset: int | None = None, subject: str | None = None) -> None:
        self.found.add(invariant, message, partition=partition, offset=offset, subject=subject)

    def _at(self, invariant: str, message: str, fact: Fact) -> None:
        subject = fact.id if fact.kind == "task" else fact.entity
        self.found.add(invariant, message, partition=fact.partition, offset=fact.offset, subject=subject)

    def _all_at(self, invariant: str, messages: Iterable[str], fact: Fact) -> None:
        for message in messages:
            self._at(invariant, message, fact)

    def _task_event(self, fact: Fact, book: PartitionBook, timestamp_ms: int) -> None:
        task = self.fold.live.get(fact.id)
        if task is None or fact.run != task.run or fact.type == "task.created":
            if not self._begin(fact, task, book):
                return
            task = self.fold.live[fact.id]
            if fact.type == "task.created":
                if not book.truncated:
                    self._all_at("D1", self.definitions.check_created(fact), fact)
                return
        else:
            for rule in self._rules[fact.type]:
                message = rule.check(fact, task, self.fold) if not task.partial or rule.applies_to(task) else None
                if message is not None:
                    self._at(rule.invariant, message, fact)
        if fact.type == "task.dispatched" and task.unresolved and not book.truncated:
            self._all_at("D1", self.definitions.check_fixed(fact, task), fact)
        self.fold.evolve(task, fact)
        if fact.type in ("task.dispatched", "attempt.granted"):
            self.commands.expect(fact, task.lease, timestamp_ms)
            if fact.type == "attempt.granted":
                self._granted.add(fact.id)
            else:
                self.definitions.expect(fact, task)
        if fact.type in TERMINAL_TYPES:
            self.fold.end(task, fact)

    def _begin(self, fact: Fact, task: LiveTask | None, book: PartitionBook) -> bool:
        """Whether the event belongs to a live task and remains to be checked; otherwise it was checked here."""

        def note(invariant: str, message: str) -> None:
            self._at(invariant, message, fact)

        gone = self.fold.ended.get(fact.id)
        if task is not None:
            if fact.run == task.run:
                note("I3", f"created a second time at sequence {fact.sequence}, after sequence {task.sequence}")
            else:
                note("I8", f"event of run {fact.run}, but run {task.run} has not ended")
            return False
        if gone is not None and fact.run <= gone.run:
            self._after_the_end(fact, gone)
            return False
        if fact.type != "task.created":
            if not book.may_begin_before(fact.run):
                note("I3", f"the first event of run {fact.run} is {fact.type} with sequence {fact.sequence}, not task.created")
            self.fold.adopt(fact)
            return True
        if fact.sequence != 1:
            note("I3", f"task.created has sequence {fact.sequence}, expected 1")
        if gone is not None and gone.partition != fact.partition:
            note("I3", f"an earlier run was on partition {gone.partition}")
        if fact.input_offset >= 0 and fact.run != fact.input_offset:
            note("I3", f"run {fact.run} was created from intake offset {fact.input_offset}")
        root = self.fold.live.get(fact.root or "")
        if fact.due_ms >= 0 and root is not None and not root.partial and fact.run != root.run:
            note("I3", f"step with run {fact.run}, but its root has run {root.run}")
        if fact.root is not None and partition_of_root(fact.root, self._partitions) != fact.partition:
            wanted = partition_of_root(fact.root, self._partitions)
            note("I22", f"root {fact.root} belongs on partition {wanted} of {self._partitions}")
        orphan = fact.root not in (None, fact.id) and fact.root not in self.fold.live
        if orphan and (not book.truncated or fact.root in self.fold.ended):
            note("I8", f"step of root {fact.root}, which is not live")
        self._check_key(fact, note)
        self.fold.begin(fact, truncated=book.truncated)
        return True

    def _after_the_end(self, fact: Fact, gone: EndedTask) -> None:
        if gone.state == "cancelled" and fact.type in STARTS:
            self._at("I35", f"{fact.type} after the task was cancelled", fact)
        else:
            said = f"{fact.type} of run {fact.run}, sequence {fact.sequence}"
            self._at("I8", f"{said} after the end: run {gone.run} was {gone.state} at sequence {gone.sequence}", fact)

    def _check_key(self, fact: Fact, note: Callable[[str, str], None]) -> None:
        data = fact.data
        if data.idempotency_key is None:
            return
        scope = fact.namespace if fact.root == fact.id else fact.root
        mark = hash((scope, data.idempotency_key))
        known = self._keys.get(mark)
        if known is not None:
            task_id, payload, created_ms, window = known
            if fact.time_ms - created_ms < window * 1000:
                if task_id != fact.id:
                    note("I19", f"its idempotency key belongs to task {task_id}")
                elif payload != data.payload_hash:
                    note("I19", "its idempotency key belonged to another payload")
                else:
                    note("I19", "created a second time within the window of its idempotency key")
        self._keys[mark] = (fact.id, data.payload_hash, fact.time_ms, data.idempotency_window or 0.0)

    def _entity_event(self, fact: Fact, book: PartitionBook) -> None:
        """Check an event of a worker, a definition or the engine: its sequence; notes definitions and rejected submissions."""
        known = self._sequences.get(fact.entity)
        if known is None or fact.run > known[0]:
            if fact.sequence != 1 and not (book.may_begin_before(fact.run) and known is None):
                self._at("I3", f"run {fact.run} starts with sequence {fact.sequence}, expected 1", fact)
        elif (fact.run, fact.sequence, fact.partition) != (known[0], known[1] + 1, known[2]):
            before = f"run {known[0]}, sequence {known[1]} of partition {known[2]}"
            self._at("I3", f"run {fact.run}, sequence {fact.sequence} follows {before}", fact)
        self._sequences[fact.entity] = (fact.run, fact.sequence, fact.partition)
        if fact.kind == "engine" and fact.id != str(fact.partition):
            self._at("I3", f"event of {fact.entity} on partition {fact.partition}", fact)
        if fact.kind == "definition":
            problem = self.definitions.take(fact)
            if problem is not None and not book.truncated:
                self._at("D1", problem, fact)
        if fact.type == "worker.registered":
            self.definitions.registered(fact)
        elif fact.type == "task.deduplicated":
            self._refused.add(fact.data.task)
            if fact.data.task not in self.fold.live and fact.data.task not in self.fold.ended and not book.truncated:
                self._at("I1", f"deduplicated against {fact.data.task}, which was never created", fact)
        elif fact.type == "task.rejected" and fact.data.task is not None and fact.data.report == "task.created":
            self._refused.add(fact.data.task)

    def _check_ends(self) -> None:
        """I2, I12 and I33: tasks without an end at the end of the log."""
        for task in self.fold.live.values():
            book = self._books[task.partition]
            waited = book.time_ms - task.unmet_ms
            late = waited >= self.options.wake_seconds * 1000
            if not task.partial and task.state == "blocked" and not task.waits and not task.unsure and late:
                why = f"{len(task.broken)} unsatisfied" if task.broken else "all satisfied"
                message = f"still blocked {waited} ms after its dependencies ended ({why})"
                self._note("I12", message, task.partition, task.offset, task.id)
            if task.state == "" and not task.partial:
                self._note("I12", "no event follows task.created", task.partition, task.offset, task.id)
            if self.options.require_all_ended:
                self._note("I2", f"has not ended: {task.state or 'unknown'}", task.partition, task.offset, task.id)
                if task.state == "ready":
                    self._note("I33", "still ready, waiting for a worker", task.partition, task.offset, task.id)

    def _check_acknowledged(self, acknowledged: Counter[str]) -> None:
        for task_id in acknowledged:
            gone = self.fold.ended.get(task_id)
            runs = (gone.runs if gone else 0) + int(task_id in self.fold.live)
            if runs == 0 and task_id not in self._refused and not self._truncated:
                self.found.add("I1", "acknowledged, but neither created nor rejected", subject=task_id)
            elif runs > 1:
                self.found.add("I1", f"acknowledged once, created {runs} times", subject=task_id)

    def _report(self, exact: bool, newer: int) -> VerificationReport:
        checked = [row.id for row in INVARIANTS.values() if set(row.reads) <= self.inputs]
        prefixes: dict[int, Prefix] = {partition: book.prefix for partition, book in self._books.items()}
        return VerificationReport(
            events=sum(book.events for book in self._books.values()),
            tasks=sum(gone.runs for gone in self.fold.ended.values()) + len(self.fold.live),
            live_tasks=len(self.fold.live),
            ended_tasks=sum(gone.runs for gone in self.fold.ended.values()),
            commands=self.commands.read,
            state_rows=self.rows.rows_read,
            intake_records=self.intake.read,
            replies=self.replies.read,
            partitions=self._partitions,
            seconds=time.perf_counter() - self._began,
            exact=exact,
            newer=newer,
            findings=self.found.kept,
            counts=dict(self.found.counts),
            checked=checked,
            skipped=[name for name in INVARIANTS if name not in checked],
            prefixes=prefixes,
            starts={topic: moved for topic, by in self._starts.items() if (moved := {n: at for n, at in by.items() if at})},
            partial_tasks=self.fold.adopted + self.rows.unseen_tasks,
            partial_records=self.commands.partial + self.intake.partial + self.replies.partial,
        )


def check(history: History, options: Options | None = None) -> VerificationReport:
    """Verify a whole history, whose topics were read after the last commit."""
    checker = Checker(
        history.partitions,
        options,
        starts=history.starts,
        acknowledged=history.acknowledged,
        journals=history.journals,
        executions=history.executions,
    )
    for partition, records in history.events.items():
        for record in records:
            checker.event(partition, record)
    for name, given in (("state", history.state), ("commands", history.commands), ("intake", history.intake)):
        if given is not None:
            checker.inputs.add(name)
    for partition, rows in (history.state or {}).items():
        for key, value in rows.items():
            checker.row(partition, key, value)
    for topic, parts in (history.commands or {}).items():
        for partition, records in parts.items():
            for record in records:
                checker.command(topic, partition, record)
    for partition, records in (history.intake or {}).items():
        for record in records:
            checker.intake_record(partition, record)
    for partition, records in (history.replies or {}).items():
        for record in records:
            checker.reply(partition, record)
    return checker.finish()

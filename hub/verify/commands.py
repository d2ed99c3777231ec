"""Checks the inboxes of workers against the log: one command for each dispatch and each grant (I23)."""

from msgspec import json

from schemas import COMMANDS, ExecuteAttempt, GrantAttempt

from .facts import Fact
from .fold import AttemptLease, Fold, LiveTask
from .history import LogRecord, Starts, headers_of
from .partition_book import PartitionBook
from .report import Findings


class Commands:
    """I23: matches commands with dispatches and grants. Stores one hash per unmatched event.

    `starts`: log start offsets. `partial`: number of records whose counterpart may have been removed.
    """

    def __init__(self, starts: Starts) -> None:
        self.read = 0
        self.partial = 0
        self._open: dict[int, tuple[int, int, int, str, str | None]] = {}
        self._early: dict[int, tuple[str, int, ExecuteAttempt | GrantAttempt]] = {}
        self._first_ms: dict[str, int] = {}
        self._cut = {f"{topic}/{partition}" for topic, by in starts.items() for partition, start in by.items() if start}

    def expect(self, fact: Fact, lease: AttemptLease | None, timestamp_ms: int) -> None:
        """Add an event that has a command: task.dispatched or attempt.granted. `lease`: the lease of that attempt."""
        data = fact.data
        if fact.type == "task.dispatched":
            attempt = fact.id, data.attempt, data.dispatch, data.token, data.worker
            policy = data.policy.max_attempts, data.policy.timeout_seconds, data.policy.delivery
            mark = hash(("execute", *attempt, *policy, fact.partition, fact.root, lease.inbox if lease else None))
        else:
            mark = hash(("grant", fact.id, data.attempt, data.token, data.worker or (lease.worker if lease else None)))
        if self._early.pop(mark, None) is None:
            self._open[mark] = (fact.partition, fact.offset, timestamp_ms, fact.id, lease.inbox if lease else None)

    def take(self, topic: str, partition: int, record: LogRecord, found: Findings) -> None:
        """Add a command record of `topic`."""
        self.read += 1
        place = f"{topic} partition {partition} offset {record.offset}"
        self._first_ms.setdefault(f"{topic}/{partition}", record.timestamp_ms)
        headers = headers_of(record)
        kind = headers.get("ce_type", b"").decode(errors="replace")
        struct = COMMANDS.get(kind)
        if struct is None:
            found.add("I32", f"{place}: {kind!r} is not a command type")
            return
        try:
            command = json.decode(record.value or b"", type=struct)
        except (ValueError, RecursionError) as error:
            found.add("I32", f"{place}: {kind} does not match its schema: {error}")
            return
        worker = headers.get("worker", b"").decode(errors="replace")
        if isinstance(command, ExecuteAttempt):
            attempt = command.task, command.attempt, command.dispatch, command.token, worker
            policy = command.max_attempts, command.timeout_seconds, command.delivery
            mark = hash(("execute", *attempt, *policy, command.partition, command.root, f"{topic}/{partition}"))
        elif isinstance(command, GrantAttempt):
            mark = hash(("grant", command.task, command.attempt, command.token, worker))
        else:
            return
        if self._open.pop(mark, None) is None:
            if mark in self._early:
                found.add("I23", f"{place}: {kind} of attempt {command.attempt} was issued twice", subject=command.task)
            self._early[mark] = (place, record.timestamp_ms, command)

    def removed(self, topic: str, partition: int) -> None:
        """The next commands were deleted: earlier dispatches may have lost their commands."""
        self._cut.add(f"{topic}/{partition}")
        self._first_ms.pop(f"{topic}/{partition}", None)

    def findings(self, found: Findings, fold: Fold, books: dict[int, PartitionBook], *, exact: bool, grace_ms: int) -> int:
        """Report events and commands without a counterpart. Returns how many were newer than the events, and skipped.

        If the beginning of a partition was removed, records not later than its oldest record may have lost their counterpart:
        both are written with the same timestamp.
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
            found.add("I23", "this event has no command", partition=partition, offset=offset, subject=task_id)
        for place, timestamp_ms, command in self._early.values():
            if _event_may_be_removed(command, timestamp_ms, books):
                self.partial += 1
                continue
            task = fold.live.get(command.task)
            if not exact and command.task not in fold.ended and (task is None or _is_newer(command, task)):
                newer += 1
                continue
            found.add("I23", f"{place}: the command for attempt {command.attempt} has no event", subject=command.task)
        return newer

    def _may_be_removed(self, inbox: str | None, timestamp_ms: int) -> bool:
        """Whether a command with this timestamp may have been removed from the inbox (None: from any inbox)."""
        cut = [place for place in self._cut if inbox in (None, place)]
        return any(place not in self._first_ms or timestamp_ms <= self._first_ms[place] for place in cut)


def _event_may_be_removed(command: ExecuteAttempt | GrantAttempt, timestamp_ms: int, books: dict[int, PartitionBook]) -> bool:
    partition = command.partition if isinstance(command, ExecuteAttempt) else None
    cut = [book for number, book in books.items() if book.truncated and partition in (None, number)]
    return any(book.events == 0 or timestamp_ms <= book.first_ms for book in cut)


def _is_newer(command: ExecuteAttempt | GrantAttempt, task: LiveTask) -> bool:
    if isinstance(command, ExecuteAttempt):
        return (command.attempt, command.dispatch) > (task.attempt, task.dispatch)
    return task.lease is None or not task.lease.granted or command.attempt > task.attempt

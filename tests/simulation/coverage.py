"""What happened in schedules: kinds of faults and acts, types of events, transitions; and what of their tables was not seen."""

from collections import Counter
from typing import Any

from msgspec import Raw, Struct, json

from hub.broker import LocalBroker
from hub.core.transitions import TRANSITIONS
from hub.kafka import EVENTS, StoredRecord, read_batches
from schemas import CATALOGUE, TERMINAL_STATES

from .broker import end_of

FETCH_BYTES = 1 << 20

_ROWS = {(source, row.name) for row in TRANSITIONS for source in row.sources}


class Coverage:
    """Counts of one schedule, or, added up, of many."""

    def __init__(self) -> None:
        self.schedules: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.acts: Counter[str] = Counter()
        self.events: Counter[str] = Counter()
        self.transitions: Counter[tuple[str, str]] = Counter()

    def add(self, other: "Coverage") -> None:
        """Count what happened in another one, too."""
        self.schedules += other.schedules
        self.faults += other.faults
        self.acts += other.acts
        self.events += other.events
        self.transitions += other.transitions

    def lines(self) -> list[str]:
        """The counts, as text."""
        count = self.schedules["schedules"] or 1
        averages = [f"{number / count:8.1f} {name}" for name, number in sorted(self.schedules.items()) if name != "schedules"]
        seen = {pair for pair in self.transitions if pair in _ROWS}
        missed = {" ".join((source or "new", event)) for source, event in _ROWS - seen}
        return [
            f"{count} schedules; on average:",
            *averages,
            f"{sum(self.faults.values()) / count:8.1f} faults: " + _ranked(self.faults),
            f"{sum(self.acts.values()) / count:8.1f} acts of clients: " + _ranked(self.acts),
            f"event types: {len(self.events)} of {len(CATALOGUE)}; not seen: {_listed(set(CATALOGUE) - set(self.events))}",
            f"transitions: {len(seen)} of {len(_ROWS)}; not seen: {_listed(missed)}",
        ]


def _ranked(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in counts.most_common())


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names)) or "none"


class _Body(Struct):
    """What is looked at of the body of an event; the checker reads all of it."""

    entity: str
    rootid: str | None = None
    to: str | None = None
    data: Raw = Raw(b"{}")

    def field(self, name: str) -> Any:
        """A field of the data; None where it is absent."""
        return json.decode(self.data).get(name)


_BODY = json.Decoder(_Body)


class EventLog:
    """Follows `hub.events` as it becomes visible: which tasks are live, and what happened."""

    def __init__(self, coverage: Coverage) -> None:
        self._coverage = coverage
        self._positions: Counter[int] = Counter()
        self._states: dict[str, str] = {}
        self.live: dict[str, str] = {}
        """Tasks that have not ended, with their roots."""
        self.runs: Counter[str] = Counter()
        self.known: set[str | None] = set()
        """Tasks that were created, and those that were refused."""
        self.unexpected: list[bytes] = []
        """Events that say that the engine itself failed."""
        self.lost: set[str] = set()
        """Workers that were declared lost."""

    def read(self, local: LocalBroker) -> None:
        """Read what is new."""
        for partition in range(local.topics()[EVENTS]):
            end = local.end(EVENTS, partition)
            while self._positions[partition] < end:
                position = self._positions[partition]
                fetched = local.fetch(EVENTS, partition, position, max_bytes=FETCH_BYTES)
                for record in read_batches(fetched.data, aborted=fetched.aborted):
                    if record.offset >= position:
                        self._take(record)
                self._positions[partition] = end_of(fetched.data)

    def _take(self, record: StoredRecord) -> None:
        event = (dict(record.headers)["ce_type"] or b"").decode()
        body = _BODY.decode(record.value or b"")
        self._coverage.events[event] += 1
        kind, _, name = body.entity.partition("/")
        if kind == "task":
            self._take_of_task(event, name, body)
        elif event == "engine.restored":
            self._coverage.schedules["restored from a snapshot"] += bool(body.field("snapshot"))
        elif event == "worker.lost":
            self.lost.add(name)
        elif event == "task.rejected":
            self.known.add(body.field("task"))
        elif event == "engine.timer_dead_lettered" or (event == "engine.report_dead_lettered" and _is_failure(body)):
            self.unexpected.append(record.value or b"")

    def _take_of_task(self, event: str, task: str, body: _Body) -> None:
        coverage = self._coverage
        coverage.transitions[self._states.get(task, ""), event] += 1
        if event == "task.created":
            coverage.schedules["tasks"] += 1
            self.live[task] = body.rootid or task
            self.known.add(task)
            self.runs[task] += 1
        if body.to is not None:
            self._states[task] = body.to
        if body.to in TERMINAL_STATES:
            self.live.pop(task, None)
            self._states.pop(task, None)


def _is_failure(body: _Body) -> bool:
    """Whether a record was dead-lettered for what the engine did with it."""
    reason: str = body.field("reason")
    return reason.startswith("processing failed") and "RecordTooLarge" not in reason

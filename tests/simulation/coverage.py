"""What happened in schedules: kinds of faults and acts, types of events, transitions; and what of their tables was not seen."""

from collections import Counter

from hub.broker import LocalBroker
from hub.core.transitions import TRANSITIONS
from hub.kafka import EVENTS, read_batches
from schemas import CATALOGUE, TERMINAL_STATES, Event, decode_event

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
        self.unexpected: list[Event] = []
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
                        self._take(decode_event(record.value, record.headers))
                self._positions[partition] = end_of(fetched.data)

    def _take(self, event: Event) -> None:
        coverage = self._coverage
        coverage.events[event.type] += 1
        kind, _, name = event.entity.partition("/")
        if kind == "task":
            coverage.transitions[self._states.get(name, ""), event.type] += 1
            if event.type == "task.created":
                coverage.schedules["tasks"] += 1
                self.live[name] = event.rootid or name
                self.known.add(name)
                self.runs[name] += 1
            if event.to_state is not None:
                self._states[name] = event.to_state
            if event.to_state in TERMINAL_STATES:
                self.live.pop(name, None)
                self._states.pop(name, None)
        elif event.type == "engine.restored":
            coverage.schedules["restored from a snapshot"] += event.data.snapshot
        elif event.type == "worker.lost":
            self.lost.add(name)
        elif event.type == "task.rejected":
            self.known.add(event.data.task)
        elif event.type == "engine.timer_dead_lettered" or (
            event.type == "engine.report_dead_lettered"
            and event.data.reason.startswith("processing failed")
            and "RecordTooLarge" not in event.data.reason
        ):
            self.unexpected.append(event)

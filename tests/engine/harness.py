"""One engine partition with a scripted world around it: no broker, no clock. What it writes is kept as the topics do."""

import random
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import msgspec

from hub.core import Known, TimerKey
from hub.core.evolve import created, evolve_task
from hub.core.times import us_of
from hub.engine.encode import Outputs, check_fits, encode
from hub.engine.partition import DecidedBatch, EnginePartition, EngineSettings
from hub.kafka import EVENTS, INTAKE, REPLIES, STATE, Record, StoredRecord, TopicPartition
from schemas import TERMINAL_STATES, Event, ExecuteAttempt, decode_event, header_map

from .topics import Topics

START_US = 1_700_000_000_000_000
SECOND = 1_000_000

NOTHING: Mapping[str, Any] = MappingProxyType({})

#: The topics of every world that was made since a test began, where somebody wants to check them at its end (see conftest.py).
watched: list[Topics] | None = None


class World:
    """Feeds reports, keeps events, rows, commands and replies; `crash` drops the partition and restores another.

    Worlds that are given the same `topics` are partitions of one hub: what one forwards lies in the intake of another.
    """

    def __init__(
        self, *, partition: int = 0, partitions: int = 1, settings: EngineSettings | None = None, topics: Topics | None = None
    ) -> None:
        self.number, self.partitions, self.settings = partition, partitions, settings
        self.now_us = START_US
        self.topics = topics or Topics(partitions)
        if watched is not None and self.topics not in watched:
            watched.append(self.topics)
        self.pools = ["default"]
        self.poison_records: dict[int, str] = {}
        self.poison_timers: dict[TimerKey, str] = {}
        self.events: list[Event] = []
        self.commands: list[tuple[str, str, Any]] = []
        self.replies: dict[bytes, Any] = {}
        self.forwarded: list[tuple[int, Record]] = []
        self.engine = self._fresh()
        self.take_over()

    @property
    def intake(self) -> list[StoredRecord]:
        """The records of the intake, decided or not."""
        return self.topics.records(INTAKE, self.number)

    @property
    def rows(self) -> dict[bytes, bytes]:
        """The changelog, compacted."""
        return self.topics.rows[self.number]

    def _fresh(self) -> EnginePartition:
        return EnginePartition(self.number, self.partitions, self.settings)

    def take_over(self) -> None:
        self.known_pools, self.unknown_pools = set(self.pools), set[str]()
        self.events_offset = self.topics.end(EVENTS, self.number)
        batch = self.engine.take_over(self.now_us, rows=len(self.rows), host="test", pid=1, pools=self.pools)
        self.commit(batch)

    def hand_over(self) -> None:
        """The owner leaves in order; a new one takes over."""
        self.commit(self.engine.leave(self.now_us))
        self.crash()

    def crash(self) -> None:
        """The process dies with nothing uncommitted saved; a new owner restores what was committed."""
        self.engine = self._fresh()
        self.engine.restore(self.rows.items(), self.now_us)
        self.take_over()

    def put(self, kind: str, value: Any, *, id: str | None = None, source: str = "/test", **headers: bytes) -> StoredRecord:
        """Append a report to the intake; it is decided by the next `step`."""
        offset = self.topics.end(INTAKE, self.number)
        raw = value if isinstance(value, bytes) else msgspec.json.encode(value)
        attributes = [
            ("ce_specversion", b"1.0"),
            ("ce_type", kind.encode()),
            ("ce_source", source.encode()),
            ("ce_id", (id or f"e{offset}").encode()),
            *headers.items(),
        ]
        return self.topics.append(INTAKE, self.number, Record(b"key", raw, attributes, 0))

    def step(
        self, *, seconds: float = 0.0, limit: int | None = None, caught_up: bool = True, commit: bool = True
    ) -> DecidedBatch:
        """Let time pass, then decide what lies in the intake. With `commit` false the batch is lost (as in a crash)."""
        self.now_us += round(seconds * SECOND)
        begin = bisect_left(self.intake, self.engine.offset, key=lambda record: record.offset)
        records = self.intake[begin:] if limit is None else self.intake[begin : begin + limit]
        batch = self.engine.process(records, self.now_us, self.known(caught_up=caught_up))
        self.unknown_pools |= batch.unknown_pools
        if commit:
            self.commit(batch)
        else:
            self.topics.abort(self._encoded(batch))
        return batch

    def known(self, *, caught_up: bool = True) -> Known:
        """What a loop would know now."""
        return Known(
            events_offset=self.events_offset,
            time_watermark_us=self.now_us if caught_up else None,
            pools=frozenset(self.known_pools),
            poison_records=self.poison_records,
            poison_timers=self.poison_timers,
        )

    def until_quiet(self, seconds: float = 3600.0) -> None:
        """Steps, jumping to whatever is due next, until nothing is due within `seconds`."""
        end_us = self.now_us + round(seconds * SECOND)
        self.step()
        while (due := self.engine.next_due()) is not None and due <= end_us:
            self.now_us = max(self.now_us, due)
            self.step()

    def commit(self, batch: DecidedBatch) -> None:
        """What the loop does with a batch: write it, and learn where its events lie."""
        if batch.empty:
            return
        outputs = self._encoded(batch)
        first = self.topics.commit(outputs)
        events = TopicPartition(EVENTS, self.number)
        if events in first:
            self.events_offset = first[events] + len(batch.events)
        for place, records in outputs.items():
            for record in records:
                self._keep(place, record)

    def _encoded(self, batch: DecidedBatch) -> Outputs:
        """The batch as records, which a broker takes."""
        outputs = encode(batch, self.number)
        check_fits(outputs)
        return outputs

    def _keep(self, place: TopicPartition, record: Record) -> None:
        if place.topic == EVENTS:
            self.events.append(decode_event(record.value, record.headers))
        elif place.topic == INTAKE:
            self.forwarded.append((place.partition, record))
        elif place.topic == REPLIES:
            assert record.key is not None
            self.replies[record.key] = msgspec.json.decode(record.value or b"null")
        elif place.topic != STATE:
            headers = header_map(record.headers)
            kind, worker = headers["ce_type"].decode(), headers["worker"].decode()
            data = msgspec.json.decode(record.value or b"", type=ExecuteAttempt) if kind == "attempt.execute" else record.value
            self.commands.append((kind, worker, data))

    # What tests ask and say

    def submit(self, **fields: Any) -> None:
        self.put("task.created", fields)

    def worker(
        self,
        incarnation: str = "w1",
        *,
        kind: str = "worker.registered",
        credit: int = 10,
        names: Sequence[str] = ("a", "b"),
        options: Mapping[str, Any] = NOTHING,
        **fields: Any,
    ) -> None:
        """A worker's report. `names` and `options` (by name) are its definitions, where `fields` do not give any."""
        report = {
            "incarnation": incarnation,
            "pool": "default",
            "inbox": 3,
            "queues": ["default"],
            "definitions": [{"name": name, **options.get(name, NOTHING)} for name in names],
            "slots": 10,
            "credit": credit,
            "lease_seconds": 10.0,
            **fields,
        }
        self.put(kind, report)

    def dispatched(self) -> list[ExecuteAttempt]:
        """The `attempt.execute` commands since the last call."""
        taken = [data for kind, _, data in self.commands if kind == "attempt.execute"]
        self.commands = [command for command in self.commands if command[0] != "attempt.execute"]
        return taken

    def report(self, command: ExecuteAttempt, kind: str, *, incarnation: str = "w1", number: int = 2, **fields: Any) -> None:
        about = {
            "task": command.task,
            "root": command.root,
            "attempt": command.attempt,
            "dispatch": command.dispatch,
            "token": command.token,
        }
        self.put(kind, {**about, "incarnation": incarnation, "number": number, **fields})

    def complete(self, command: ExecuteAttempt, result: Any = None, **more: Any) -> None:
        self.report(command, "attempt.completed", result=result, **more)

    def fail(self, command: ExecuteAttempt, *, retryable: bool = True, **more: Any) -> None:
        self.report(command, "attempt.failed", error={"type": "E", "message": "no", "retryable": retryable}, **more)

    def types(self, subject: str | None = None) -> list[str]:
        """The event types so far (of one entity, or all)."""
        return [event.type for event in self.events if subject is None or event.subject == subject]

    def last(self, kind: str) -> Event:
        found: list[Event] = [event for event in self.events if event.type == kind]
        return found[-1]

    def state_of(self, task: str) -> str:
        row = msgspec.json.decode(self.rows[f"task/{task}".encode()])
        return str(row.get("ended") or row["state"])


def fold(events: list[Event]) -> Iterator[tuple[str, bytes]]:
    """The rows of all live tasks, made from nothing but their events."""
    rows: dict[str, Any] = {}
    for event in events:
        kind, _, name = event.entity.partition("/")
        if kind != "task":
            continue
        if event.type == "task.created":
            rows[name] = created(
                event.data,
                run=event.run,
                namespace=event.namespace or "",
                root=None if event.rootid == name else event.rootid,
                correlation=None if event.correlationid == event.rootid else event.correlationid,
                traceparent=event.traceparent,
                time=event.time,
                time_us=us_of(event.time),
            )
        else:
            evolve_task(rows[name], event.data, event.time, us_of(event.time))
    for name, row in rows.items():
        yield name, msgspec.json.encode(row)


def check_fold(world: World) -> None:
    """Promise 2: the durable state of every task is the fold of its events, byte for byte, and has the time of its end."""
    ends = {event.entity: event.time if event.to_state in TERMINAL_STATES else None for event in world.events if event.to_state}
    for name, encoded in fold(world.events):
        stored = world.rows.get(f"task/{name}".encode())
        if stored is None:
            continue
        row, folded = msgspec.json.decode(stored), msgspec.json.decode(encoded)
        if "ended" in row:
            assert (row["ended"], row["run"], row["sequence"]) == (folded["state"], folded["run"], folded["sequence"])
        else:
            assert stored == encoded, f"{name}: stored {stored!r}, folded {encoded!r}"
        assert row.get("finished_at") == ends[f"task/{name}"], f"{name} ended at another time: {row}"


def check_log(world: World) -> None:
    """Sequences without a gap per run, unique provenance, states that follow each other, nothing after the end."""
    last: dict[tuple[str, int], tuple[int, str | None]] = {}
    seen: set[str] = set()
    for event in world.events:
        assert event.src not in seen, f"{event.src} twice"
        seen.add(event.src)
        sequence, state = last.get((event.entity, event.run), (0, None))
        assert event.sequence == sequence + 1, f"{event.entity}: {event.sequence} after {sequence}"
        if event.to_state is not None:
            assert event.from_state == state or (state is None and not event.from_state), f"{event}"
            state = event.to_state
        last[event.entity, event.run] = (event.sequence, state)


def chooser(seed: int) -> random.Random:
    """The randomness of one schedule."""
    return random.Random(seed)

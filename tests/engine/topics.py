"""The hub's topics in memory, with the offsets of a broker: the marker of a transaction takes an offset in every partition of
the transaction, so the offsets of visible records have gaps."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from hub.kafka import EVENTS, INTAKE, REPLIES, STATE, Record, StoredRecord, TopicPartition
from hub.verify import History, Options, VerificationReport, check

COMMANDS_PREFIX = "hub.commands."


class Topics:
    """Committed records by partition. `rows`: the last value of every key of each partition of `hub.state`."""

    def __init__(self, partitions: int = 1) -> None:
        self.partitions = partitions
        self.rows: dict[int, dict[bytes, bytes]] = {number: {} for number in range(partitions)}
        self._records: dict[TopicPartition, list[StoredRecord]] = defaultdict(list)
        self._ends: dict[TopicPartition, int] = defaultdict(int)

    def records(self, topic: str, partition: int) -> list[StoredRecord]:
        """The records of a partition in offset order: the list itself, which a test may edit."""
        return self._records[TopicPartition(topic, partition)]

    def end(self, topic: str, partition: int) -> int:
        """The offset that the next record gets."""
        return self._ends[TopicPartition(topic, partition)]

    def append(self, topic: str, partition: int, record: Record) -> StoredRecord:
        """A record of a producer that uses no transaction."""
        place = TopicPartition(topic, partition)
        stored = StoredRecord(self._ends[place], record.timestamp_ms, record.key, record.value, tuple(record.headers))
        self._records[place].append(stored)
        self._ends[place] += 1
        return stored

    def commit(self, outputs: Mapping[TopicPartition, Iterable[Record]]) -> dict[TopicPartition, int]:
        """The records of one transaction, and its markers; returns the first offset in each partition."""
        first = {}
        for place, records in outputs.items():
            first[place] = self._ends[place]
            for record in records:
                self.append(*place, record)
                if place.topic == STATE and record.key is not None:
                    self._keep_row(place.partition, record.key, record.value)
            self._ends[place] += 1
        return first

    def abort(self, outputs: Mapping[TopicPartition, Iterable[Record]]) -> None:
        """A transaction that was written and never committed: nobody sees its records, their offsets are gone."""
        for place, records in outputs.items():
            self._ends[place] += len(list(records)) + 1

    def everything(self) -> dict[TopicPartition, list[StoredRecord]]:
        """All committed records."""
        return dict(self._records)

    def verify(self, *, all_ended: bool = False, **more: Any) -> VerificationReport:
        """What the checker finds. `all_ended`: whether a live task is a finding; `more`: further inputs of a `History`."""
        numbers = range(self.partitions)
        commands: dict[str, dict[int, list[StoredRecord]]] = defaultdict(dict)
        replies = {}
        for place, records in self._records.items():
            if place.topic.startswith(COMMANDS_PREFIX):
                commands[place.topic][place.partition] = records
            elif place.topic == REPLIES:
                replies[place.partition] = records
        history = History(
            partitions=self.partitions,
            events={number: self.records(EVENTS, number) for number in numbers},
            state=self.rows,
            commands=commands,
            intake={number: self.records(INTAKE, number) for number in numbers},
            replies=replies,
            **more,
        )
        return check(history, Options(require_all_ended=all_ended))

    def _keep_row(self, partition: int, key: bytes, value: bytes | None) -> None:
        if value is None:
            self.rows[partition].pop(key, None)
        else:
            self.rows[partition][key] = value

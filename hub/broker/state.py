"""What all parts of the core share: topics and their logs, and the pending journal block.

Every change of durable state goes through `append` (record batches) or `record` (everything else): both change memory
at once and add an entry to the pending block. Nothing is visible to clients, and no answer that promises durability
leaves, before the block is written. Replay runs the same functions on the entries read back.
"""

import re
import struct
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from .batches import BatchHeader, placed, read_header, stamped
from .errors import BrokerError, ErrorCode, StorageDamaged
from .log import LogKey, PartitionLog
from .storage import Storage
from .timing import Clock, Deferred, Timers
from .topic_settings import TopicSettings, check_settings, typed, valid_settings

_ENTRY = struct.Struct(">BI")
_LOG = struct.Struct(">II")
_APPEND, _RECORD = 1, 2
_TOPIC_NAME = re.compile(r"[a-zA-Z0-9._-]{1,249}$")


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerSettings:
    """Limits and identity of a broker."""

    node_id: int = 1
    cluster_id: str = "taskhub-embedded"
    default_partitions: int = 1
    """Partitions of a topic whose creator leaves the number to the broker."""
    auto_create_topics: bool = False
    """Whether asking for an unknown topic's metadata creates it."""
    partitions_max: int = 4096
    """Partitions over all topics: each costs memory and files."""
    producer_epoch_max: int = 32767
    """Where a producer's epoch runs out and it gets another producer id. Lower only to test that."""
    transaction_timeout_ms_max: int = 900_000
    session_timeout_ms_min: int = 100
    session_timeout_ms_max: int = 1_800_000
    group_initial_delay_ms: int = 20
    """How long the first member of an empty group waits for others before the first generation starts."""
    group_members_max: int = 1000
    offset_metadata_bytes_max: int = 4096
    fetch_bytes_max: int = 55 * 1024 * 1024
    producer_expiration_ms: int = 86_400_000
    """After this time without a batch a partition forgets a producer (Kafka's `producer.id.expiration.ms`)."""
    transactional_id_expiration_ms: int = 604_800_000
    """After this time without a transaction a transactional id is forgotten (`transactional.id.expiration.ms`)."""
    offsets_retention_ms: int = 604_800_000
    """How long the offsets of a group without members are kept (`offsets.retention.minutes`)."""
    retention_check_seconds: float = 30.0
    """How often logs are searched for what is too old. Besides, after every checkpoint: that is when logs grow on disk."""
    expiration_check_seconds: float = 300.0
    """How often producers, transactional ids and offsets are searched for what has expired."""
    cleaner_share: float = 0.25
    """Part of one core's time that compaction may take from the broker."""
    cleaner_map_bytes: int = 48 << 20
    """Memory for the keys of one pass of compaction. A log with more new keys is cleaned in several passes."""


@dataclass(slots=True)
class Topic:
    """A topic and its partitions' logs."""

    name: str
    number: int
    topic_id: uuid.UUID
    logs: list[PartitionLog]
    configs: dict[str, str]
    """Settings given at creation or later."""
    settings: TopicSettings
    """What holds."""

    def set_configs(self, configs: dict[str, str]) -> None:
        """Replace the settings."""
        self.configs, self.settings = configs, typed(configs)
        for log in self.logs:
            log.settings = self.settings


@dataclass(slots=True)
class PendingBlock:
    """What one journal block holds, and who waits for it."""

    parts: list[bytes]
    marks: list[tuple[PartitionLog, int]]
    waiting: list[tuple[Deferred, Any]]


class BrokerState:
    """See the module."""

    def __init__(self, storage: Storage, clock: Clock, settings: BrokerSettings) -> None:
        self.storage = storage
        self.clock = clock
        self.settings = settings
        self.timers = Timers(clock)
        self.topics: dict[str, Topic] = {}
        self.topics_by_id: dict[uuid.UUID, Topic] = {}
        self.host, self.port = "127.0.0.1", 0
        self.on_flush_needed: Callable[[bool], None] = lambda urgent: None
        """Called when there is something to write; urgent when somebody waits for it."""
        self.on_space_freed: Callable[[], None] = lambda: None
        """Called when records or topics were deleted, or settings of a topic changed: files may be removed."""
        self.on_topic_deleted: list[Callable[[str], None]] = []
        self.pending_bytes = 0
        self._topics_by_number: dict[int, Topic] = {}
        self._next_topic_number = 1
        self._parts: list[bytes] = []
        self._touched: dict[PartitionLog, None] = {}
        self._waiting: list[tuple[Deferred, Any]] = []
        self._appliers: dict[str, Callable[..., None]] = {
            "create_topic": self._apply_create_topic,
            "add_partitions": self._apply_add_partitions,
            "configs": self._apply_configs,
            "delete_topic": self._apply_delete_topic,
            "delete_records": self._apply_delete_records,
        }

    # --- changing durable state

    def register(self, operation: str, apply: Callable[..., None]) -> None:
        """Make `apply(*arguments)` the function behind `record(operation, *arguments)`."""
        self._appliers[operation] = apply

    def record(self, operation: str, *arguments: Any) -> None:
        """Apply a change and add it to the pending block."""
        body = msgspec.msgpack.encode((operation, *arguments))
        self._parts += (_ENTRY.pack(_RECORD, len(body)), body)
        self.pending_bytes += len(body)
        self._appliers[operation](*arguments)
        self.on_flush_needed(False)

    def append(self, log: PartitionLog, batch: bytes, header: BatchHeader) -> int:
        """Append a checked batch; returns its base offset."""
        base, now_ms = log.end, self.clock.now_ms()
        if log.settings.append_time:
            batch, header = stamped(batch, header, now_ms)
        batch = placed(batch, base)
        self._parts += (_ENTRY.pack(_APPEND, len(batch) + _LOG.size), _LOG.pack(*log.key), batch)
        self.pending_bytes += len(batch)
        log.append(batch, header, now_ms)
        self._touched[log] = None
        for wake in tuple(log.append_waiters):
            wake()
        self.on_flush_needed(False)
        return base

    def when_stable(self, value: Any) -> Deferred:
        """An answer that is given once everything done so far is on disk."""
        deferred = Deferred()
        self._waiting.append((deferred, value))
        self.on_flush_needed(True)
        return deferred

    # --- the pending block

    def cut(self) -> PendingBlock:
        """Take the pending block; the next change starts another."""
        block = PendingBlock(self._parts, [(log, log.end) for log in self._touched], self._waiting)
        self._parts, self._touched, self._waiting, self.pending_bytes = [], {}, [], 0
        return block

    @property
    def has_pending(self) -> bool:
        """Something is to be written or somebody waits."""
        return bool(self._parts or self._waiting)

    def written(self, block: PendingBlock) -> None:
        """The block is on disk: show it to readers and give the answers that waited for it."""
        woken: dict[Callable[[], None], None] = {}
        for log, end in block.marks:
            log.advance(end)
            woken.update(log.waiters)
        for deferred, value in block.waiting:
            deferred.resolve(value)
        for wake in woken:
            wake()

    def replay(self, payload: bytes) -> None:
        """Apply the entries of a block read back from the journal."""
        at, size = 0, len(payload)
        while at < size:
            kind, length = _ENTRY.unpack_from(payload, at)
            at += _ENTRY.size
            if kind == _APPEND:
                number, partition = _LOG.unpack_from(payload, at)
                batch = payload[at + _LOG.size : at + length]
                topic = self._topics_by_number.get(number)
                if topic is not None:
                    self._replay_batch(topic.logs[partition], batch)
            else:
                operation, *arguments = msgspec.msgpack.decode(payload[at : at + length])
                self._appliers[operation](*arguments)
            at += length

    def _replay_batch(self, log: PartitionLog, batch: bytes) -> None:
        header = read_header(batch)
        if header.base_offset != log.end:
            raise StorageDamaged(f"{log.key}: the journal continues at {header.base_offset}, the log ends at {log.end}")
        log.append(batch, header, self.clock.now_ms())
        log.advance(log.end)

    # --- topics

    def log(self, topic: str, partition: int) -> PartitionLog | None:
        """A partition's log, if it exists."""
        found = self.topics.get(topic)
        if found is None or not 0 <= partition < len(found.logs):
            return None
        return found.logs[partition]

    def logs(self) -> Iterable[PartitionLog]:
        """All logs."""
        return (log for topic in self.topics.values() for log in topic.logs)

    def exists(self, log: PartitionLog) -> bool:
        """Whether the log's topic was not deleted."""
        return log.key.topic_number in self._topics_by_number

    def starts(self) -> dict[LogKey, int]:
        """First offset of every log."""
        return {log.key: log.start for log in self.logs()}

    def check_new_topic(self, name: str, partitions: int, configs: dict[str, str]) -> None:
        """Raises `BrokerError` when such a topic cannot be created."""
        if not _TOPIC_NAME.match(name) or name in (".", ".."):
            raise BrokerError(ErrorCode.INVALID_TOPIC_EXCEPTION, f"{name!r} is not a legal topic name")
        if name in self.topics:
            raise BrokerError(ErrorCode.TOPIC_ALREADY_EXISTS, f"topic {name} exists")
        self._check_partitions(partitions)
        check_settings(configs)

    def _check_partitions(self, more: int) -> None:
        have = sum(len(topic.logs) for topic in self.topics.values())
        if more < 1 or have + more > self.settings.partitions_max:
            limit = self.settings.partitions_max
            raise BrokerError(ErrorCode.INVALID_PARTITIONS, f"{more} partitions: at least 1, at most {limit} in all topics")

    def create_topic(self, name: str, partitions: int, configs: dict[str, str]) -> Topic:
        """Create a topic. Raises `BrokerError`."""
        self.check_new_topic(name, partitions, configs)
        self.record("create_topic", name, self._next_topic_number, uuid.uuid4().bytes, partitions, configs)
        return self.topics[name]

    def add_partitions(self, topic: Topic, count: int) -> None:
        """Grow a topic to `count` partitions. Raises `BrokerError`."""
        if count <= len(topic.logs):
            raise BrokerError(ErrorCode.INVALID_PARTITIONS, f"topic {topic.name} has {len(topic.logs)} partitions already")
        self._check_partitions(count - len(topic.logs))
        self.record("add_partitions", topic.number, count)

    def delete_topic(self, topic: Topic) -> None:
        """Remove a topic and everything in it."""
        self.record("delete_topic", topic.number)

    def _apply_create_topic(self, name: str, number: int, topic_id: bytes, partitions: int, configs: dict[str, str]) -> None:
        configs = valid_settings(configs)
        topic = Topic(name, number, uuid.UUID(bytes=topic_id), [], configs, typed(configs))
        self.topics[name] = self.topics_by_id[topic.topic_id] = self._topics_by_number[number] = topic
        self._next_topic_number = max(self._next_topic_number, number + 1)
        self._apply_add_partitions(number, partitions)

    def _apply_add_partitions(self, number: int, count: int) -> None:
        topic = self._topics_by_number[number]
        keys = [LogKey(number, index) for index in range(len(topic.logs), count)]
        topic.logs.extend(PartitionLog(key, self.storage, topic.settings) for key in keys)

    def _apply_configs(self, number: int, configs: dict[str, str]) -> None:
        self._topics_by_number[number].set_configs(valid_settings(configs))
        self.on_space_freed()

    def _apply_delete_topic(self, number: int) -> None:
        topic = self._topics_by_number.pop(number)
        del self.topics[topic.name], self.topics_by_id[topic.topic_id]
        for log in topic.logs:
            for wake in tuple(log.waiters | log.append_waiters):
                wake()
        for forget in self.on_topic_deleted:
            forget(topic.name)
        self.on_space_freed()

    def _apply_delete_records(self, number: int, partition: int, offset: int) -> None:
        if number in self._topics_by_number:
            self._topics_by_number[number].logs[partition].delete_before(offset)
            self.on_space_freed()

    # --- checkpoints

    def snapshot(self) -> dict[str, Any]:
        """Topics and logs for a checkpoint."""
        return {
            "next_topic_number": self._next_topic_number,
            "topics": [
                {
                    "name": topic.name,
                    "number": topic.number,
                    "id": topic.topic_id.bytes,
                    "configs": topic.configs,
                    "logs": [log.snapshot() for log in topic.logs],
                }
                for topic in self.topics.values()
            ],
        }

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Inverse of `snapshot`, into an empty state."""
        for entry in snapshot["topics"]:
            self._apply_create_topic(entry["name"], entry["number"], entry["id"], len(entry["logs"]), entry["configs"])
            for log, saved in zip(self.topics[entry["name"]].logs, entry["logs"], strict=True):
                log.restore(saved)
        self._next_topic_number = snapshot["next_topic_number"]

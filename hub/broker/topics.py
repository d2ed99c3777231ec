"""The catalogue of topics: names, ids, partitions and settings. Its changes are journaled and replayed at a restart."""

import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..protocol import ErrorCode
from .errors import BrokerError
from .log import LogKey, PartitionLog
from .pending import Pending
from .storage import Storage
from .topic_settings import TopicSettings, check_settings, typed, valid_settings

_TOPIC_NAME = re.compile(r"[a-zA-Z0-9._-]{1,249}$")


@dataclass(slots=True)
class Topic:
    """A topic and the logs of its partitions."""

    name: str
    number: int
    topic_id: uuid.UUID
    logs: list[PartitionLog]
    configs: dict[str, str]
    """Settings that were set explicitly."""
    settings: TopicSettings
    """The effective settings."""

    def set_configs(self, configs: dict[str, str]) -> None:
        """Replace the explicit settings."""
        self.configs, self.settings = configs, typed(configs)
        for log in self.logs:
            log.settings = self.settings


class Topics(Mapping[str, Topic]):
    """Topics by name. `partitions_max` limits the partitions of all topics together."""

    def __init__(self, storage: Storage, pending: Pending, *, partitions_max: int) -> None:
        self.on_space_freed: Callable[[], None] = lambda: None
        """Called when records or topics were deleted or settings changed, because files may be removable then."""
        self.on_deleted: list[Callable[[str], None]] = []
        self._storage = storage
        self._pending = pending
        self._partitions_max = partitions_max
        self._by_name: dict[str, Topic] = {}
        self._by_id: dict[uuid.UUID, Topic] = {}
        self._by_number: dict[int, Topic] = {}
        self._next_number = 1
        pending.register("create_topic", self._apply_create)
        pending.register("add_partitions", self._apply_add_partitions)
        pending.register("configs", self._apply_configs)
        pending.register("delete_topic", self._apply_delete)
        pending.register("delete_records", self._apply_delete_records)

    # --- looking

    def __getitem__(self, name: str) -> Topic:
        return self._by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)

    def by_id(self, topic_id: uuid.UUID) -> Topic | None:
        """The topic with this id, or None."""
        return self._by_id.get(topic_id)

    def log(self, topic: str, partition: int) -> PartitionLog | None:
        """The log of a partition, or None."""
        found = self._by_name.get(topic)
        if found is None or not 0 <= partition < len(found.logs):
            return None
        return found.logs[partition]

    def log_of(self, key: LogKey) -> PartitionLog | None:
        """The log with this key, or None if its topic was deleted."""
        topic = self._by_number.get(key.topic_number)
        return None if topic is None else topic.logs[key.partition]

    def logs(self) -> Iterable[PartitionLog]:
        """All logs."""
        return (log for topic in self._by_name.values() for log in topic.logs)

    def hold(self, log: PartitionLog) -> bool:
        """Whether the topic of the log still exists."""
        return log.key.topic_number in self._by_number

    def starts(self) -> dict[LogKey, int]:
        """Start offset of every log."""
        return {log.key: log.start for log in self.logs()}

    # --- changing

    def check_new(self, name: str, partitions: int, configs: dict[str, str]) -> None:
        """Check that such a topic can be created. Raises `BrokerError`."""
        if not _TOPIC_NAME.match(name) or name in (".", ".."):
            raise BrokerError(
                ErrorCode.INVALID_TOPIC_EXCEPTION,
                f"{name!r} is not a valid topic name: use at most 249 letters, digits, '.', '_' and '-'",
            )
        if name in self._by_name:
            raise BrokerError(ErrorCode.TOPIC_ALREADY_EXISTS, f"topic {name} already exists")
        self._check_partitions(partitions)
        check_settings(configs)

    def _check_partitions(self, more: int) -> None:
        have, limit = sum(len(topic.logs) for topic in self._by_name.values()), self._partitions_max
        if more < 1 or have + more > limit:
            raise BrokerError(
                ErrorCode.INVALID_PARTITIONS,
                f"{more} partitions requested: allowed are 1 to {limit} over all topics, {have} exist",
            )

    def create(self, name: str, partitions: int, configs: dict[str, str]) -> Topic:
        """Create a topic. Raises `BrokerError`."""
        self.check_new(name, partitions, configs)
        self._pending.record("create_topic", name, self._next_number, uuid.uuid4().bytes, partitions, configs)
        return self._by_name[name]

    def add_partitions(self, topic: Topic, count: int) -> None:
        """Grow a topic to `count` partitions. Raises `BrokerError`."""
        if count <= len(topic.logs):
            raise BrokerError(
                ErrorCode.INVALID_PARTITIONS, f"topic {topic.name} already has {len(topic.logs)} partitions, got {count}"
            )
        self._check_partitions(count - len(topic.logs))
        self._pending.record("add_partitions", topic.number, count)

    def configure(self, topic: Topic, configs: dict[str, str]) -> None:
        """Replace the explicit settings of a topic by valid ones."""
        self._pending.record("configs", topic.number, configs)

    def delete_records(self, log: PartitionLog, before: int) -> None:
        """Move the start of a log to `before`."""
        self._pending.record("delete_records", *log.key, before)

    def delete(self, topic: Topic) -> None:
        """Delete a topic and its data."""
        self._pending.record("delete_topic", topic.number)

    # --- journaled operations

    def _apply_create(self, name: str, number: int, topic_id: bytes, partitions: int, configs: dict[str, str]) -> None:
        configs = valid_settings(configs)
        topic = Topic(name, number, uuid.UUID(bytes=topic_id), [], configs, typed(configs))
        self._by_name[name] = self._by_id[topic.topic_id] = self._by_number[number] = topic
        self._next_number = max(self._next_number, number + 1)
        self._apply_add_partitions(number, partitions)

    def _apply_add_partitions(self, number: int, count: int) -> None:
        topic = self._by_number[number]
        keys = [LogKey(number, index) for index in range(len(topic.logs), count)]
        topic.logs.extend(PartitionLog(key, self._storage, topic.settings) for key in keys)

    def _apply_configs(self, number: int, configs: dict[str, str]) -> None:
        self._by_number[number].set_configs(valid_settings(configs))
        self.on_space_freed()

    def _apply_delete(self, number: int) -> None:
        topic = self._by_number.pop(number)
        del self._by_name[topic.name], self._by_id[topic.topic_id]
        for log in topic.logs:
            for wake in tuple(log.waiters | log.append_waiters):
                wake()
        for forget in self.on_deleted:
            forget(topic.name)
        self.on_space_freed()

    def _apply_delete_records(self, number: int, partition: int, offset: int) -> None:
        if number in self._by_number:
            self._by_number[number].logs[partition].delete_before(offset)
            self.on_space_freed()

    # --- checkpoints

    def snapshot(self) -> dict[str, Any]:
        """Topics and logs, for a checkpoint."""
        return {
            "next_topic_number": self._next_number,
            "topics": [
                {
                    "name": topic.name,
                    "number": topic.number,
                    "id": topic.topic_id.bytes,
                    "configs": topic.configs,
                    "logs": [log.snapshot() for log in topic.logs],
                }
                for topic in self._by_name.values()
            ],
        }

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Inverse of `snapshot`, into an empty catalogue."""
        for entry in snapshot["topics"]:
            self._apply_create(entry["name"], entry["number"], entry["id"], len(entry["logs"]), entry["configs"])
            for log, saved in zip(self._by_name[entry["name"]].logs, entry["logs"], strict=True):
                log.restore(saved)
        self._next_number = snapshot["next_topic_number"]

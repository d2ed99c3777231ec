"""Requests about offsets: ListOffsets, and committing and fetching the offsets of groups."""

from typing import Any

from ..protocol import ApiKey, ErrorCode, Message
from .errors import MalformedBatch
from .group_state import CommittedOffset
from .groups import GroupCoordinator
from .log import PartitionLog
from .records import first_record_from
from .state import BrokerState
from .timing import Deferred
from .transactions import TransactionCoordinator

LATEST, EARLIEST, MAX_TIMESTAMP = -1, -2, -3


class OffsetsApi:
    """Handlers of the offset requests."""

    def __init__(self, state: BrokerState, groups: GroupCoordinator, transactions: TransactionCoordinator) -> None:
        self._state = state
        self._groups = groups
        self._transactions = transactions

    def handlers(self) -> dict[int, Any]:
        """Handlers by API key."""
        return {ApiKey.LIST_OFFSETS: self._list_offsets, ApiKey.OFFSET_COMMIT: self._commit, ApiKey.OFFSET_FETCH: self._fetch}

    # --- positions in a log

    def _list_offsets(self, version: int, message: Message, client: Any) -> Message:
        committed = message["isolation_level"] == 1
        topics = []
        for topic in message["topics"]:
            partitions = []
            for entry in topic["partitions"]:
                log = self._state.log(topic["name"], entry["partition_index"])
                answer = self._position(log, entry["timestamp"], committed=committed)
                partitions.append({"partition_index": entry["partition_index"], **answer})
            topics.append({"name": topic["name"], "partitions": partitions})
        return {"topics": topics}

    @staticmethod
    def _position(log: PartitionLog | None, timestamp_ms: int, *, committed: bool) -> Message:
        if log is None:
            return {"error_code": ErrorCode.UNKNOWN_TOPIC_OR_PARTITION}
        answer: Message = {"error_code": ErrorCode.NONE, "leader_epoch": 0}
        if timestamp_ms == LATEST:
            return {**answer, "offset": log.visible_end(committed=committed)}
        if timestamp_ms == EARLIEST:
            return {**answer, "offset": log.start}
        if timestamp_ms == MAX_TIMESTAMP:
            timestamp_ms = log.max_timestamp_ms(committed=committed)
        elif timestamp_ms < 0:
            return {"error_code": ErrorCode.UNSUPPORTED_VERSION}
        found = log.offset_for_timestamp(timestamp_ms, committed=committed) if timestamp_ms >= 0 else None
        if found is None:
            return {**answer, "timestamp": -1, "offset": -1, "leader_epoch": -1}
        base, batch = found
        try:
            offset, timestamp = first_record_from(batch, base, timestamp_ms, log.start)
        except MalformedBatch:
            return {"error_code": ErrorCode.CORRUPT_MESSAGE}
        return {**answer, "timestamp": timestamp, "offset": offset}

    # --- a group's offsets

    def _commit(self, version: int, message: Message, client: Any) -> Message | Deferred:
        group_id = message["group_id"]
        generation = message["generation_id_or_member_epoch"]
        error = self._groups.offsets.check_commit(group_id, generation, message["member_id"], message["group_instance_id"])
        if error is ErrorCode.NONE and not self._state.storage.writable:
            error = ErrorCode.KAFKA_STORAGE_ERROR
        accepted, topics = self.sort_out(message["topics"], error)
        if not accepted:
            return {"topics": topics}
        self._groups.offsets.commit(group_id, accepted)
        return self._state.when_stable({"topics": topics})

    def sort_out(
        self, topics: list[Message], error: ErrorCode
    ) -> tuple[list[tuple[str, int, int, int, str | None]], list[Message]]:
        """Split a commit request. Returns (offsets to commit, response by topic)."""
        accepted: list[tuple[str, int, int, int, str | None]] = []
        answer = []
        for topic in topics:
            partitions = []
            for entry in topic["partitions"]:
                code = error
                metadata = entry["committed_metadata"]
                if code is ErrorCode.NONE and len(metadata or "") > self._state.settings.offset_metadata_bytes_max:
                    code = ErrorCode.OFFSET_METADATA_TOO_LARGE
                if code is ErrorCode.NONE and self._state.log(topic["name"], entry["partition_index"]) is None:
                    code = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
                if code is ErrorCode.NONE:
                    offset = (entry["committed_offset"], entry["committed_leader_epoch"], metadata)
                    accepted.append((topic["name"], entry["partition_index"], *offset))
                partitions.append({"partition_index": entry["partition_index"], "error_code": code})
            answer.append({"name": topic["name"], "partitions": partitions})
        return accepted, answer

    def _fetch(self, version: int, message: Message, client: Any) -> Message:
        if version < 8:
            return self._committed(message["group_id"], message["topics"], message["require_stable"])
        groups = []
        for entry in message["groups"]:
            answer = self._committed(entry["group_id"], entry["topics"], message["require_stable"])
            groups.append({"group_id": entry["group_id"], **answer})
        return {"groups": groups}

    def _committed(self, group_id: str, topics: list[Message] | None, require_stable: bool) -> Message:
        group = self._groups.groups.get(group_id)
        offsets = group.offsets if group is not None else {}
        if topics is None:
            by_topic: dict[str, list[int]] = {}
            for topic, partition in offsets:
                by_topic.setdefault(topic, []).append(partition)
            topics = [{"name": name, "partition_indexes": indexes} for name, indexes in by_topic.items()]
        answer = []
        for entry in topics:
            partitions = []
            for index in entry["partition_indexes"]:
                unstable = require_stable and self._transactions.has_pending_offsets(group_id, entry["name"], index)
                partitions.append(self._offset(index, offsets.get((entry["name"], index)), unstable=unstable))
            answer.append({"name": entry["name"], "partitions": partitions})
        return {"topics": answer, "error_code": ErrorCode.NONE}

    @staticmethod
    def _offset(index: int, committed: CommittedOffset | None, *, unstable: bool) -> Message:
        if unstable or committed is None:
            code = ErrorCode.UNSTABLE_OFFSET_COMMIT if unstable else ErrorCode.NONE
            offset, leader_epoch, metadata = -1, -1, ""
        else:
            code = ErrorCode.NONE
            offset, leader_epoch, metadata = committed.offset, committed.leader_epoch, committed.metadata or ""
        return {
            "partition_index": index,
            "committed_offset": offset,
            "committed_leader_epoch": leader_epoch,
            "metadata": metadata,
            "error_code": code,
        }

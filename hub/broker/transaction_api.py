"""Requests of transactional and idempotent producers; module `transactions` has the rules."""

from typing import Any

from ..protocol import ApiKey, ErrorCode, Message
from .groups import GroupCoordinator
from .offsets_api import OffsetsApi
from .state import BrokerState
from .timing import Deferred
from .transactions import TransactionCoordinator

_BUMP_FROM = 5
"""From this version, EndTxn returns a new epoch, and TxnOffsetCommit adds its group to the transaction (KIP-890)."""


def _code(error: ErrorCode, version: int, fenced_since: int) -> ErrorCode:
    """The error code for this version: before `fenced_since` PRODUCER_FENCED is sent as INVALID_PRODUCER_EPOCH."""
    if error is ErrorCode.PRODUCER_FENCED and version < fenced_since:
        return ErrorCode.INVALID_PRODUCER_EPOCH
    return error


class TransactionApi:
    """Handlers of the transaction requests."""

    def __init__(self, state: BrokerState, transactions: TransactionCoordinator, groups: GroupCoordinator) -> None:
        self._state = state
        self._transactions = transactions
        self._groups = groups
        self._offsets = OffsetsApi(state, groups, transactions)

    def handlers(self) -> dict[int, Any]:
        """Handlers by API key."""
        return {
            ApiKey.INIT_PRODUCER_ID: self._init_producer,
            ApiKey.ADD_PARTITIONS_TO_TXN: self._add_partitions,
            ApiKey.ADD_OFFSETS_TO_TXN: self._add_offsets,
            ApiKey.END_TXN: self._end,
            ApiKey.TXN_OFFSET_COMMIT: self._commit_offsets,
        }

    def _init_producer(self, version: int, message: Message, client: Any) -> Message | Deferred:
        if not self._state.storage.writable:
            return {"error_code": ErrorCode.KAFKA_STORAGE_ERROR, "producer_id": -1, "producer_epoch": -1}
        result = self._transactions.init_producer(
            message["transactional_id"],
            message["transaction_timeout_ms"],
            message["producer_id"],
            message["producer_epoch"],
        )
        error = _code(result.error, version, 4)
        answer = {"error_code": error, "producer_id": result.producer_id, "producer_epoch": result.epoch}
        return self._state.when_stable(answer) if error is ErrorCode.NONE else answer

    def _add_partitions(self, version: int, message: Message, client: Any) -> Message:
        error, entry = self._transactions.check(message["transactional_id"], message["producer_id"], message["producer_epoch"])
        error = _code(error, version, 2)
        logs = {}
        for topic in message["topics"]:
            for partition in topic["partitions"]:
                logs[topic["name"], partition] = self._state.log(topic["name"], partition)
        known = [(topic, partition, log) for (topic, partition), log in logs.items() if log is not None]
        missing = {key for key, log in logs.items() if log is None}
        if entry is not None and not missing:
            self._transactions.add_partitions(entry, known)

        def code(topic: str, partition: int) -> ErrorCode:
            if error is not ErrorCode.NONE or not missing:
                return error
            unknown = (topic, partition) in missing
            return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION if unknown else ErrorCode.OPERATION_NOT_ATTEMPTED

        return {
            "results_by_topic": [
                {
                    "name": topic["name"],
                    "results_by_partition": [
                        {"partition_index": index, "partition_error_code": code(topic["name"], index)}
                        for index in topic["partitions"]
                    ],
                }
                for topic in message["topics"]
            ]
        }

    def _add_offsets(self, version: int, message: Message, client: Any) -> Message:
        error, entry = self._transactions.check(message["transactional_id"], message["producer_id"], message["producer_epoch"])
        if entry is not None:
            self._transactions.add_group(entry, message["group_id"])
        return {"error_code": _code(error, version, 2)}

    def _commit_offsets(self, version: int, message: Message, client: Any) -> Message:
        group_id = message["group_id"]
        error, entry = self._transactions.check(message["transactional_id"], message["producer_id"], message["producer_epoch"])
        if error is ErrorCode.PRODUCER_FENCED:
            error = ErrorCode.INVALID_PRODUCER_EPOCH
        if error is ErrorCode.NONE:
            error = self._groups.offsets.check_transactional_commit(
                group_id, message["generation_id"], message["member_id"], message["group_instance_id"]
            )
        accepted, topics = self._offsets.sort_out(message["topics"], error)
        if entry is not None and accepted:
            error = self._transactions.add_offsets(entry, group_id, accepted, implicit=version >= _BUMP_FROM)
            if error is not ErrorCode.NONE:
                _, topics = self._offsets.sort_out(message["topics"], error)
        return {"topics": topics}

    def _end(self, version: int, message: Message, client: Any) -> Message | Deferred:
        result = self._transactions.end(
            message["transactional_id"],
            message["producer_id"],
            message["producer_epoch"],
            commit=message["committed"],
            bump=version >= _BUMP_FROM,
        )
        error = _code(result.error, version, 2)
        if error is not ErrorCode.NONE:
            return {"error_code": error}
        answer = {"error_code": error, "producer_id": result.producer_id, "producer_epoch": result.epoch}
        return self._state.when_stable(answer)

"""The Produce API: checks and appends the batches of clients."""

from ..protocol import ErrorCode
from ..protocol.produce import PartitionResult, ProduceRequest, Results, read_request, write_response
from .batches import BatchHeader, check_batch
from .log import PartitionLog
from .records import all_keyed
from .state import BrokerState
from .timing import Deferred
from .transactions import TransactionCoordinator

IMPLICIT_PARTITIONS_FROM = 12
"""From this version, a transactional batch adds its partition to the transaction (KIP-890)."""


class ProduceApi:
    """Handles produce requests."""

    def __init__(self, state: BrokerState, transactions: TransactionCoordinator) -> None:
        self._state = state
        self._transactions = transactions

    def handle(self, version: int, buffer: bytes, at: int) -> bytes | Deferred | None:
        """Handle one request. Returns None for acks=0. Responses to transactional batches do not wait for the disk."""
        request = read_request(buffer, at, version)
        waits = False
        results: Results = []
        for topic, partitions in request.topics:
            done = [self._append(request, version, topic, index, batch) for index, batch in partitions]
            waits = waits or any(stable for _, stable in done)
            results.append((topic, [result for result, _ in done]))
        if request.acks == 0:
            return None
        answer = write_response(results, version)
        return self._state.when_stable(answer) if waits else answer

    def _append(
        self, request: ProduceRequest, version: int, topic_name: str, partition: int, batch: bytes | None
    ) -> tuple[PartitionResult, bool]:
        """Returns (result, whether the response must wait until the batch is on disk)."""
        log = self._state.log(topic_name, partition)
        error, header = self._check(request, log, batch)
        if log is None or header is None or batch is None:
            return PartitionResult(partition, error), False
        if header.transactional:
            implicit = version >= IMPLICIT_PARTITIONS_FROM
            identity = (request.transactional_id, header.producer_id, header.producer_epoch)
            error = self._transactions.check_produce(*identity, topic_name, log, implicit=implicit)
            if error is not ErrorCode.NONE:
                return PartitionResult(partition, error), False
        if header.producer_id >= 0:
            error, seen_at = log.check_producer(header)
            if error is not ErrorCode.NONE:
                return PartitionResult(partition, error, -1, log.start), False
            if seen_at is not None:
                return PartitionResult(partition, error, seen_at, log.start), not header.transactional
        base_offset = self._state.append(log, batch, header)
        append_time_ms = log.last_timestamp_ms if log.settings.append_time else -1
        return PartitionResult(partition, ErrorCode.NONE, base_offset, log.start, append_time_ms), not header.transactional

    def _check(
        self, request: ProduceRequest, log: PartitionLog | None, batch: bytes | None
    ) -> tuple[ErrorCode, BatchHeader | None]:
        """Check a batch without regard to its producer."""
        if request.acks not in (-1, 0, 1):
            return ErrorCode.INVALID_REQUIRED_ACKS, None
        if log is None:
            return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, None
        if not self._state.storage.writable:
            return ErrorCode.KAFKA_STORAGE_ERROR, None
        error, header = check_batch(batch or b"", log.settings.message_bytes_max)
        if header is not None and log.settings.compact and not all_keyed(batch or b"", header):
            return ErrorCode.INVALID_RECORD, None
        return error, header

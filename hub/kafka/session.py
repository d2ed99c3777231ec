"""The interface of transactional sessions: one owner per transactional id, one transaction at a time.

Rules for implementations (`tests/conformance/session` checks each one on each broker):
1. Before `open` returns, the former owner of the id is fenced and its open transaction is ended.
2. `commit` is one transaction. All produce requests are acknowledged, in order per partition, before the transaction is ended.
3. Consumers with read_committed see nothing of a transaction before its commit, and all of it afterwards.
4. Batches rejected with a retriable error are sent again, unchanged, for up to 5 s. Any other uncertainty ends the session
  with `SessionFailed`; another owner or a transaction timeout ends it with `SessionFenced`.
5. A closed or failed session cannot be used again.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from .records import Record, TopicPartition

TRANSACTION_TIMEOUT_MS = 10_000
"""Transaction timeout at the broker; also the longest time that a crashed owner without a successor blocks consumers."""
RETRY_SECONDS = 5.0
"""How long retriable errors are retried."""
RUN_BYTES_MAX = 4 << 20
"""Larger outputs for a partition are sent as several consecutive batches in the same transaction."""
OPEN_SECONDS = 30.0
"""Timeout of `open`: coordinators load their state after a start."""


class TransactionalSession(Protocol):
    """A transactional session. Not safe for concurrent use by several tasks."""

    async def open(self) -> None:
        """Take over the transactional id. Raises `BrokerUnreachable`, `SessionFailed`, `SessionFenced` (another session took
        it over meanwhile)."""

    async def commit(self, outputs: Mapping[TopicPartition, Sequence[Record]]) -> Mapping[TopicPartition, int]:
        """Write all records in one transaction; returns the offset of the first record by partition. Without records no
        transaction takes place.

        Raises `SessionFenced`, `SessionFailed`, `RecordTooLarge` (then nothing was sent, and the session continues)."""

    async def close(self) -> None:
        """Close the connections. An open transaction is ended by the next `open` with the id, or by the broker after the
        timeout."""

"""The transactional session: one owner of one transactional id, one transaction at a time. The interface and its rules.

Rules for adapters (`tests/conformance/session` holds them against each one, on each broker):
1. `open` takes the id: the session that had it is fenced, its open transaction ended, before `open` returns.
2. `commit` is one transaction: every produce is acknowledged before the transaction is ended, in the order of each
   partition's records.
3. Nothing of a transaction is visible to read_committed readers before it is committed, and then all of it.
4. What was refused for certain and for a passing reason is sent again, the same bytes for the refused partitions only,
   for up to 5 s. Any other doubt ends the session: `SessionFailed`. Another owner, or a transaction that took too long:
   `SessionFenced`.
5. A session that has ended stays ended.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from .records import Record, TopicPartition

TRANSACTION_TIMEOUT_MS = 10_000
"""How long the broker lets a transaction be open; also the longest time that a dead owner without a successor holds
back readers."""
RETRY_SECONDS = 5.0
"""How long a refusal for a passing reason is answered by trying again."""
RUN_BYTES_MAX = 4 << 20
"""Larger outputs for one partition go as several batches, one after the other, in the same transaction."""
OPEN_SECONDS = 30.0
"""How long `open` tries: coordinators load their state after a start."""


class TransactionalSession(Protocol):
    """See the module. Not for use by several tasks at once."""

    async def open(self) -> None:
        """Take the transactional id. Raises `BrokerUnreachable`, `SessionFailed`, `SessionFenced` (another one took it
        meanwhile)."""

    async def commit(self, outputs: Mapping[TopicPartition, Sequence[Record]]) -> Mapping[TopicPartition, int]:
        """One transaction with all these records; returns the offset of the first record of each partition. Without
        records there is none.

        Raises `SessionFenced`, `SessionFailed`, `RecordTooLarge` (then nothing was sent, and the session continues)."""

    async def close(self) -> None:
        """Let go of the connections. Ends no transaction: the next `open` of the id does, or the broker after the
        timeout."""

"""The transactional session on version 2 of Kafka's transaction protocol (KIP-890). Every EndTxn changes the producer epoch,
so brokers reject delayed and repeated requests of earlier transactions, and AddPartitionsToTxn is not needed.

A transaction takes two round trips: Produce to all leaders concurrently, then EndTxn. If one leader gets all of it, EndTxn is
sent in the turn of the event loop in which the response to Produce arrives. After 32,766 transactions the epoch is
exhausted, and EndTxn returns a new producer id.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import TypeVar

from ..errors import Unreachable
from ..protocol import ErrorCode, name_of
from ..protocol.produce import Produced, read_response, write_request
from ..protocol.transactions import IdentityAnswer, read_end_txn, write_end_txn
from . import requests
from .cluster import Address, Cluster
from .codec import BATCH_BYTES_MAX, build_batches
from .connection import Connection
from .connections import ConnectionPool
from .errors import BrokerUnreachable, ConnectionLost, PartitionUnavailable, RecordTooLarge, SessionFailed, SessionFenced
from .records import Record, TopicPartition
from .session import OPEN_SECONDS, RETRY_SECONDS, RUN_BYTES_MAX, TRANSACTION_TIMEOUT_MS

FENCED = {ErrorCode.INVALID_PRODUCER_EPOCH, ErrorCode.PRODUCER_FENCED}
PASSING = {
    ErrorCode.CONCURRENT_TRANSACTIONS,
    ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
    ErrorCode.NOT_COORDINATOR,
    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
    ErrorCode.NOT_LEADER_OR_FOLLOWER,
}
"""Retriable errors of Produce. The same bytes can be sent again, because the broker detects duplicates by their sequence
numbers. Partitions of a new topic return UNKNOWN_TOPIC_OR_PARTITION or NOT_LEADER_OR_FOLLOWER until their leader is ready."""
LEADER_UNKNOWN = {ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, ErrorCode.NOT_LEADER_OR_FOLLOWER}
COORDINATOR_MOVED = {ErrorCode.COORDINATOR_NOT_AVAILABLE, ErrorCode.NOT_COORDINATOR}
COORDINATOR_BUSY = {ErrorCode.CONCURRENT_TRANSACTIONS, ErrorCode.COORDINATOR_LOAD_IN_PROGRESS}
REQUEST_BYTES_MAX = 16 << 20
"""Produce requests are split at about this size; brokers accept 100 MiB by default."""
MARKERS_PENDING_SECONDS = 0.001
"""Backoff after CONCURRENT_TRANSACTIONS: the markers of the previous transaction are written within a millisecond or two."""
BACKOFF_SECONDS = 0.02
_INTERRUPTED = "its last transaction was interrupted"
_CODE = attrgetter("code")
_Result = TypeVar("_Result")


class Kip890Session:
    """An implementation of `TransactionalSession`."""

    def __init__(
        self,
        cluster: Cluster,
        transactional_id: str,
        *,
        transaction_timeout_ms: int = TRANSACTION_TIMEOUT_MS,
        compression: str = "none",
        retry_seconds: float = RETRY_SECONDS,
        open_seconds: float = OPEN_SECONDS,
    ) -> None:
        self.transactional_id = transactional_id
        self.producer_id = -1
        self.producer_epoch = -1
        self._transaction_timeout_ms = transaction_timeout_ms
        self._compression = compression
        self._request_seconds = cluster.request_seconds
        self._retry_seconds = retry_seconds
        self._open_seconds = open_seconds
        self._connections = ConnectionPool(cluster, role="session")
        self._leaders: dict[TopicPartition, Address] = {}
        self._coordinator: Address | None = None
        self._ended: str | None = "it was not opened"
        self._committing = False
        self._early_end: IdentityAnswer | ConnectionLost | None = None
        """The outcome of the EndTxn that was sent when Produce was answered, until `_end_transaction` processes it."""
        self._early_end_at = 0.0
        """When it was sent (time of the event loop)."""

    # --- open

    async def open(self) -> None:
        """See `TransactionalSession.open`. Retries InitProducerId after a lost response, which only increases the epoch
        again."""
        deadline = _now() + self._open_seconds
        while True:
            try:
                identity = await self._init_producer_id(deadline)
                break
            except (ConnectionLost, BrokerUnreachable):
                self._coordinator = None
                if _now() > deadline:
                    raise
                await asyncio.sleep(BACKOFF_SECONDS)
        self.producer_id, self.producer_epoch = identity.producer_id, identity.producer_epoch
        self._ended = None
        self._connections.close_first()

    async def _init_producer_id(self, deadline: float) -> IdentityAnswer:
        message = requests.init_producer_id_request(self.transactional_id, self._transaction_timeout_ms)
        while True:
            coordinator = await self._connect_coordinator(deadline)
            identity = requests.read_identity(await coordinator.ask(requests.INIT_PRODUCER_ID, message))
            if identity.code == ErrorCode.NONE:
                return identity
            await self._pause_at_coordinator(identity.code, "InitProducerId", deadline)

    async def _pause_at_coordinator(self, code: int, request: str, deadline: float) -> None:
        """Back off after a retriable error of the coordinator; raise on any other error."""
        if code in FENCED:
            raise SessionFenced(f"Another session took over transactional id {self.transactional_id!r} ({name_of(code)}).")
        if code not in COORDINATOR_BUSY | COORDINATOR_MOVED or _now() > deadline:
            raise SessionFailed(f"{request} for transactional id {self.transactional_id!r} failed: {name_of(code)}.")
        if code in COORDINATOR_MOVED:
            self._coordinator = None
        await asyncio.sleep(BACKOFF_SECONDS if code in COORDINATOR_MOVED else MARKERS_PENDING_SECONDS)

    async def _connect_coordinator(self, deadline: float) -> Connection:
        while self._coordinator is None:
            message = requests.find_coordinator_request(self.transactional_id)
            connection = await self._connections.connect_any()
            found = requests.read_find_coordinator(await connection.ask(requests.FIND_COORDINATOR, message))
            if found.code == ErrorCode.NONE:
                self._coordinator = (found.host, found.port)
            else:
                await self._pause_at_coordinator(found.code, "FindCoordinator", deadline)
        try:
            return await self._connections.connect(self._coordinator)
        except BrokerUnreachable as away:
            reason = f"does not respond ({away.reason}); waiting for another coordinator"
            raise ConnectionLost(
                f"The coordinator of {self.transactional_id!r}, {away.bootstrap}, {reason}.", cause=f"leader {away.bootstrap}"
            ) from away

    # --- commit

    async def commit(self, outputs: Mapping[TopicPartition, Sequence[Record]]) -> Mapping[TopicPartition, int]:
        """See `TransactionalSession.commit`."""
        assert not self._committing, "the session is already committing a transaction"
        if self._ended is not None:
            raise SessionFailed(f"The session of transactional id {self.transactional_id!r} has ended: {self._ended}.")
        rounds = self._build_rounds(outputs)
        if not rounds:
            return {}
        self._committing, self._ended, self._early_end = True, _INTERRUPTED, None
        try:
            offsets = await self._transact(rounds)
        except Unreachable as lost:
            self._end(str(lost))
            raise SessionFailed(
                f"The outcome of a transaction of {self.transactional_id!r} is unknown. {lost}", lost.cause
            ) from lost
        except BaseException as failure:
            self._end(str(failure) or type(failure).__name__)
            raise
        finally:
            self._committing = False
        if self._ended == _INTERRUPTED:
            self._ended = None
        else:  # `close` was called meanwhile
            self._connections.close()
        return offsets

    def _build_rounds(self, outputs: Mapping[TopicPartition, Sequence[Record]]) -> list[dict[TopicPartition, bytes]]:
        """The batches of a transaction in rounds, with at most one batch per partition; a round is sent when the previous one
        is acknowledged."""
        rounds: list[dict[TopicPartition, bytes]] = []
        for partition, records in outputs.items():
            if not records:
                continue
            batches = build_batches(
                records,
                RUN_BYTES_MAX,
                producer_id=self.producer_id,
                producer_epoch=self.producer_epoch,
                compression=self._compression,
            )
            for number, batch in enumerate(batches):
                if len(batch) > BATCH_BYTES_MAX:
                    raise RecordTooLarge(partition[0], len(batch), BATCH_BYTES_MAX)
                if number == len(rounds):
                    rounds.append({})
                rounds[number][partition] = batch
        return rounds

    async def _transact(self, rounds: list[dict[TopicPartition, bytes]]) -> dict[TopicPartition, int]:
        offsets: dict[TopicPartition, int] = {}
        for number, batches in enumerate(rounds, start=1):
            offsets = await self._produce(batches, is_last=number == len(rounds)) | offsets
        await self._end_transaction()
        return offsets

    async def _produce(self, batches: Mapping[TopicPartition, bytes], *, is_last: bool = False) -> dict[TopicPartition, int]:
        """Send batches until all are acknowledged, and return their base offsets. Batches with retriable errors are sent again
        unchanged. `is_last`: the transaction may be ended when all are acknowledged."""
        offsets: dict[TopicPartition, int] = {}
        deadline = _now() + self._retry_seconds
        refused: Mapping[TopicPartition, bytes] = batches
        while True:
            failures: dict[TopicPartition, Produced] = {}
            for partition, answer in (await self._send(refused, deadline, is_last)).items():
                if answer.code:
                    failures[partition] = answer
                else:
                    offsets[partition] = answer.base_offset
            if not failures:
                return offsets
            self._judge(failures, deadline)
            refused = {partition: batches[partition] for partition in failures}
            await asyncio.sleep(self._pause_after(failures))

    def _judge(self, failures: Mapping[TopicPartition, Produced], deadline: float) -> None:
        """Raise unless all failures are retriable."""
        for (topic, partition), answer in failures.items():
            if answer.code in FENCED:
                reason = f"took over {self.transactional_id!r}, or a transaction timed out"
                raise SessionFenced(f"Another session {reason} ({name_of(answer.code)}).")
            if answer.code not in PASSING or _now() > deadline:
                reason = f"{name_of(answer.code)} {answer.message}".strip()
                cause = f"refused: {name_of(answer.code)}"
                raise SessionFailed(f"The broker rejected a batch for {topic}-{partition}: {reason}.", cause)

    def _pause_after(self, failures: Mapping[TopicPartition, Produced]) -> float:
        seconds = MARKERS_PENDING_SECONDS
        for partition, answer in failures.items():
            if answer.code in LEADER_UNKNOWN:
                self._leaders.pop(partition, None)
            if answer.code != ErrorCode.CONCURRENT_TRANSACTIONS:
                seconds = BACKOFF_SECONDS
        return seconds

    async def _send(
        self, batches: Mapping[TopicPartition, bytes], deadline: float, is_last: bool
    ) -> dict[TopicPartition, Produced]:
        """Send one or more produce requests to each leader concurrently."""
        await self._find_leaders(batches, deadline)
        by_leader: dict[Address, dict[TopicPartition, bytes]] = {}
        for partition, batch in batches.items():
            by_leader.setdefault(self._leaders[partition], {})[partition] = batch
        requests = [
            (await self._connect_leader(address, whole), part) for address, whole in by_leader.items() for part in _cut(whole)
        ]
        if len(requests) == 1:
            return await self._send_one(*requests[0], is_last)
        answers: dict[TopicPartition, Produced] = {}
        for result in await asyncio.gather(*(self._send_one(*request) for request in requests), return_exceptions=True):
            if isinstance(result, BaseException):
                raise result
            answers.update(result)
        return answers

    async def _send_one(
        self, connection: Connection, batches: Mapping[TopicPartition, bytes], is_last: bool = False
    ) -> dict[TopicPartition, Produced]:
        """`is_last`: send EndTxn in the turn of the event loop in which all batches are acknowledged, and return when that is
        answered, too."""
        result: asyncio.Future[dict[TopicPartition, Produced]] = asyncio.get_running_loop().create_future()

        def on_answer(response: bytes) -> None:
            if result.done():
                return
            answers = read_response(response)
            stored = answers.keys() == batches.keys() and not any(map(_CODE, answers.values()))
            if not (is_last and stored and self._end_early(lambda: _settle(result, answers))):
                result.set_result(answers)

        def on_lost(error: ConnectionLost) -> None:
            if not result.done():
                result.set_exception(error)

        body = write_request(self.transactional_id, int(self._request_seconds * 1000), batches)
        try:
            connection.send(requests.PRODUCE, body, on_answer, on_lost, timeout_seconds=self._request_seconds)
            answers = await result
        except ConnectionLost as lost:
            raise ConnectionLost(f"{lost} This broker is the leader of {_names(batches)}.", cause=lost.cause) from lost
        if answers.keys() != batches.keys():
            raise SessionFailed(f"The produce response of {connection.address} has other partitions than the request.")
        return answers

    async def _find_leaders(self, partitions: Iterable[TopicPartition], deadline: float) -> None:
        while missing := {partition for partition in partitions if partition not in self._leaders}:
            connection = await self._connections.connect_any()
            message = requests.metadata_request(sorted({topic for topic, _ in missing}))
            self._leaders.update(requests.read_metadata(await connection.ask(requests.METADATA, message)).addresses)
            if missing := missing - self._leaders.keys():
                if _now() > deadline:
                    raise SessionFailed(
                        f"No leader for {_names(missing)} within {self._retry_seconds:g} s: "
                        "the partitions are unknown or unavailable.",
                        cause="leader None",
                    )
                await asyncio.sleep(BACKOFF_SECONDS)

    async def _end_transaction(self) -> None:
        """Commit. After a lost response the same EndTxn is retried: the broker recognises it by its epoch and returns the same
        result."""
        deadline = (_now() if self._early_end is None else self._early_end_at) + self._request_seconds
        while True:
            end, self._early_end = self._early_end, None
            try:
                if isinstance(end, ConnectionLost):
                    raise end
                if end is None:
                    coordinator, seconds = await self._connect_coordinator(deadline), self._request_seconds / 2
                    end = await coordinator.request(requests.END_TXN, self._end_body(), read_end_txn, timeout_seconds=seconds)
            except (ConnectionLost, BrokerUnreachable):
                if _now() > deadline:
                    raise
                self._coordinator = None
                await asyncio.sleep(BACKOFF_SECONDS)
                continue
            if end.code == ErrorCode.NONE:
                break
            await self._pause_at_coordinator(end.code, "EndTxn", deadline)
        if (end.producer_id, end.producer_epoch) == (self.producer_id, self.producer_epoch):
            raise SessionFailed(
                f"EndTxn for transactional id {self.transactional_id!r} returned no new epoch: the broker lacks KIP-890."
            )
        self.producer_id, self.producer_epoch = end.producer_id, end.producer_epoch

    def _end_early(self, then: Callable[[], None]) -> bool:
        """Send EndTxn, if the connection to the coordinator is open, and call `then` when `_early_end` is known. Returns whether
        it was sent."""
        coordinator = None if self._coordinator is None else self._connections.get_open(self._coordinator)
        if coordinator is None:
            return False

        def on_answer(response: bytes) -> None:
            self._early_end = read_end_txn(response)
            then()

        def on_lost(error: ConnectionLost) -> None:
            self._early_end = error
            then()

        self._early_end_at = _now()
        coordinator.send(requests.END_TXN, self._end_body(), on_answer, on_lost, timeout_seconds=self._request_seconds / 2)
        return True

    def _end_body(self) -> bytes:
        return write_end_txn(self.transactional_id, self.producer_id, self.producer_epoch, committed=True)

    # --- connections

    async def _connect_leader(self, address: Address, partitions: Iterable[TopicPartition]) -> Connection:
        try:
            return await self._connections.connect(address)
        except BrokerUnreachable as away:
            (topic, partition), *_ = partitions
            waited_for = f"does not respond ({away.reason}); waiting for a new leader"
            raise PartitionUnavailable(topic, partition, away.bootstrap, waited_for) from away

    # --- closing

    def _end(self, reason: str) -> None:
        self._ended = reason.rstrip(".")
        self._connections.close()

    async def close(self) -> None:
        """See `TransactionalSession.close`."""
        self._end("closed by its owner")


def _settle(result: "asyncio.Future[_Result]", value: _Result) -> None:
    if not result.done():
        result.set_result(value)


def _now() -> float:
    return asyncio.get_running_loop().time()


def _names(partitions: Iterable[TopicPartition]) -> str:
    return ", ".join(f"{topic}-{partition}" for topic, partition in sorted(partitions))


def _cut(batches: Mapping[TopicPartition, bytes]) -> list[dict[TopicPartition, bytes]]:
    """Split the batches for one leader into requests of about `REQUEST_BYTES_MAX` at most."""
    parts: list[dict[TopicPartition, bytes]] = [{}]
    size = 0
    for partition, batch in batches.items():
        if size and size + len(batch) > REQUEST_BYTES_MAX:
            parts.append({})
            size = 0
        parts[-1][partition] = batch
        size += len(batch)
    return parts

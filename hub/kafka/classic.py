"""The transactional session for clusters without KIP-890, on aiokafka's producer.

Version 1 of the transaction protocol cannot distinguish a delayed request of one transaction from a request of the next one.
So after a lost EndTxn response a session never retries EndTxn: it fails, and the InitProducerId of the next owner completes
or aborts the transaction. aiokafka commits even if a send failed, so every send future is awaited before the commit.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.client import CoordinationType
from aiokafka.errors import InvalidProducerEpoch, KafkaConnectionError, KafkaError, ProducerClosed, ProducerFenced
from aiokafka.producer.sender import EndTxnHandler

from .clients import make_transactional_producer
from .cluster import Cluster
from .codec import BATCH_BYTES_MAX, size_of
from .errors import BrokerUnreachable, RecordTooLarge, SessionFailed, SessionFenced
from .records import Record, TopicPartition
from .session import OPEN_SECONDS, RETRY_SECONDS, TRANSACTION_TIMEOUT_MS

STOP_SECONDS = 5.0
METADATA_SECONDS = 0.02
"""Pause between two metadata requests for an unknown topic."""


class ClassicSession:
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
        self._cluster = cluster
        self._settings: dict[str, Any] = {
            "transaction_timeout_ms": transaction_timeout_ms,
            "compression_type": None if compression == "none" else compression,
        }
        self._commit_seconds = cluster.request_seconds + retry_seconds
        self._retry_seconds = retry_seconds
        self._open_seconds = open_seconds
        self._producer: AIOKafkaProducer | None = None
        self._ended: str | None = "it was not opened"
        self._committing = False

    async def open(self) -> None:
        """See `TransactionalSession.open`."""
        self._producer = producer = make_transactional_producer(self._cluster, self.transactional_id, **self._settings)
        try:
            async with asyncio.timeout(self._open_seconds):
                await producer.start()
        except (TimeoutError, KafkaError) as failure:
            await self._end(f"opening failed: {failure!r}")
            if isinstance(failure, KafkaConnectionError):
                raise BrokerUnreachable(str(self._cluster), str(failure)) from None
            if isinstance(failure, TimeoutError):
                reason = f"No coordinator accepted transactional id {self.transactional_id!r} within {self._open_seconds:g} s."
                raise SessionFailed(reason) from failure
            if isinstance(failure, ProducerFenced | InvalidProducerEpoch):
                raise SessionFenced(
                    f"Another session took over transactional id {self.transactional_id!r} ({failure!r})."
                ) from failure
            raise SessionFailed(f"The coordinator rejected transactional id {self.transactional_id!r}: {failure!r}.") from failure
        _send_end_txn_once(producer)
        self._ended = None

    async def commit(self, outputs: Mapping[TopicPartition, Sequence[Record]]) -> Mapping[TopicPartition, int]:
        """See `TransactionalSession.commit`."""
        assert not self._committing, "the session is already committing a transaction"
        if self._ended is not None:
            raise SessionFailed(f"The session of transactional id {self.transactional_id!r} has ended: {self._ended}.")
        work = {TopicPartition(*partition): records for partition, records in outputs.items() if records}
        if not work:
            return {}
        _check_sizes(work)
        self._committing, self._ended = True, "its last transaction was interrupted"
        try:
            offsets = await self._transact(work)
        except BaseException as failure:
            await self._end(f"{failure!r}")
            raise self._judged(failure) from failure
        finally:
            self._committing = False
        self._ended = None
        return offsets

    def _judged(self, failure: BaseException) -> BaseException:
        if isinstance(failure, ProducerFenced | InvalidProducerEpoch):
            return SessionFenced(
                f"Another session took over {self.transactional_id!r}, or a transaction timed out ({failure!r})."
            )
        if isinstance(failure, KafkaError | TimeoutError | AssertionError):  # aiokafka uses assert for unknown partitions
            return SessionFailed(f"The outcome of a transaction of {self.transactional_id!r} is unknown: {failure!r}.")
        return failure

    async def _transact(self, work: Mapping[TopicPartition, Sequence[Record]]) -> dict[TopicPartition, int]:
        producer = self._producer
        assert producer is not None
        async with asyncio.timeout(self._commit_seconds):
            async with asyncio.timeout(self._retry_seconds):
                await self._know(producer, work)
            await producer.begin_transaction()
            sent = {partition: await self._send(producer, partition, records) for partition, records in work.items()}
            results = await asyncio.gather(*(future for futures in sent.values() for future in futures), return_exceptions=True)
            for result in results:
                if isinstance(result, BaseException):
                    raise result
            await producer.commit_transaction()
        return {partition: futures[0].result().offset for partition, futures in sent.items()}

    async def _know(self, producer: AIOKafkaProducer, work: Mapping[TopicPartition, Sequence[Record]]) -> None:
        """Wait until the client has metadata of these partitions; that of a new topic takes a moment."""
        for topic, partition in work:
            while partition not in (producer.client.cluster.partitions_for_topic(topic) or ()):
                producer.client.add_topic(topic)
                await producer.client.force_metadata_update()
                await asyncio.sleep(METADATA_SECONDS)

    async def _send(
        self, producer: AIOKafkaProducer, partition: TopicPartition, records: Sequence[Record]
    ) -> list["asyncio.Future[Any]"]:
        futures = []
        batch = producer.create_batch()
        for record in records:
            fields = {"timestamp": record.timestamp_ms, "key": record.key, "value": record.value, "headers": list(record.headers)}
            if batch.append(**fields) is None:
                futures.append(await producer.send_batch(batch, partition.topic, partition=partition.partition))
                batch = producer.create_batch()
                batch.append(**fields)
        futures.append(await producer.send_batch(batch, partition.topic, partition=partition.partition))
        return futures

    async def _end(self, reason: str) -> None:
        """Close without flushing: the next owner ends an unacknowledged transaction."""
        self._ended = reason
        producer, self._producer = self._producer, None
        if producer is None:
            return
        batches = _fail_all(producer)
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await producer.stop()
        except (TimeoutError, KafkaError, KeyError):  # KeyError: a late response for a batch that `fail_all` has removed
            await producer.client.close()
        _retrieve_exceptions(batches)
        _retrieve(producer._txn_manager._transaction_waiter)

    async def close(self) -> None:
        """See `TransactionalSession.close`."""
        await self._end("closed by its owner")


def _check_sizes(work: Mapping[TopicPartition, Sequence[Record]]) -> None:
    for partition, records in work.items():
        largest = max(map(size_of, records))
        if largest > BATCH_BYTES_MAX - 128:
            raise RecordTooLarge(partition.topic, largest, BATCH_BYTES_MAX)


def _fail_all(producer: AIOKafkaProducer) -> list[Any]:
    """Fail every batch that is queued or in flight. Returns these batches."""
    accumulator = producer._message_accumulator
    # aiokafka removes a failed batch from `_pending_batches` even if it is queued for a retry, and so no longer there.
    accumulator._pending_batches.update(batch for queue in accumulator._batches.values() for batch in queue)
    batches = list(accumulator._pending_batches)
    accumulator.fail_all(ProducerClosed())
    _retrieve_exceptions(batches)  # the sender may take a batch once more, and replaces its waiter then
    return batches


def _retrieve_exceptions(batches: Sequence[Any]) -> None:
    for batch in batches:
        _retrieve(batch.future)
        _retrieve(batch._drain_waiter)


def _retrieve(future: "asyncio.Future[Any] | None") -> None:
    """Retrieve the exception of a future that nobody awaits; asyncio would log it."""
    if future is not None and future.done() and not future.cancelled():
        future.exception()


class EndTxnUnanswered(KafkaError):  # type: ignore[misc]
    """The response to EndTxn was lost."""


class EndTxnOnce(EndTxnHandler):  # type: ignore[misc]
    """aiokafka's EndTxn handler, except that a lost response raises an error instead of a retry."""

    async def send_once(self, node_id: int) -> None:
        try:
            answer = await self._sender.client.send(node_id, self.create_request(), group=self.group)
        except KafkaError as lost:
            raise EndTxnUnanswered(repr(lost)) from lost
        backoff = self.handle_response(answer)
        if backoff is not None:  # the coordinator has not begun: the sender asks again
            await asyncio.sleep(backoff)


def _send_end_txn_once(producer: AIOKafkaProducer) -> None:
    """Replace the commit step of aiokafka's sender; its transactions are never empty here. It uses private parts;
    tests/kafka/test_classic.py fails if one of them changes in aiokafka."""
    sender = producer._sender

    async def commit(commit_result: Any) -> None:
        await sender._message_accumulator.flush_for_commit()
        node_id = await sender._find_coordinator(CoordinationType.TRANSACTION, sender._txn_manager.transactional_id)
        await EndTxnOnce(sender, commit_result).send_once(node_id)

    sender._do_txn_commit = commit

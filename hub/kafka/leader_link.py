"""Produce requests over one connection to a leader."""

import asyncio
from collections.abc import Callable
from functools import partial

from ..protocol import MalformedMessage, TopicPartition
from ..protocol.one_partition import ProduceOnePartition
from ..protocol.produce import Produced, read_response, write_request
from .connection import Connection
from .errors import ConnectionLost
from .partition_queue import OutgoingBatch, PartitionQueue
from .requests import IDEMPOTENT_PRODUCE

BATCH_BYTES = 1 << 20
"""Records of a partition are sent in batches of about this size at most."""
REQUEST_BYTES = 8 << 20
"""A request that has reached this size gets no further batch."""
REQUESTS_MAX = 5
"""Most requests without a response."""
REPLICATION_SHARE = 0.8
"""The part of the request timeout after which the leader answers that replicas are too slow; later, the connection is closed."""

Taken = list[tuple[PartitionQueue, OutgoingBatch]]


CallSoon = Callable[[Callable[[], object]], asyncio.Handle]
"""Calls a function in another turn of the event loop."""


class LeaderLink:
    """Sends the batches of the queues that are offered, until the connection is closed. `call_soon` determines when those that
    are offered leave together. `on_detach` gets each queue that can no longer be sent over the link, `on_error` an unexpected
    exception."""

    def __init__(
        self,
        connection: Connection,
        request_seconds: float,
        call_soon: CallSoon,
        on_detach: Callable[[PartitionQueue], object],
        on_error: Callable[[Exception], object],
    ) -> None:
        self._connection = connection
        self._timeout_ms = int(request_seconds * REPLICATION_SHARE * 1000)
        self._call_soon = call_soon
        self._on_detach = on_detach
        self._on_error = on_error
        self._flushing: asyncio.Handle | None = None
        self._ready: dict[PartitionQueue, None] = {}
        self._alone: dict[TopicPartition, ProduceOnePartition] = {}
        """How a batch for a partition is sent without others."""
        self._unanswered = 0
        self._proven = False
        """The broker has answered a request."""
        self._dropped = False

    @property
    def is_open(self) -> bool:
        """Whether the connection is open, as far as this side knows."""
        return self._connection.is_open

    def uses(self, connection: Connection) -> bool:
        """Whether this is its connection."""
        return self._connection is connection

    def drop(self) -> None:
        """Send nothing more, and ignore the outcome of what was sent."""
        self._dropped = True
        self._ready.clear()
        if self._flushing is not None:
            self._flushing.cancel()
            self._flushing = None

    def offer(self, queue: PartitionQueue) -> None:
        """Send the records of `queue` soon."""
        self._ready[queue] = None
        if self._flushing is None:
            self._flushing = self._call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = None
        try:
            self._send_ready()
        except Exception as error:
            self._on_error(error)

    def _send_ready(self) -> None:
        """Send what is ready, as far as the limit of unanswered requests allows."""
        if not self._connection.is_open:
            self._return_all()
            return
        while self._ready and self._unanswered < REQUESTS_MAX:
            taken = self._take()
            if not taken:
                return
            self._send(taken)

    def _return_all(self) -> None:
        """Queues with a batch in flight are returned when its end is known. A broker that closes connections without a response
        may not be the leader any longer: a pause and a request for metadata precede the next attempt."""
        ready, self._ready = self._ready, {}
        for queue in ready:
            if queue.in_flight:
                continue
            if not (self._proven or queue.failed):
                queue.delay(f"The connection to {self._connection.address} was closed.")
            self._on_detach(queue)

    def _take(self) -> Taken:
        """At most one batch per partition; empty if nothing is to be sent."""
        taken: Taken = []
        size = 0
        for queue in list(self._ready):
            if size >= REQUEST_BYTES:
                break
            del self._ready[queue]
            batch = queue.take(BATCH_BYTES)
            if batch is not None:
                taken.append((queue, batch))
                size += len(batch.data)
                if queue.sendable:
                    self._ready[queue] = None  # after the others
        return taken

    def _send(self, taken: Taken) -> None:
        alone: ProduceOnePartition | None = None
        if len(taken) == 1:
            ((queue, batch),) = taken
            alone = self._alone.get(queue.partition)
            if alone is None:
                alone = self._alone[queue.partition] = ProduceOnePartition(queue.partition, self._timeout_ms)
            body = alone.request(batch.data)
        else:
            body = write_request(None, self._timeout_ms, {queue.partition: batch.data for queue, batch in taken})
        self._unanswered += 1
        self._connection.send(IDEMPOTENT_PRODUCE, body, partial(self._answered, taken, alone), partial(self._lost, taken))

    def _answered(self, taken: Taken, alone: ProduceOnePartition | None, body: bytes) -> None:
        stored = alone is not None and alone.is_stored(body)
        answers = {} if stored else self._read(taken, body)
        self._unanswered -= 1
        self._proven = True
        try:
            for queue, batch in taken:
                if stored:
                    queue.stored(batch)
                else:
                    answer = answers[queue.partition]
                    queue.answered(batch, self._connection.address, answer.code, answer.message)
                self._continue(queue)
            if self._ready:
                self._send_ready()
        except Exception as error:
            self._on_error(error)

    @staticmethod
    def _read(taken: Taken, body: bytes) -> dict[TopicPartition, Produced]:
        """Raises MalformedMessage."""
        answers = read_response(body)
        if any(queue.partition not in answers for queue, _ in taken):
            raise MalformedMessage("a partition of the request is missing")
        return answers

    def _lost(self, taken: Taken, error: ConnectionLost) -> None:
        self._unanswered -= 1
        if self._dropped:
            return
        try:
            for queue, _ in taken:
                queue.lost(str(error))
                self._continue(queue)
            self._return_all()
        except Exception as unexpected:
            self._on_error(unexpected)

    def _continue(self, queue: PartitionQueue) -> None:
        if queue.failed:
            if not queue.in_flight:
                self._ready.pop(queue, None)  # more was posted after the failure
                self._on_detach(queue)
        elif queue.sendable:
            self._ready[queue] = None

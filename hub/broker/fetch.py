"""Fetch: read requests, long polling, and the answer written by hand. Versions 4 to 12.

A request that finds less than it wants waits until enough became visible to it, or its time is over. Fetch sessions
(KIP-227) are declined: the answer carries session 0, and the client continues with full requests.
"""

import struct
from typing import NamedTuple

from .errors import ErrorCode
from .log import PartitionLog
from .state import BrokerState
from .timing import Deferred
from .wire import INT16, INT32, decode_request, write_uvarint

FLEXIBLE_FROM = 12
_PARTITION = struct.Struct(">ihqq")
_ABORTED = struct.Struct(">qq")
_INT64 = struct.Struct(">q")
FETCH_KEY = 1


class PartitionFetch(NamedTuple):
    """One partition of a request."""

    partition: int
    offset: int
    max_bytes: int


class PartitionData(NamedTuple):
    """One partition of an answer."""

    partition: int
    error: ErrorCode
    high_watermark: int = -1
    last_stable_offset: int = -1
    log_start: int = -1
    aborted: list[tuple[int, int]] | None = None
    records: bytes = b""


class FetchRequest(NamedTuple):
    """A decoded request."""

    max_wait_seconds: float
    min_bytes: int
    max_bytes: int
    committed: bool
    session_id: int
    topics: list[tuple[str, list[PartitionFetch]]]


FetchResult = list[tuple[str, list[PartitionData]]]


def read_fetch(buffer: bytes, at: int, version: int) -> FetchRequest:
    """Decode a request body. Raises `MalformedRequest`."""
    message = decode_request(FETCH_KEY, version, buffer, at)
    topics = [
        (
            topic["topic"],
            [PartitionFetch(p["partition"], p["fetch_offset"], p["partition_max_bytes"]) for p in topic["partitions"]],
        )
        for topic in message["topics"]
    ]
    wait = max(message["max_wait_ms"], 0) / 1000
    return FetchRequest(
        wait, message["min_bytes"], message["max_bytes"], message["isolation_level"] == 1, message["session_id"], topics
    )


def write_fetch(result: FetchResult, version: int, error: ErrorCode = ErrorCode.NONE) -> bytes:
    """Encode an answer body."""
    flexible = version >= FLEXIBLE_FROM
    out: list[bytes] = [b"\0\0\0\0"]
    if version >= 7:
        out.append(INT16.pack(error) + b"\0\0\0\0")
    out.append(write_uvarint(len(result) + 1) if flexible else INT32.pack(len(result)))
    for topic, partitions in result:
        name = topic.encode()
        if flexible:
            out += (write_uvarint(len(name) + 1), name, write_uvarint(len(partitions) + 1))
        else:
            out += (INT16.pack(len(name)), name, INT32.pack(len(partitions)))
        for data in partitions:
            _write_partition(out, data, version, flexible)
        if flexible:
            out.append(b"\0")
    if flexible:
        out.append(b"\0")
    return b"".join(out)


def _write_partition(out: list[bytes], data: PartitionData, version: int, flexible: bool) -> None:
    out.append(_PARTITION.pack(data.partition, data.error, data.high_watermark, data.last_stable_offset))
    if version >= 5:
        out.append(_INT64.pack(data.log_start))
    if data.aborted is None:
        out.append(b"\0" if flexible else b"\xff\xff\xff\xff")
    else:
        out.append(write_uvarint(len(data.aborted) + 1) if flexible else INT32.pack(len(data.aborted)))
        out += [_ABORTED.pack(*entry) + (b"\0" if flexible else b"") for entry in data.aborted]
    if version >= 11:
        out.append(b"\xff\xff\xff\xff")
    if flexible:
        out += (write_uvarint(len(data.records) + 1), data.records, b"\0")
    else:
        out += (INT32.pack(len(data.records)), data.records)


class FetchApi:
    """Answers fetches from the logs."""

    def __init__(self, state: BrokerState) -> None:
        self._state = state

    def handle(self, version: int, buffer: bytes, at: int) -> bytes | Deferred:
        """One request: an answer, or one that comes when there is something to send."""
        request = read_fetch(buffer, at, version)
        if request.session_id:
            return write_fetch([], version, ErrorCode.FETCH_SESSION_ID_NOT_FOUND)
        result, size, failed = self.collect(request)
        if size >= request.min_bytes or failed or not request.max_wait_seconds or not request.topics:
            return write_fetch(result, version)
        return _WaitingFetch(self._state, self, request, version).answer

    def collect(self, request: FetchRequest) -> tuple[FetchResult, int, bool]:
        """(result, bytes of records, whether any partition has an error)."""
        result: FetchResult = []
        size, failed = 0, False
        budget = min(request.max_bytes, self._state.settings.fetch_bytes_max)
        for topic, partitions in request.topics:
            answers = []
            for partition in partitions:
                data = self._partition(topic, partition, request.committed, budget - size, size == 0)
                size += len(data.records)
                failed = failed or data.error is not ErrorCode.NONE
                answers.append(data)
            result.append((topic, answers))
        return result, size, failed

    def _partition(self, topic: str, fetch: PartitionFetch, committed: bool, budget: int, must_progress: bool) -> PartitionData:
        log = self._state.log(topic, fetch.partition)
        if log is None:
            return PartitionData(fetch.partition, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
        last_stable = log.visible_end(committed=True)
        if not log.start <= fetch.offset <= log.stable_end:
            return PartitionData(fetch.partition, ErrorCode.OFFSET_OUT_OF_RANGE, log.stable_end, last_stable, log.start)
        records: bytes = b""
        aborted: list[tuple[int, int]] = []
        if fetch.offset < (last_stable if committed else log.stable_end) and (budget > 0 or must_progress):
            records, aborted = log.read(fetch.offset, max(0, min(fetch.max_bytes, budget)), committed=committed)
            if len(records) > budget and not must_progress:
                records, aborted = b"", []
        return PartitionData(
            fetch.partition,
            ErrorCode.NONE,
            log.stable_end,
            last_stable,
            log.start,
            aborted if committed else None,
            records,
        )

    def available(self, request: FetchRequest) -> bool:
        """Whether any partition has anything to send (or an error to report)."""
        for topic, partitions in request.topics:
            for fetch in partitions:
                log = self._state.log(topic, fetch.partition)
                if log is None or log.visible_end(committed=request.committed) > fetch.offset:
                    return True
        return False


class _WaitingFetch:
    """A fetch that waits for data or for its time to be over."""

    def __init__(self, state: BrokerState, api: FetchApi, request: FetchRequest, version: int) -> None:
        self.answer = Deferred()
        self._api = api
        self._request = request
        self._version = version
        self._logs: list[PartitionLog] = []
        for topic, partitions in request.topics:
            for fetch in partitions:
                log = state.log(topic, fetch.partition)
                if log is not None:
                    log.waiters[self._look] = None
                    self._logs.append(log)
        self._timer = state.timers.after(request.max_wait_seconds, self._finish)
        self.answer.on_abandoned = self._stop

    def _look(self) -> None:
        if self._request.min_bytes <= 1:
            if self._api.available(self._request):
                self._finish()
            return
        _, size, failed = self._api.collect(self._request)
        if size >= self._request.min_bytes or failed:
            self._finish()

    def _finish(self) -> None:
        self._stop()
        result, _, _ = self._api.collect(self._request)
        self.answer.resolve(write_fetch(result, self._version))

    def _stop(self) -> None:
        self._timer.cancel()
        for log in self._logs:
            log.waiters.pop(self._look, None)

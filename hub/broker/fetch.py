"""The Fetch API: reads from the logs, with long polling.

A request that finds less than `min_bytes` waits until enough is visible to it or `max_wait_ms` has passed. Fetch sessions
(KIP-227) are declined: the response carries session id 0, and the client continues with full requests.
"""

from ..protocol import ErrorCode
from ..protocol.fetch import FetchRequest, FetchResult, PartitionData, PartitionFetch, read_request, write_response
from .log import PartitionLog
from .state import BrokerState
from .timing import Deferred


class FetchApi:
    """Handles fetch requests."""

    def __init__(self, state: BrokerState) -> None:
        self._state = state

    def handle(self, version: int, buffer: bytes, at: int) -> bytes | Deferred:
        """Handle one request. Returns the response, or a `Deferred` that is resolved when enough data is visible. Raises
        `MalformedMessage`."""
        request = read_request(buffer, at, version)
        if request.session_id:
            return write_response([], version, ErrorCode.FETCH_SESSION_ID_NOT_FOUND)
        may_wait = request.min_bytes > 0 and request.max_wait_seconds > 0 and bool(request.topics)
        if may_wait and not self.available(request):
            return _WaitingFetch(self._state, self, request, version).answer
        result, size, failed = self.collect(request)
        if may_wait and size < request.min_bytes and not failed:
            return _WaitingFetch(self._state, self, request, version).answer
        self._state.figures.fetched_bytes += size
        return write_response(result, version)

    def collect(self, request: FetchRequest) -> tuple[FetchResult, int, bool]:
        """Read the partitions. Returns (result, bytes of records, whether any partition has an error)."""
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
        """Whether any partition has data to send or an error to report."""
        for topic, partitions in request.topics:
            for fetch in partitions:
                log = self._state.log(topic, fetch.partition)
                if log is None or log.visible_end(committed=request.committed) > fetch.offset:
                    return True
                if not log.start <= fetch.offset <= log.stable_end:
                    return True
        return False


class _WaitingFetch:
    """A fetch that waits for data or its timeout."""

    def __init__(self, state: BrokerState, api: FetchApi, request: FetchRequest, version: int) -> None:
        self.answer = Deferred()
        self._figures = state.figures
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
        self._timer = state.timers.after(request.max_wait_seconds, self._time_out)
        self.answer.on_abandoned = self._stop

    def _look(self) -> None:
        result, size, failed = self._api.collect(self._request)
        if size >= self._request.min_bytes or failed:
            self._finish(result, size)

    def _time_out(self) -> None:
        result, size, _ = self._api.collect(self._request)
        self._finish(result, size)

    def _finish(self, result: FetchResult, size: int) -> None:
        self._stop()
        self._figures.fetched_bytes += size
        self.answer.resolve(write_response(result, self._version))

    def _stop(self) -> None:
        self._timer.cancel()
        for log in self._logs:
            log.waiters.pop(self._look, None)

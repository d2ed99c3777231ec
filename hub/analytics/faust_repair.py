"""Repairs of faust-streaming 0.15 that its use here needs; applied when this module is imported.

- Recovery: the partitions of the source are resumed only after the seek, and after the queues of the streams were cleared; the
  other order loses records that were fetched in between (`Recovery.on_recovery_completed`).
- Directories: Faust creates three for its tables in the working directory, although there are no tables.
- Reading: records of aborted transactions are not read (`isolation_level`; Faust has it only together with its own transactions).
"""

from collections import deque
from collections.abc import Mapping
from typing import Any, NamedTuple

import faust
from faust.tables.recovery import Recovery
from faust.transport.drivers import aiokafka as driver

from ..errors import ConfigurationError

KNOWN = "0.15."
"""The release whose parts are replaced here."""
FETCHED_KEPT = 100


def check_release(version: str) -> None:
    """Raise ConfigurationError for a release of Faust to which the repairs may not apply."""
    if not version.startswith(KNOWN):
        raise ConfigurationError(f"The analytics need faust-streaming {KNOWN}x, and {version} is installed.")


async def on_recovery_completed(self: Any, generation_id: int = 0) -> None:
    """`Recovery.on_recovery_completed` with the steps in an order that loses nothing; for programs without tables."""
    app, consumer = self.app, self.app.consumer
    await app.on_rebalance_complete.send()
    self._set_recovery_ended()
    if app.consumer_generation_id != generation_id:
        return
    assigned = consumer.assignment()
    if assigned:
        await self._wait(consumer.perform_seek(), timeout=app.conf.broker_request_timeout)
    self.completed.set()
    app.flow_control.resume()
    consumer.resume_partitions(set(assigned))
    consumer.resume_flow()
    await app._fetcher.maybe_start()
    self.tables.on_actives_ready()
    if not app.assignor.assigned_standbys():
        self.tables.on_standbys_ready()
    app.on_rebalance_end()


class FetchedUntil(NamedTuple):
    """Everything that was committed before `at_ms` (local time) was fetched; `last`: by partition the last record of it."""

    at_ms: int
    last: Mapping[int, int]


class CommittedThread(driver.AIOKafkaConsumerThread):
    """The thread of the consumer; it reads committed records, and notes when there were no more to read."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.fetched: deque[FetchedUntil] = deque(maxlen=FETCHED_KEPT)
        self._last: dict[int, int] = {}

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._isolation_level = "read_committed"  # used when the consumer is started
        return consumer

    async def _fetch_records(self, consumer: Any, *args: Any, **settings: Any) -> Any:
        records = await super()._fetch_records(consumer, *args, **settings)
        for place, found in records.items():
            self._last[place.partition] = found[-1].offset
        if (at_ms := all_fetched_at(consumer)) is not None:
            self.fetched.append(FetchedUntil(at_ms, dict(self._last)))
        return records


def all_fetched_at(consumer: Any) -> int | None:
    """The local time in ms before which all that was committed to the assigned partitions has been fetched; None if there is
    more."""
    oldest: int | None = None
    for place in consumer.assignment():
        state = consumer._subscription.subscription.assignment.state_value(place)
        end, told_ms = consumer.last_stable_offset(place), consumer.last_poll_timestamp(place)
        if end is None or told_ms is None or not state.has_valid_position or state.position < end:
            return None
        oldest = told_ms if oldest is None else min(oldest, told_ms)
    return oldest


class CommittedConsumer(driver.Consumer):
    """A consumer of committed records."""

    def _new_consumer_thread(self) -> CommittedThread:
        return CommittedThread(self, loop=self.loop, beacon=self.beacon)

    @property
    def fetched(self) -> list[FetchedUntil]:
        """The latest moments at which there was no more to fetch, the oldest first."""
        thread: Any = self._thread
        return list(thread.fetched)

    @property
    def partitions(self) -> int:
        """Number of assigned partitions."""
        return len(self._thread.assignment())


def create_no_directories(_: Any) -> None:
    """`App._create_directories` for programs without tables."""


check_release(faust.__version__)
faust.App._create_directories = create_no_directories  # type: ignore[assignment, method-assign]
Recovery.on_recovery_completed = on_recovery_completed  # type: ignore[method-assign]
driver.Transport.Consumer = CommittedConsumer

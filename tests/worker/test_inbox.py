"""The inbox: which record is read after an interruption, how soon it is tried again, and what is logged. In virtual time."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest
from structlog.testing import capture_logs

from hub.kafka import BrokerUnreachable, OffsetOutOfRange, StoredRecord
from hub.worker.inbox import RECONNECT_SECONDS, Inbox
from tests import virtual_time

TOPIC = "hub.commands.default"


class Topic:
    """A transport to one partition. A read gives all records from its position on, or raises the next of `failures`."""

    def __init__(self) -> None:
        self.values: list[bytes] = [b"before 0", b"before 1"]
        self.failures: list[Exception | None] = []
        self.opened: list[tuple[float, int]] = []
        self.closed = 0

    def reader(self, *, client_id: str) -> "Reader":
        return Reader(self)

    def write(self, *values: bytes) -> None:
        self.values += values


class Reader:
    """One reader of it."""

    def __init__(self, topic: Topic) -> None:
        self._topic = topic
        self._position = 0

    async def open(self, topic: str, partition: int, offset: int) -> None:
        assert (topic, partition) == (TOPIC, 3)
        self._topic.opened.append((asyncio.get_running_loop().time(), offset))
        self._position = offset

    async def end_offset(self) -> int:
        return len(self._topic.values)

    def seek(self, offset: int) -> None:
        self._position = offset

    async def ensure_moving(self) -> None: ...

    async def close(self) -> None:
        self._topic.closed += 1

    async def read(self, max_records: int = 1, timeout_ms: int = 0) -> list[StoredRecord]:
        if self._topic.failures and (failure := self._topic.failures.pop(0)) is not None:
            raise failure
        values = self._topic.values[self._position :]
        if not values:
            await asyncio.sleep(0.01)
            return []
        first, self._position = self._position, len(self._topic.values)
        return [StoredRecord(first + n, 0, None, value, []) for n, value in enumerate(values)]


@pytest.fixture
def topic() -> Topic:
    """A partition with two records."""
    return Topic()


def scene(topic: Topic, main: Callable[[list[bytes | None]], Coroutine[Any, Any, None]]) -> list[dict[str, Any]]:
    """Read the inbox while `main` runs; it gets the values that were taken so far. Returns what was logged."""

    async def run() -> None:
        taken: list[bytes | None] = []

        async def take(records: Sequence[StoredRecord]) -> None:
            taken.extend(record.value for record in records)

        inbox = Inbox(topic, TOPIC, 3, client_id="w")  # type: ignore[arg-type]
        await inbox.open()
        reading = asyncio.create_task(inbox.read(take))
        await main(taken)
        reading.cancel()
        await asyncio.wait([reading])
        await inbox.close()
        assert topic.closed == len(topic.opened), "every reader is closed"

    with capture_logs() as logs:
        virtual_time.run(run())
    return [dict(entry) for entry in logs if entry["action"].startswith("worker_inbox")]


def test_it_begins_at_the_end_and_takes_each_record_once_over_interruptions(topic: Topic) -> None:
    async def main(taken: list[bytes | None]) -> None:
        topic.write(b"a", b"b", b"c")
        await asyncio.sleep(1)
        topic.failures = [BrokerUnreachable("x:1", "refused")]
        topic.write(b"d")
        await asyncio.sleep(1)
        assert taken == [b"a", b"b", b"c", b"d"]

    logs = scene(topic, main)
    assert [offset for _, offset in topic.opened] == [0, 5]
    assert [(entry["action"], entry["log_level"]) for entry in logs] == [
        ("worker_inbox_retry", "warning"),
        ("worker_inbox_back", "info"),
    ]
    assert logs[1]["position"] == 5


@pytest.mark.parametrize("failure", [BrokerUnreachable("x:1", "refused"), TimeoutError(), OSError("cut")])
def test_an_outage_is_logged_once_and_tried_again_at_growing_intervals(topic: Topic, failure: Exception) -> None:
    async def main(taken: list[bytes | None]) -> None:
        topic.failures = [failure] * 6
        await asyncio.sleep(10)
        topic.failures = [failure]
        await asyncio.sleep(10)

    logs = scene(topic, main)
    assert [entry["action"] for entry in logs] == ["worker_inbox_retry", "worker_inbox_back"] * 2
    assert logs[0]["reason"] == (str(failure) or "TimeoutError()")
    times = [at for at, _ in topic.opened]
    pauses = [later - earlier for earlier, later in zip(times, times[1:], strict=False)]
    first, most = RECONNECT_SECONDS
    assert pauses[:6] == pytest.approx([first, 2 * first, 4 * first, most, most, most], abs=0.02)
    assert topic.opened[7][0] == pytest.approx(10 + first, abs=0.05), "after an outage the pauses begin anew"


def test_records_that_are_gone_are_left_out_and_reading_goes_on_at_the_end(topic: Topic) -> None:
    async def main(taken: list[bytes | None]) -> None:
        topic.failures = [OffsetOutOfRange(TOPIC, 3, 2)]
        topic.write(b"lost")
        await asyncio.sleep(0.1)
        topic.write(b"lost, too")
        await asyncio.sleep(1)
        topic.write(b"new")
        await asyncio.sleep(1)
        assert taken == [b"new"]

    logs = scene(topic, main)
    assert [(entry["action"], entry["log_level"]) for entry in logs] == [
        ("worker_inbox_lost", "error"),
        ("worker_inbox_back", "info"),
    ]


def test_what_the_taker_raises_ends_it(topic: Topic) -> None:
    async def run() -> None:
        async def take(records: Sequence[StoredRecord]) -> None:
            raise ZeroDivisionError

        inbox = Inbox(topic, TOPIC, 3, client_id="w")  # type: ignore[arg-type]
        await inbox.open()
        topic.write(b"a")
        with pytest.raises(ZeroDivisionError):
            await inbox.read(take)
        assert inbox.position == 3

    virtual_time.run(run())

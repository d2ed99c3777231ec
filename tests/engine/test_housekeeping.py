"""Levels of free space: thresholds apply at once when space decreases, and with a margin when it increases."""

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace

import pytest

from hub.engine import over_tcp
from hub.engine.housekeeping import Housekeeping, StorageLevel, level_of
from hub.engine.over_tcp import TcpBroker
from hub.engine.ports import DiskSpace
from hub.engine.settings import EngineSettings
from hub.kafka import Cluster
from hub.service import ServiceTasks

SET = EngineSettings(storage_warn_bytes=2_000, storage_low_bytes=1_000)


@pytest.mark.parametrize(
    ("usable", "before", "level"),
    [
        (2_000, "ok", "ok"),
        (1_999, "ok", "warning"),
        (999, "ok", "low"),
        (1_000, "warning", "warning"),
        (2_100, "warning", "warning"),
        (2_200, "warning", "ok"),
        (1_050, "low", "low"),
        (1_100, "low", "warning"),
        (5_000, "low", "ok"),
    ],
)
def test_a_level_is_left_for_a_better_one_only_with_room_to_spare(usable: int, before: StorageLevel, level: StorageLevel) -> None:
    assert level_of(DiskSpace(usable, 100_000), SET, before) == level


def test_a_threshold_of_0_is_off() -> None:
    off = EngineSettings(storage_warn_bytes=0, storage_low_bytes=0)
    assert level_of(DiskSpace(0, 100_000), off, "ok") == "ok"


class Silent(TcpBroker):
    """A broker that reports what the test says: None where it does not, an error where it cannot be asked."""

    answer: DiskSpace | OSError | None = None

    async def disk_space(self) -> DiskSpace | None:
        if isinstance(self.answer, OSError):
            raise self.answer
        return self.answer


@pytest.mark.parametrize(("usable", "level"), [(1_050, "low"), (1_100, "warning"), (2_200, "ok")])
async def test_a_new_owner_continues_from_the_level_that_was_written(usable: int, level: StorageLevel) -> None:
    broker = Silent(Cluster.of("127.0.0.1:1"))
    broker.answer = DiskSpace(usable, 100_000)
    house = Housekeeping(broker, 0, SET, ServiceTasks("the test"))
    house.look("low")
    await house.close()
    assert house.level == level


@pytest.mark.parametrize("silence", [None, OSError("no answer")])
async def test_an_answer_holds_for_some_time_and_not_for_ever(silence: OSError | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hub.engine.housekeeping.STORAGE_SECONDS", 0.0)
    broker = Silent(Cluster.of("127.0.0.1:1"))
    house = Housekeeping(broker, 0, SET, ServiceTasks("the test"))

    async def look() -> None:
        house.look("ok")
        assert house._looking is not None
        await house._looking

    broker.answer = silence
    await look()
    assert (house.level, house.space) == (None, None)
    broker.answer = DiskSpace(500, 100_000)
    await look()
    broker.answer = silence
    await look()
    assert (house.level, house.space) == ("low", DiskSpace(500, 100_000))
    house._holds_until = 0.0  # its time is over
    await look()
    assert (house.level, house.space) == ("ok", None)


class Counted(TcpBroker):
    """A broker that counts what it is asked; answers when `may_answer` is set, with `failure` if there is one."""

    def __init__(self) -> None:
        super().__init__(Cluster.of("127.0.0.1:1"))
        self.asked: list[object] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.failure: Exception | None = None

    async def _answer(self, what: object) -> None:
        self.asked.append(what)
        await self.may_answer.wait()
        if self.failure is not None:
            raise self.failure

    async def disk_space(self) -> DiskSpace | None:
        await self._answer("space")
        return DiskSpace(5_000, 100_000)

    async def trim_intake(self, partition: int, before: int) -> None:
        await self._answer(before)


@pytest.fixture
async def counted() -> AsyncIterator[tuple[Counted, Housekeeping]]:
    """Such a broker and the housekeeping of partition 0 with it."""
    broker = Counted()
    house = Housekeeping(broker, 0, SET, ServiceTasks("the test"))
    yield broker, house
    broker.may_answer.set()
    await house.close()


async def a_moment() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_the_disk_is_looked_at_once_in_an_interval(counted: tuple[Counted, Housekeeping]) -> None:
    broker, house = counted
    for _ in range(3):
        house.look("ok")
        await a_moment()
    assert broker.asked == ["space"]


async def test_the_disk_is_not_looked_at_while_the_broker_is_still_asked(
    counted: tuple[Counted, Housekeeping], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub.engine.housekeeping.STORAGE_SECONDS", 0.0)
    broker, house = counted
    broker.may_answer.clear()
    for _ in range(3):
        house.look("ok")
        await a_moment()
    assert broker.asked == ["space"]
    broker.may_answer.set()
    await a_moment()
    house.look("ok")
    await a_moment()
    assert broker.asked == ["space"] * 2


async def test_intake_is_deleted_once_up_to_an_offset(counted: tuple[Counted, Housekeeping]) -> None:
    broker, house = counted
    for before in (None, 0, 5, 5, 4, 6):
        house.trim(before)
        await a_moment()
    assert broker.asked == [5, 6]


async def test_one_deletion_of_intake_runs_at_a_time(counted: tuple[Counted, Housekeeping]) -> None:
    broker, house = counted
    broker.may_answer.clear()
    for before in (5, 6):
        house.trim(before)
        await a_moment()
    assert broker.asked == [5]
    broker.may_answer.set()
    await a_moment()
    house.trim(6)
    await a_moment()
    assert broker.asked == [5, 6]


@pytest.mark.parametrize("failure", [OSError("no answer"), ZeroDivisionError("a mistake of ours")])
async def test_a_deletion_that_failed_is_tried_again_after_a_pause(
    counted: tuple[Counted, Housekeeping], failure: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    broker, house = counted
    broker.failure = failure
    house.trim(5)
    await a_moment()
    house.trim(5)
    await a_moment()
    assert broker.asked == [5]
    assert str(failure) in caplog.text
    broker.failure, house._trim_due = None, 0.0  # the pause is over
    house.trim(5)
    await a_moment()
    assert broker.asked == [5, 5]


async def test_closing_waits_for_a_request_and_then_gives_it_up(
    counted: tuple[Counted, Housekeeping], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub.engine.housekeeping.CLOSE_SECONDS", 0.01)
    broker, house = counted
    broker.may_answer.clear()
    house.look("ok")
    house.trim(5)
    await a_moment()
    assert len(house._tasks) == 2
    await house.close()
    assert len(house._tasks) == 0


def test_a_change_of_level_is_told_once_with_the_space(caplog: pytest.LogCaptureFixture) -> None:
    house = Housekeeping(Silent(Cluster.of("127.0.0.1:1")), 0, SET, ServiceTasks("the test"))
    assert house.storage_change("ok") is None
    house.level, house.space = "low", DiskSpace(500, 100_000)
    change = house.storage_change("ok")
    assert change is not None
    assert (change.level, change.usable_bytes, change.total_bytes) == ("low", 500, 100_000)
    assert house.storage_change("low") is None
    house.level, house.space = "ok", None
    assert house.storage_change("low") is not None
    assert [(entry.levelname, "no longer reports" in entry.message) for entry in caplog.records] == [
        ("WARNING", False),
        ("INFO", True),
    ]


@pytest.mark.parametrize(
    ("usable", "total", "space"), [(5, 9, DiskSpace(5, 9)), (None, 9, None), (5, None, None), (None, None, None)]
)
async def test_the_space_of_a_cluster_is_known_only_whole_and_asked_for_now_and_then(
    monkeypatch: pytest.MonkeyPatch, usable: int | None, total: int | None, space: DiskSpace | None
) -> None:
    asked = []

    async def describe(cluster: Cluster) -> SimpleNamespace:
        asked.append(cluster)
        return SimpleNamespace(usable_bytes=usable, total_bytes=total)

    monkeypatch.setattr(over_tcp, "describe_storage", describe)
    broker = TcpBroker(Cluster.of("127.0.0.1:1"))
    assert await asyncio.gather(*(broker.disk_space() for _ in range(3))) == [space] * 3
    assert len(asked) == 1
    broker._space_until = 0.0  # its time is over
    assert await broker.disk_space() == space
    assert len(asked) == 2

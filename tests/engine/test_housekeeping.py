"""Levels of free space: thresholds apply at once when space decreases, and with a margin when it increases."""

import pytest

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

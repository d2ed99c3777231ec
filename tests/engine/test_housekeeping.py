"""Levels of free space: each threshold is crossed at once on the way down, and with some room to spare on the way up."""

import pytest

from hub.engine.housekeeping import StorageLevel, level_of
from hub.engine.ports import DiskSpace
from hub.engine.settings import EngineSettings

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

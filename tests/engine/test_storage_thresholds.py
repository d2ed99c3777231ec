"""The thresholds of free space: absolute on large disks, a share of small ones, and what is set before both."""

import pytest

from hub.engine import EngineSettings

GIB = 1 << 30


@pytest.mark.parametrize(
    ("settings", "total", "wanted"),
    [
        (EngineSettings(), 1_000 * GIB, (2 * GIB, GIB // 2)),
        (EngineSettings(), GIB, (GIB // 10, GIB // 20)),
        (EngineSettings(storage_warn_bytes=5 * GIB, storage_low_bytes=3 * GIB), 10 * GIB, (5 * GIB, 3 * GIB)),
        (EngineSettings(storage_warn_bytes=0, storage_low_bytes=0), 1_000 * GIB, (0, 0)),
    ],
)
def test_the_thresholds_of_a_disk(settings: EngineSettings, total: int, wanted: tuple[int, int]) -> None:
    assert settings.storage_thresholds(total) == wanted

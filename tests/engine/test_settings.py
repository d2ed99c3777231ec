"""Settings of the engine: the thresholds of free space, and the maximum age of a snapshot."""

import pytest

from hub.engine import EngineSettings
from hub.engine.snapshots import Doubtful, Snapshot, check_goes_on
from hub.kafka import StoredRecord

GIB = 1 << 30
SECOND_US = 1_000_000


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


@pytest.mark.parametrize(("now", "then"), [(60, 60), (60, 86_400), (86_400, 60)])
def test_a_snapshot_is_believed_for_half_the_time_that_tombstones_stay_and_stayed(now: int, then: int) -> None:
    snapshot, later = Snapshot({}, 5, b"mark", 0, then), StoredRecord(9, 0, b"key", b"value", ())
    check_goes_on(snapshot, later, 30 * SECOND_US, tombstones_seconds=now)
    with pytest.raises(Doubtful, match="compacted since"):
        check_goes_on(snapshot, later, 31 * SECOND_US, tombstones_seconds=now)

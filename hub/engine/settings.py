"""Settings of the engine: limits and times of a partition and of its loop."""

from msgspec import Struct

from ..core import CoreSettings
from ..kafka import INBOX_PARTITIONS, TOMBSTONES_MS

#: Thresholds of the free space of a large disk (bytes): enough time for an operator to react, and for running tasks to end.
STORAGE_WARN_BYTES = 2 << 30
STORAGE_LOW_BYTES = 512 << 20


#: How the records that the engine writes are compressed. With zstd, batches of events take half as many bytes, but
#: two to four times the CPU time to write and to read.
COMPRESSION = "lz4"


class EngineSettings(CoreSettings, frozen=True, kw_only=True):
    """Settings of a partition. In addition to `Settings`: `ended_entries_max`: most entries of the ended index.

    `storage_warn_bytes`, `storage_low_bytes`: usable bytes of the broker's disk below which a warning is logged, or
    submissions are rejected. 0 disables a threshold; None uses the default of `storage_thresholds`."""

    inboxes: int = INBOX_PARTITIONS
    ended_entries_max: int = 1_000_000
    storage_warn_bytes: int | None = None
    storage_low_bytes: int | None = None

    def storage_thresholds(self, total_bytes: int) -> tuple[int, int]:
        """The thresholds (warn, low) in bytes for a disk of `total_bytes`: the configured ones, or 2 GiB and 512 MiB, but at
        most a tenth and a twentieth of the disk."""
        warn, low = self.storage_warn_bytes, self.storage_low_bytes
        return (
            min(STORAGE_WARN_BYTES, total_bytes // 10) if warn is None else warn,
            min(STORAGE_LOW_BYTES, total_bytes // 20) if low is None else low,
        )


class LoopSettings(Struct, frozen=True, kw_only=True):
    """`max_records`: most reports per transaction. `snapshot_bytes`: a snapshot is written after this many bytes of changelog,
    or half the size of the previous snapshot if that is larger, and also after a quarter of `tombstones_seconds`.

    `intake_retention_seconds`: how long records of the intake are kept after they were processed. `tombstones_seconds`:
    shortest time that tombstones stay in `hub.state` (its `delete.retention.ms`); a snapshot is valid for half of it.

    `compression` of the batches that are written: "lz4", "zstd" or "none"."""

    max_records: int = 500
    snapshot_bytes: int = 16 * 1024 * 1024
    restore_seconds: float = 600.0
    intake_retention_seconds: float = 7 * 86_400.0
    tombstones_seconds: int = TOMBSTONES_MS // 1000
    compression: str = COMPRESSION

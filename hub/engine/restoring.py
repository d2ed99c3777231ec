"""The last row of every key of a partition's changelog: from the snapshot file, where it can be continued, and what came later.

Snapshots are folded from the committed changelog and not from memory: what is not committed cannot get into one.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import structlog
from msgspec import MsgspecError

from ..core import META_KEY, meta_row_decoder
from ..errors import HubError
from ..kafka import OffsetOutOfRange, StoredRecord
from .foreign_rows import problem_of_row
from .ports import EngineBroker
from .settings import LoopSettings
from .snapshots import Doubtful, Rows, Snapshot, check_goes_on, mark_of, read_snapshot, snapshot_path, write_snapshot

log = structlog.get_logger(__name__)

#: Foreign records that the log names; the others are counted.
NAMED_MAX = 10

#: In place of the time when a log was begun, where that cannot be read.
FOREIGN = -1


class Changelog:
    """The changelog of one partition, and its snapshot file in `folder` (None: no snapshots).

    `now_us`: the loop's clock."""

    def __init__(
        self,
        broker: EngineBroker,
        partition: int,
        partitions: int,
        *,
        folder: Path | None,
        settings: LoopSettings,
        now_us: Callable[[], int],
    ) -> None:
        self._broker = broker
        self._partition = partition
        self._partitions = partitions
        self._path = None if folder is None else snapshot_path(folder, partition)
        self._settings = settings
        self._now_us = now_us
        self._bytes = 0
        self._writing: asyncio.Task[None] | None = None

    async def fold(self) -> tuple[Snapshot, bool]:
        """All rows, and whether a snapshot was used. Raises HubError."""
        if self._path is not None:
            known = await asyncio.to_thread(read_snapshot, self._path, partitions=self._partitions)
            if known is not None:
                try:
                    return await self._fold(known), True
                except (Doubtful, OffsetOutOfRange) as why:
                    log.info(
                        "snapshot ignored",
                        action="snapshot_ignored",
                        partition=self._partition,
                        path=str(self._path),
                        reason=str(why),
                    )
        return await self._fold(None), False

    async def fold_checked(self) -> Snapshot:
        """All rows that the engine may have written, from the whole changelog: a foreign record does not replace what was there
        before it."""
        left_out = 0

        def check(record: StoredRecord) -> bool:
            nonlocal left_out
            assert record.key is not None
            problem = problem_of_row(record.key, record.value) if record.value is not None else None
            if problem is not None:
                left_out += 1
                if left_out <= NAMED_MAX:
                    about = {"partition": self._partition, "offset": record.offset, "key": repr(record.key[:100])}
                    log.error("foreign record in hub.state left out", action="engine_foreign_row", reason=problem, **about)
            return problem is None

        folded = await self._fold(None, check)
        log.error("hub.state was read without foreign records", action="engine_foreign_rows", records=left_out)
        return folded

    async def _fold(self, known: Snapshot | None, check: Callable[[StoredRecord], bool] | None = None) -> Snapshot:
        """`known` and the changelog from its last record on, or all of the changelog. Raises Doubtful, OffsetOutOfRange."""
        began_us, replayed = self._now_us(), 0
        rows, begin = ({}, 0) if known is None else (known.rows, known.last)
        origin = _origin_of(rows)
        last: StoredRecord | None = None
        async for record in self._broker.changelog(self._partition, begin):
            if last is None and known is not None:
                check_goes_on(known, record, began_us, self._settings.tombstones_seconds)
            last = record
            if record.key is None or (check is not None and not check(record)):
                continue
            replayed += len(record.key) + len(record.value or b"")
            if record.value is None:
                rows.pop(record.key, None)
            else:
                rows[record.key] = record.value
        if known is not None and last is None:
            raise Doubtful("the changelog ends before it")
        if known is not None and _origin_of(rows) != origin:
            raise Doubtful("it is of another changelog")
        self._bytes = replayed
        if last is None:
            return Snapshot(rows, -1, b"", began_us)
        return Snapshot(rows, last.offset, mark_of(last), began_us, self._settings.tombstones_seconds)

    def committed(self, size: int) -> None:
        """`size` bytes of rows were committed: write a snapshot in the background when it is time."""
        self._bytes += size
        if self._path is None or self._bytes < self._settings.snapshot_bytes:
            return
        if self._writing is None or self._writing.done():
            self._bytes = 0
            self._writing = asyncio.get_running_loop().create_task(self.write_snapshot(), name="engine-snapshot")

    async def write_snapshot(self) -> None:
        """Write what is committed now; a failure is logged, and the file that is there stays as it was."""
        assert self._path is not None
        try:
            folded, _ = await self.fold()
            await asyncio.to_thread(write_snapshot, self._path, folded, partitions=self._partitions)
            self._bytes = 0
            about = {"partition": self._partition, "rows": len(folded.rows), "offset": folded.last}
            log.info("snapshot written", action="snapshot_written", **about)
        except (OSError, TimeoutError, HubError) as reason:
            log.warning("snapshot not written", action="snapshot_failed", partition=self._partition, reason=repr(reason))

    async def snapshot_written(self) -> None:
        """Wait for the snapshot that is being written, if any."""
        if self._writing is not None:
            await self._writing

    async def close(self) -> None:
        """End the snapshot that is being written, if any; a file that is there stays as it was."""
        if self._writing is not None:
            self._writing.cancel()
            with suppress(asyncio.CancelledError):
                await self._writing
            self._writing = None


def _origin_of(rows: Rows) -> int:
    """When the log was begun that `rows` were folded from."""
    meta = rows.get(META_KEY)
    try:
        return meta_row_decoder.decode(meta).created_us if meta is not None else 0
    except MsgspecError:
        return FOREIGN

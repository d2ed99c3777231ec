"""Reads the last row of every key of a partition's changelog: from the snapshot file, if it is valid, and from the rows after it.

Snapshots are folded from the rows of committed transactions, not from the state, so they contain no uncommitted rows.
Committed rows are kept in memory until the next snapshot, so that writing one need not read the changelog again: its cost
depends on the rows written since the last one and on the size of the file, which is copied.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from msgspec import MsgspecError

from ..core import META_KEY, SECOND_US, meta_row_decoder
from ..errors import HubError
from ..kafka import OffsetOutOfRange, StoredRecord
from ..logs import Logger
from ..service import ServiceTasks
from .foreign_rows import problem_of_row
from .ports import EngineBroker
from .settings import LoopSettings
from .snapshots import (
    Doubtful,
    Place,
    Rows,
    Snapshot,
    SnapshotMismatch,
    check_goes_on,
    extend_snapshot,
    mark_of,
    read_snapshot,
    snapshot_path,
    write_snapshot,
)

log = Logger(__name__)

#: Foreign records that are logged individually; further ones are counted.
NAMED_MAX = 10

#: Replaces the creation time of a log if it cannot be read.
FOREIGN = -1

#: A snapshot is rewritten after half of the time for which it is valid (see `check_goes_on`).
AGES_PER_RETENTION = 4


#: How long a committed record may take to become visible, and poll interval (seconds).
SHOWN_SECONDS = 10.0
SHOWN_PAUSE_SECONDS = 0.02

_Later = dict[bytes, bytes | None]
"""Rows committed since a snapshot: the last row of each key, None if it was deleted."""


class _Folded(NamedTuple):
    """All rows; end and time of the snapshot on which they are based (None without one); rows that the changelog added, and
    their size in bytes."""

    snapshot: Snapshot
    place: Place | None
    written_us: int
    later: _Later
    replayed: int


class Changelog:
    """The changelog of one partition and its snapshot file in `folder` (None: no snapshots).

    `now_us`: the loop's clock. `tasks`: where snapshots are written in the background."""

    def __init__(
        self,
        broker: EngineBroker,
        partition: int,
        partitions: int,
        *,
        folder: Path | None,
        settings: LoopSettings,
        now_us: Callable[[], int],
        tasks: ServiceTasks,
    ) -> None:
        self._broker = broker
        self._partition = partition
        self._partitions = partitions
        self._path = None if folder is None else snapshot_path(folder, partition)
        self._settings = settings
        self._now_us = now_us
        self._tasks = tasks
        self._bytes = 0
        self._file_bytes = 0
        self._written_us = 0
        self._base: Place | None = None
        self._later: _Later | None = None
        self._last = -1
        self._writing: asyncio.Task[None] | None = None

    async def fold(self) -> tuple[Snapshot, bool]:
        """Read all rows. Returns them and whether a snapshot was used. From now on committed rows are kept for the next
        snapshot. Raises HubError."""
        folded = await self._fold_all()
        continued = folded.place is not None or not folded.snapshot.rows
        self._later = folded.later if continued and self._path is not None else None
        self._base, self._last, self._bytes = folded.place, folded.snapshot.last, folded.replayed
        self._written_us = folded.written_us
        if folded.place is not None and self._path is not None:
            self._file_bytes = (await asyncio.to_thread(self._path.stat)).st_size
        return folded.snapshot, folded.place is not None

    async def _fold_all(self) -> "_Folded":
        if self._path is not None:
            known = await asyncio.to_thread(read_snapshot, self._path, partitions=self._partitions)
            if known is not None:
                try:
                    return await self._fold(known)
                except (Doubtful, OffsetOutOfRange) as why:
                    log.info(
                        "snapshot ignored",
                        action="snapshot_ignored",
                        partition=self._partition,
                        path=str(self._path),
                        reason=str(why),
                    )
        return await self._fold(None)

    async def fold_checked(self) -> Snapshot:
        """Read all rows of the whole changelog, ignoring foreign records, which do not replace earlier rows."""
        left_out = 0

        def check(record: StoredRecord) -> bool:
            nonlocal left_out
            assert record.key is not None
            problem = problem_of_row(record.key, record.value) if record.value is not None else None
            if problem is not None:
                left_out += 1
                if left_out <= NAMED_MAX:
                    about = {"partition": self._partition, "offset": record.offset, "key": repr(record.key[:100])}
                    log.error("foreign record in hub.state ignored", action="engine_foreign_row", reason=problem, **about)
            return problem is None

        folded = await self._fold(None, check)
        self._later = None
        log.error("hub.state was read without foreign records", action="engine_foreign_rows", records=left_out)
        return folded.snapshot

    async def _fold(self, known: Snapshot | None, check: Callable[[StoredRecord], bool] | None = None) -> "_Folded":
        """Read the changelog from the last record of `known`, or completely. Raises Doubtful, OffsetOutOfRange."""
        began_us, replayed = self._now_us(), 0
        later: _Later = {}
        rows, timed, begin = ({}, (), 0) if known is None else (known.rows, known.timed, known.last)
        origin = _origin_of(rows)
        last: StoredRecord | None = None
        async for record in self._broker.changelog(self._partition, begin):
            if last is None and known is not None:
                check_goes_on(known, record, began_us, self._settings.tombstones_seconds)
            last = record
            if record.key is None or (check is not None and not check(record)):
                continue
            replayed += len(record.key) + len(record.value or b"")
            if known is not None:
                later[record.key] = record.value
            if record.value is None:
                rows.pop(record.key, None)
            else:
                rows[record.key] = record.value
        if known is not None and last is None:
            raise Doubtful("the changelog ends before the snapshot")
        if known is not None and _origin_of(rows) != origin:
            raise Doubtful("the snapshot belongs to another changelog")
        timed = tuple(block.without(later.keys()) for block in timed)
        place, written_us = (None, began_us) if known is None else (Place(known.last, known.mark), known.written_us)
        return _Folded(self._snapshot(rows, last, began_us)._replace(timed=timed), place, written_us, later, replayed)

    def _snapshot(self, rows: Rows, last: StoredRecord | None, began_us: int) -> Snapshot:
        if last is None:
            return Snapshot(rows, -1, b"", began_us)
        return Snapshot(rows, last.offset, mark_of(last), began_us, self._settings.tombstones_seconds)

    def committed(self, rows: Iterable[tuple[bytes, bytes | None]], size: int, last: int) -> None:
        """Record that `rows` of `size` bytes in total were committed, the last one at offset `last`; writes a snapshot in the
        background if it is due."""
        if self._path is None:
            return
        self._bytes += size
        self._last = last
        if self._later is not None:
            self._later.update(rows)
        if self._due() and (self._writing is None or self._writing.done()):
            self._writing = self._tasks.start(self.write_snapshot(), f"engine-{self._partition}-snapshot")

    def _due(self) -> bool:
        """Whether a snapshot is due: the rows written since exceed the cost of copying the file, or the snapshot is getting
        too old."""
        if self._bytes >= max(self._settings.snapshot_bytes, self._file_bytes // 2):
            return True
        age_us = self._now_us() - self._written_us
        return age_us * AGES_PER_RETENTION >= self._settings.tombstones_seconds * SECOND_US

    async def write_snapshot(self) -> None:
        """Write a snapshot of all committed rows. A failure is logged, and the existing file is kept."""
        later, self._later = self._later, {}
        self._bytes, self._written_us = 0, self._now_us()
        try:
            self._base = await self._write(later, self._written_us)
        except (OSError, TimeoutError, HubError, SnapshotMismatch) as reason:
            self._later = None
            log.warning("snapshot not written", action="snapshot_failed", partition=self._partition, reason=repr(reason))
        except BaseException:
            self._later = None
            raise
        else:
            about = {"partition": self._partition, "bytes": self._file_bytes, "offset": self._base.last}
            log.info("snapshot written", action="snapshot_written", **about)

    async def _write(self, later: "_Later | None", now_us: int) -> Place:
        """Write the file: the previous snapshot with `later`, or the whole changelog if that is unknown. Returns where it
        ends."""
        assert self._path is not None
        if later is None or not (later or self._base):
            snapshot = (await self._fold_all()).snapshot
            self._file_bytes = await asyncio.to_thread(write_snapshot, self._path, snapshot, partitions=self._partitions)
            return Place(snapshot.last, snapshot.mark)
        if not later:
            assert self._base is not None
            return self._base
        offset = self._last
        rows = {key: value for key, value in later.items() if value is not None}
        last = await self._record_at(offset)
        if last.key != META_KEY or last.value != later.get(META_KEY):
            raise SnapshotMismatch(f"offset {offset} of the changelog does not have the last committed record")
        snapshot = self._snapshot(rows, last, now_us)
        gone = frozenset(later.keys() - rows.keys())
        self._file_bytes = await asyncio.to_thread(
            extend_snapshot, self._path, self._base, snapshot, gone, partitions=self._partitions
        )
        return Place(snapshot.last, snapshot.mark)

    async def _record_at(self, offset: int) -> StoredRecord:
        """The committed record at an offset of the changelog; waits, because a broker may make a transaction visible some time
        after its end. Raises SnapshotMismatch if the record is gone, TimeoutError."""
        async with asyncio.timeout(SHOWN_SECONDS):
            while True:
                with suppress(OffsetOutOfRange):
                    records = self._broker.changelog(self._partition, offset)
                    first = await anext(records, None)
                    if isinstance(records, AsyncGenerator):
                        await records.aclose()
                    if first is not None and first.offset != offset:
                        raise SnapshotMismatch(f"offset {offset} of the changelog was compacted away")
                    if first is not None:
                        return first
                await asyncio.sleep(SHOWN_PAUSE_SECONDS)

    async def snapshot_written(self) -> None:
        """Wait for a snapshot that is being written."""
        if self._writing is not None:
            await self._writing

    async def close(self) -> None:
        """Abort a snapshot that is being written; the existing file is kept."""
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.wait([self._writing])
            self._writing = None


def _origin_of(rows: Rows) -> int:
    """Creation time of the log from which `rows` were folded."""
    meta = rows.get(META_KEY)
    try:
        return meta_row_decoder.decode(meta).created_us if meta is not None else 0
    except MsgspecError:
        return FOREIGN

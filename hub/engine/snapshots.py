"""Snapshot files: the last committed row of every key of a partition's changelog up to an offset, so that a restart reads only
the rows after it. Losing a snapshot loses no data.

File: the magic; the CRC-32 (4 bytes, big-endian as all that follows) of the origin; the origin: offset of the last changelog
record in it (8 bytes), a hash of that record (16 bytes), the time of writing in microseconds (8 bytes), the partition count (4
bytes), the time in seconds for which the changelog keeps tombstones (4 bytes), the number of blocks (4 bytes); then blocks,
each of CRC-32 (4 bytes), length (8 bytes) and either a MessagePack map of keys to values, or the columns of `TimedRows` as a
MessagePack array. A key is in one block. A file is written under a temporary name and renamed, so it is complete or missing. A
file with a wrong checksum, or one that does not belong to the changelog, is ignored with a log message.

The next snapshot consists of the previous one and the rows committed since. Blocks without changed keys are copied.
"""

import os
from collections.abc import Iterable, Iterator, Sequence, Set
from hashlib import blake2b
from itertools import chain, islice
from pathlib import Path
from struct import Struct, error
from typing import BinaryIO, NamedTuple, Protocol
from zlib import crc32

from msgspec import MsgspecError, msgpack

from ..core import META_KEY, SECOND_US, TimedRows, divide_rows
from ..durable import sync_path
from ..kafka import TOMBSTONES_MS, StoredRecord
from ..logs import Logger

log = Logger(__name__)

MAGIC = b"taskhub-snapshot-4\n"
_CRC = Struct(">I")
_ORIGIN = Struct(">q16sqIII")
_BLOCK = Struct(">IQ")
_HEAD_BYTES = len(MAGIC) + _CRC.size + _ORIGIN.size

#: Rows per block: decoding or making one holds the interpreter for a millisecond or two.
BLOCK_ROWS = 1000

#: The file is synced in parts of this size, so that syncs of the journal do not wait for a long one.
SYNC_BYTES = 4 << 20

Rows = dict[bytes, bytes]
_block_decoder = msgpack.Decoder(Rows | TimedRows)


class Snapshot(NamedTuple):
    """The fold of the changelog up to the record at offset `last`; a row is either in `rows` or in `timed`. `mark`: hash of that
    record. `written_us`: time of writing; rows not in the snapshot were written later. `tombstones_seconds`: how long the
    changelog retained tombstones at that time."""

    rows: Rows
    last: int
    mark: bytes
    written_us: int
    tombstones_seconds: int = TOMBSTONES_MS // 1000
    timed: Sequence[TimedRows] = ()


class Place(NamedTuple):
    """The end of a snapshot in its changelog; see `Snapshot`."""

    last: int
    mark: bytes


class Doubtful(Exception):
    """The snapshot may belong to another changelog, or the changelog may have lost rows since. The message has the reason."""


def snapshot_path(folder: Path, partition: int) -> Path:
    """The snapshot file of an engine partition."""
    return folder / f"engine-{partition}.snapshot"


def mark_of(record: StoredRecord) -> bytes:
    """A hash that distinguishes a record from one at the same offset of another changelog."""
    key, value = record.key or b"", record.value or b""
    return blake2b(b"%d/%d/" % (record.timestamp_ms, len(key)) + key + value, digest_size=16).digest()


def check_goes_on(snapshot: Snapshot, first: StoredRecord, now_us: int, tombstones_seconds: int) -> None:
    """Check that a changelog continues `snapshot`; `first` is its first record at or after the last one of the snapshot.
    Raises Doubtful.

    The changelog is compacted but retains tombstones for `tombstones_seconds`, so a snapshot of up to half that age misses
    none. If that setting changed since, the shorter time applies.

    The last record of a transaction, `!meta`, is superseded by that of the next one. So if it still exists, no record after it
    was compacted away. If not, tombstones after it may also be gone after some time, and deleted rows would reappear."""
    if first.offset == snapshot.last and mark_of(first) != snapshot.mark:
        raise Doubtful("the snapshot belongs to another changelog")
    if first.offset == snapshot.last and first.key == META_KEY:
        return
    age_us = abs(now_us - snapshot.written_us)  # a time in the future means that a clock was wrong, so the age is unknown
    if age_us > min(tombstones_seconds, snapshot.tombstones_seconds) * SECOND_US / 2:
        raise Doubtful(f"the snapshot is {age_us / 3_600_000_000:.0f} hours old, and the changelog was compacted since")


class SnapshotMismatch(Exception):
    """The file is not the expected snapshot."""


class _Origin(Protocol):
    """The header of a file; a `Snapshot` has these attributes."""

    @property
    def last(self) -> int: ...
    @property
    def mark(self) -> bytes: ...
    @property
    def written_us(self) -> int: ...
    @property
    def tombstones_seconds(self) -> int: ...


def write_snapshot(path: Path, snapshot: Snapshot, *, partitions: int) -> int:
    """Write and sync a snapshot file. Returns its size in bytes. Raises OSError."""
    blocks = chain(map(msgpack.encode, snapshot.timed), _extended((), snapshot.rows, frozenset()))
    return _write(path, snapshot, blocks, partitions)


def extend_snapshot(path: Path, base: Place | None, later: Snapshot, gone: frozenset[bytes], *, partitions: int) -> int:
    """Replace the snapshot that ends at `base` (None: there is none) by one that ends where `later` does. `later` has the rows
    committed since, `gone` the keys deleted since. Syncs the file and returns its size in bytes.

    Raises SnapshotMismatch if the file ends elsewhere or its checksum is wrong, OSError."""
    if base is None:
        return write_snapshot(path, later, partitions=partitions)
    try:
        with path.open("rb") as file:
            origin = _read_head(file.read(_HEAD_BYTES))
            if (origin.last, origin.mark, origin.partitions) != (*base, partitions):
                raise ValueError("it ends at another offset")
            blocks = _extended(_read_blocks(file, origin.blocks), later.rows, gone)
            return _write(path, later, blocks, partitions)
    except (FileNotFoundError, ValueError, error, MsgspecError) as reason:
        raise SnapshotMismatch(f"{path}: {reason}") from reason


def _extended(blocks: Iterable[bytes], later: Rows, gone: frozenset[bytes]) -> Iterator[bytes]:
    """The blocks without replaced and deleted rows, then the new rows. Small blocks are merged."""
    joined = _Joined()
    for block in blocks:
        rows = _block_decoder.decode(block)
        left = _without(_without(rows, later.keys()), gone)
        if left is rows and len(rows) > BLOCK_ROWS // 2:
            yield block
        else:
            yield from joined.add(left)
    rest = iter(later.items())
    while chunk := list(islice(rest, BLOCK_ROWS)):
        for part in divide_rows(chunk):
            yield from joined.add(part)
    yield from joined.rest()


def _without(rows: Rows | TimedRows, keys: Set[bytes]) -> Rows | TimedRows:
    """The rows of a block without these keys; the block itself if it has none of them."""
    if isinstance(rows, TimedRows):
        return rows.without(keys)
    if rows.keys().isdisjoint(keys):
        return rows
    return {key: row for key, row in rows.items() if key not in keys}


class _Joined:
    """Collects rows to blocks of either kind."""

    def __init__(self) -> None:
        self._rows: Rows = {}
        self._timed = TimedRows()

    def add(self, part: Rows | TimedRows) -> Iterator[bytes]:
        """Add rows; the block that they fill, if they do."""
        if isinstance(part, TimedRows):
            self._timed.extend(part)
            if len(self._timed) >= BLOCK_ROWS:
                yield msgpack.encode(self._timed)
                self._timed = TimedRows()
        else:
            self._rows.update(part)
            if len(self._rows) >= BLOCK_ROWS:
                yield msgpack.encode(self._rows)
                self._rows = {}

    def rest(self) -> Iterator[bytes]:
        """The blocks of the rows that filled none."""
        for part in (self._rows, self._timed):
            if part:
                yield msgpack.encode(part)


def _write(path: Path, origin: _Origin, blocks: Iterable[bytes], partitions: int) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".new")
    with beside.open("wb") as file:
        file.seek(_HEAD_BYTES)
        count = _write_blocks(file, blocks)
        size = file.tell()
        file.seek(0)
        head = _ORIGIN.pack(origin.last, origin.mark, origin.written_us, partitions, origin.tombstones_seconds, count)
        file.write(MAGIC + _CRC.pack(crc32(head)) + head)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    sync_path(path.parent)
    return size


def _write_blocks(file: BinaryIO, blocks: Iterable[bytes]) -> int:
    count = synced = 0
    for block in blocks:
        count += 1
        file.write(_BLOCK.pack(crc32(block), len(block)))
        file.write(block)
        if file.tell() - synced >= SYNC_BYTES:
            file.flush()
            os.fdatasync(file.fileno())
            synced = file.tell()
    return count


def read_snapshot(path: Path, *, partitions: int) -> Snapshot | None:
    """Read the snapshot file; None if it is missing or invalid."""
    try:
        with path.open("rb") as file:
            return _read(file, partitions)
    except FileNotFoundError:
        return None
    except (ValueError, error, MsgspecError) as reason:
        log.warning("snapshot ignored", action="snapshot_ignored", path=str(path), reason=str(reason))
        return None


def _read(file: BinaryIO, partitions: int) -> Snapshot:
    origin = _read_head(file.read(_HEAD_BYTES))
    if origin.partitions != partitions:
        raise ValueError(f"it was written by a hub with {origin.partitions} partitions")
    rows: Rows = {}
    timed: list[TimedRows] = []
    for block in map(_block_decoder.decode, _read_blocks(file, origin.blocks)):
        if isinstance(block, TimedRows):
            timed.append(block)
        else:
            rows.update(block)
    return Snapshot(rows, origin.last, origin.mark, origin.written_us, origin.tombstones_seconds, tuple(timed))


class _Head(NamedTuple):
    last: int
    mark: bytes
    written_us: int
    partitions: int
    tombstones_seconds: int
    blocks: int


def _read_head(head: bytes) -> _Head:
    if not head.startswith(MAGIC):
        raise ValueError("it is not a snapshot file of this version")
    (checksum,) = _CRC.unpack_from(head, len(MAGIC))
    origin = head[len(MAGIC) + _CRC.size :]
    if crc32(origin) != checksum:
        raise ValueError("its checksum does not match")
    return _Head(*_ORIGIN.unpack(origin))


def _read_blocks(file: BinaryIO, count: int) -> Iterator[bytes]:
    left = os.fstat(file.fileno()).st_size - _HEAD_BYTES
    for _ in range(count):
        checksum, length = _BLOCK.unpack(file.read(_BLOCK.size))
        left -= _BLOCK.size + length
        if left < 0:
            raise ValueError("it ends inside a block")
        block = file.read(length)
        if crc32(block) != checksum:
            raise ValueError("its checksum does not match")
        yield block
    if left:
        raise ValueError("it has data after its last block")

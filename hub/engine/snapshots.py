"""Snapshot files: the last committed row of every key of a partition's changelog, up to an offset, so that a restart reads
only what came later. Losing one loses nothing.

File: the magic; the CRC-32 (4 bytes, big-endian as all that follows) of the origin; the origin: offset of the last changelog
record in it (8 bytes), a hash of that record (16 bytes), the time of writing in microseconds (8 bytes), the partition count
(4 bytes), the time in seconds for which the changelog keeps tombstones (4 bytes), the number of blocks (4 bytes); then blocks,
each of CRC-32 (4 bytes), length (8 bytes) and a MessagePack map of keys to values. A key is in one block. Written beside and
renamed, so that a file is whole or not there; one that does not check, or that this changelog does not continue from, is
ignored, and the log says so.

The next snapshot is the one before with the rows that were committed since. Blocks that hold none of their keys are copied.
"""

import os
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from struct import Struct, error
from typing import BinaryIO, NamedTuple, Protocol
from zlib import crc32

import structlog
from msgspec import MsgspecError, msgpack

from ..core import META_KEY, SECOND_US
from ..durable import sync_path
from ..kafka import TOMBSTONES_MS, StoredRecord

log = structlog.get_logger(__name__)

MAGIC = b"taskhub-snapshot-4\n"
_CRC = Struct(">I")
_ORIGIN = Struct(">q16sqIII")
_BLOCK = Struct(">IQ")
_HEAD_BYTES = len(MAGIC) + _CRC.size + _ORIGIN.size

#: Rows of a block: decoding one keeps the interpreter for less than a millisecond.
BLOCK_ROWS = 1000

#: The file is brought to disk in parts of this size: a sync of the journal would have to wait for a larger one.
SYNC_BYTES = 4 << 20

Rows = dict[bytes, bytes]
_rows_decoder = msgpack.Decoder(Rows)


class Snapshot(NamedTuple):
    """The fold of the changelog up to the record at offset `last`. `mark`: the hash of that record. `written_us`: a time; what is
    not in the snapshot was written later. `tombstones_seconds`: for how long the changelog kept tombstones then."""

    rows: Rows
    last: int
    mark: bytes
    written_us: int
    tombstones_seconds: int = TOMBSTONES_MS // 1000


class Place(NamedTuple):
    """Where in which changelog a snapshot ends: see `Snapshot`."""

    last: int
    mark: bytes


class Doubtful(Exception):
    """The changelog may not be the one that a snapshot was made of, or may have lost something since. The message says why."""


def snapshot_path(folder: Path, partition: int) -> Path:
    """The snapshot file of an engine partition."""
    return folder / f"engine-{partition}.snapshot"


def mark_of(record: StoredRecord) -> bytes:
    """What distinguishes a record of the changelog from another at the same offset of another changelog."""
    key, value = record.key or b"", record.value or b""
    return blake2b(b"%d/%d/" % (record.timestamp_ms, len(key)) + key + value, digest_size=16).digest()


def check_goes_on(snapshot: Snapshot, first: StoredRecord, now_us: int, tombstones_seconds: int) -> None:
    """Whether a changelog continues `snapshot`; `first` is its first record from the snapshot's last one on. Raises Doubtful.

    Tombstones stay in the changelog for `tombstones_seconds`, though it is compacted: a snapshot of half that age misses none.
    Where the time was another one when the snapshot was written, the shorter one counts.

    The last record of a transaction, `!meta`, is replaced by the next one's. So where it is still there, nothing after it was
    compacted away. Where it is not, tombstones after it may be gone, too, after a time: what they deleted would come back."""
    if first.offset == snapshot.last and mark_of(first) != snapshot.mark:
        raise Doubtful("it is of another changelog")
    if first.offset == snapshot.last and first.key == META_KEY:
        return
    age_us = abs(now_us - snapshot.written_us)  # one from the future says that a clock was wrong: then its age is not known
    if age_us > min(tombstones_seconds, snapshot.tombstones_seconds) * SECOND_US / 2:
        raise Doubtful(f"it is {age_us / 3_600_000_000:.0f} hours old, and the changelog was compacted since")


class SnapshotMismatch(Exception):
    """The file is not the snapshot that is to be continued."""


class _Origin(Protocol):
    """What the head of a file says; a `Snapshot` has it."""

    @property
    def last(self) -> int: ...
    @property
    def mark(self) -> bytes: ...
    @property
    def written_us(self) -> int: ...
    @property
    def tombstones_seconds(self) -> int: ...


def write_snapshot(path: Path, snapshot: Snapshot, *, partitions: int) -> int:
    """Durable when it returns the size of the file in bytes. Raises OSError."""
    return _write(path, snapshot, _blocks_of(snapshot.rows.items()), partitions)


def extend_snapshot(path: Path, base: Place | None, later: Snapshot, gone: frozenset[bytes], *, partitions: int) -> int:
    """Replace the snapshot that ends at `base` (None: there is none) by one that ends where `later` does: its rows are those
    committed since, `gone` the keys deleted since. Durable when it returns the size of the file in bytes.

    Raises SnapshotMismatch where the file ends elsewhere or does not check, OSError."""
    if base is None:
        return write_snapshot(path, later, partitions=partitions)
    try:
        with path.open("rb") as file:
            origin = _read_head(file.read(_HEAD_BYTES))
            if (origin.last, origin.mark, origin.partitions) != (*base, partitions):
                raise ValueError("it ends elsewhere")
            blocks = _extended(_read_blocks(file, origin.blocks), later.rows, gone)
            return _write(path, later, blocks, partitions)
    except (FileNotFoundError, ValueError, error, MsgspecError) as reason:
        raise SnapshotMismatch(f"{path}: {reason}") from reason


def _extended(blocks: Iterable[bytes], later: Rows, gone: frozenset[bytes]) -> Iterator[bytes]:
    """The blocks without rows that were replaced or deleted, then the new rows. Small blocks are joined."""
    joined: Rows = {}
    for block in blocks:
        rows = _rows_decoder.decode(block)
        stays = rows.keys().isdisjoint(later.keys()) and gone.isdisjoint(rows)
        if stays and len(rows) > BLOCK_ROWS // 2:
            yield block
            continue
        joined.update(rows if stays else {key: row for key, row in rows.items() if key not in later and key not in gone})
        if len(joined) >= BLOCK_ROWS:
            yield msgpack.encode(joined)
            joined = {}
    if joined:
        yield msgpack.encode(joined)
    yield from _blocks_of(later.items())


def _blocks_of(rows: Iterable[tuple[bytes, bytes]]) -> Iterator[bytes]:
    left = iter(rows)
    while block := dict(islice(left, BLOCK_ROWS)):
        yield msgpack.encode(block)


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
    """What was written last; None where there is no file, or none that checks."""
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
        raise ValueError(f"it was written with {origin.partitions} partitions")
    rows: Rows = {}
    for block in _read_blocks(file, origin.blocks):
        rows.update(_rows_decoder.decode(block))
    return Snapshot(rows, origin.last, origin.mark, origin.written_us, origin.tombstones_seconds)


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
        raise ValueError("something follows its last block")

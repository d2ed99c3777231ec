"""Snapshot files: the last committed row of every key of a partition's changelog, up to an offset, so that a restart reads
only what came later. Losing one loses nothing.

File: the magic, then CRC-32 (4 bytes) and length (8 bytes) of the body, big-endian; the body: offset of the last changelog
record in it (8 bytes), a hash of that record (16 bytes), the time of writing in microseconds (8 bytes), the partition count
(4 bytes), the time in seconds for which the changelog keeps tombstones (4 bytes), and records of key length, key, value length,
value (lengths 4 bytes). Written beside and renamed, so that a file is whole or not there; one that does not check, or that this
changelog does not continue from, is ignored, and the log says so.
"""

import os
from hashlib import blake2b
from pathlib import Path
from struct import Struct, error
from typing import NamedTuple
from zlib import crc32

import structlog

from ..core import META_KEY, SECOND_US
from ..kafka import TOMBSTONES_MS, StoredRecord

log = structlog.get_logger(__name__)

MAGIC = b"taskhub-snapshot-3\n"
_HEAD = Struct(">IQ")
_ORIGIN = Struct(">q16sqII")
_LENGTH = Struct(">I")

Rows = dict[bytes, bytes]


class Snapshot(NamedTuple):
    """The fold of the changelog up to the record at offset `last`. `mark`: the hash of that record. `written_us`: a time; what is
    not in the snapshot was written later. `tombstones_seconds`: for how long the changelog kept tombstones then."""

    rows: Rows
    last: int
    mark: bytes
    written_us: int
    tombstones_seconds: int = TOMBSTONES_MS // 1000


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


def write_snapshot(path: Path, snapshot: Snapshot, *, partitions: int) -> None:
    """Durable when it returns. Raises OSError."""
    parts = [_ORIGIN.pack(snapshot.last, snapshot.mark, snapshot.written_us, partitions, snapshot.tombstones_seconds)]
    for key, value in snapshot.rows.items():
        parts += (_LENGTH.pack(len(key)), key, _LENGTH.pack(len(value)), value)
    body = b"".join(parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".new")
    with beside.open("wb") as file:
        file.write(MAGIC + _HEAD.pack(crc32(body), len(body)))
        file.write(body)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read_snapshot(path: Path, *, partitions: int) -> Snapshot | None:
    """What was written last; None where there is no file, or none that checks."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        return _parse(content, partitions)
    except (ValueError, error) as reason:
        log.warning("snapshot ignored", action="snapshot_ignored", path=str(path), reason=str(reason))
        return None


def _parse(content: bytes, partitions: int) -> Snapshot:
    if not content.startswith(MAGIC):
        raise ValueError("it is not a snapshot file of this version")
    checksum, length = _HEAD.unpack_from(content, len(MAGIC))
    body = memoryview(content)[len(MAGIC) + _HEAD.size :]
    if len(body) != length or crc32(body) != checksum:
        raise ValueError("its checksum does not match")
    last, mark, written_us, written_with, tombstones_seconds = _ORIGIN.unpack_from(body)
    if written_with != partitions:
        raise ValueError(f"it was written with {written_with} partitions")
    rows: Rows = {}
    position = _ORIGIN.size
    while position < length:
        key, position = _take(body, position)
        value, position = _take(body, position)
        rows[key] = value
    return Snapshot(rows, last, mark, written_us, tombstones_seconds)


def _take(body: memoryview, position: int) -> tuple[bytes, int]:
    (length,) = _LENGTH.unpack_from(body, position)
    position += _LENGTH.size
    return bytes(body[position : position + length]), position + length

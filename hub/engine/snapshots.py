"""Snapshot files: the last committed row of every key of a partition's changelog, up to an offset, so that a restart reads
only what came later. Losing one loses nothing.

File: the magic, then CRC-32 (4 bytes) and length (8 bytes) of the body, big-endian; the body: changelog offset (8 bytes),
the partition count, and records of key length, key, value length, value (lengths 4 bytes). Written beside and renamed, so that
a file is whole or not there; one that does not check is ignored with a word in the log, and so is one that is too old: what was
deleted since may have left the changelog without a trace.
"""

import os
import time
from collections.abc import Mapping
from pathlib import Path
from struct import Struct, error
from zlib import crc32

import structlog

from ..kafka import TOMBSTONES_MS

log = structlog.get_logger(__name__)

#: Tombstones stay in the changelog for TOMBSTONES_MS; a snapshot that is younger than half of that misses none.
AGE_SECONDS_MAX = TOMBSTONES_MS / 1000 / 2

MAGIC = b"taskhub-snapshot-1\n"
_HEAD = Struct(">IQ")
_OFFSET = Struct(">QI")
_LENGTH = Struct(">I")

Rows = dict[bytes, bytes]


def snapshot_path(folder: Path, partition: int) -> Path:
    """The snapshot file of an engine partition."""
    return folder / f"engine-{partition}.snapshot"


def write_snapshot(path: Path, rows: Mapping[bytes, bytes], *, offset: int, partitions: int) -> None:
    """Write `rows`, which are the fold of the changelog below `offset`. Durable when it returns. Raises OSError."""
    parts = [_OFFSET.pack(offset, partitions)]
    for key, value in rows.items():
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


def read_snapshot(path: Path, *, partitions: int) -> tuple[Rows, int]:
    """The rows and the changelog offset to go on from; ({}, 0) where there is no file, or none that checks."""
    try:
        content = path.read_bytes()
        age_seconds = time.time() - path.stat().st_mtime  # noqa: TID251 - the clock that dated the file
    except FileNotFoundError:
        return {}, 0
    try:
        if age_seconds > AGE_SECONDS_MAX:
            raise ValueError(f"it is {age_seconds / 3600:.0f} hours old")
        return _parse(content, partitions)
    except (ValueError, error) as reason:
        log.warning("snapshot ignored", action="snapshot_ignored", path=str(path), reason=str(reason))
        return {}, 0


def _parse(content: bytes, partitions: int) -> tuple[Rows, int]:
    if not content.startswith(MAGIC):
        raise ValueError("it is no snapshot file of this version")
    checksum, length = _HEAD.unpack_from(content, len(MAGIC))
    body = memoryview(content)[len(MAGIC) + _HEAD.size :]
    if len(body) != length or crc32(body) != checksum:
        raise ValueError("its checksum does not match")
    offset, written_with = _OFFSET.unpack_from(body)
    if written_with != partitions:
        raise ValueError(f"it was written with {written_with} partitions")
    rows: Rows = {}
    position = _OFFSET.size
    while position < length:
        key, position = _take(body, position)
        value, position = _take(body, position)
        rows[key] = value
    return rows, offset


def _take(body: memoryview, position: int) -> tuple[bytes, int]:
    (length,) = _LENGTH.unpack_from(body, position)
    position += _LENGTH.size
    return bytes(body[position : position + length]), position + length

"""The journal: one sequence of blocks over several files. A block is either complete or truncated at recovery.

A block consists of a header and a payload. The header holds the generation of the file, the number of the block (LSN, counted
over all files) and the highest LSN known to be on disk when the block was written; a CRC covers both header and payload. Files
are filled with zeros in advance and reused with a new generation, so a write does not change the size of the file and its sync
is cheap. Blocks of an earlier generation are recognised by their generation number.

Replay reads blocks in order and stops at the first incomplete one. If a later block records that the incomplete one was on
disk, acknowledged data was damaged: replay raises `StorageDamaged` and never skips it. Otherwise a crash interrupted the
write, and the tail is truncated. A recovered journal continues in a new file, so bytes after the truncation are never read as
a block.
"""

import mmap
import os
import struct
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from crc32c import crc32c

from ..durable import sync_path
from .errors import StorageDamaged

_MAGIC = b"HJ01"
_HEAD = struct.Struct(">4sQ")
_REST = struct.Struct(">IQQ")
_CRC = struct.Struct(">I")
BLOCK_HEADER_BYTES = _HEAD.size + _CRC.size + _REST.size
_PREFIX = "journal-"


class Position(NamedTuple):
    """A position between two blocks."""

    generation: int
    offset: int
    lsn: int
    """Number of the next block."""


class Block(NamedTuple):
    """A complete block as read."""

    lsn: int
    synced_lsn: int
    payload: bytes
    end: int


def block_header(generation: int, lsn: int, synced_lsn: int, payload: bytes) -> bytes:
    """The header of the block with this payload."""
    head = _HEAD.pack(_MAGIC, generation)
    rest = _REST.pack(len(payload), lsn, synced_lsn)
    return head + _CRC.pack(crc32c(payload, crc32c(rest, crc32c(head)))) + rest


def decode_block(data: "bytes | mmap.mmap", at: int, generation: int) -> Block | None:
    """The complete block of this generation at position `at`, or None."""
    body = at + BLOCK_HEADER_BYTES
    if body > len(data) or _HEAD.unpack_from(data, at) != (_MAGIC, generation):
        return None
    (crc,) = _CRC.unpack_from(data, at + _HEAD.size)
    length, lsn, synced_lsn = _REST.unpack_from(data, at + _HEAD.size + _CRC.size)
    end = body + length
    if end > len(data):
        return None
    if crc32c(data[at + _HEAD.size + _CRC.size : end], crc32c(data[at : at + _HEAD.size])) != crc:
        return None
    return Block(lsn, synced_lsn, data[body:end], end)


class Journal:
    """The journal files of a directory. One thread writes; another may prepare files and recycle old ones."""

    def __init__(self, directory: Path, *, file_bytes: int, spare_files: int = 2) -> None:
        self._directory = directory
        self._file_bytes = file_bytes
        self._spare_files = spare_files
        self._lock = threading.Lock()
        self._file_lock = threading.Lock()
        self._spares: deque[tuple[int, int]] = deque()
        """(generation, file descriptor) of prepared files, in order."""
        self._old: deque[int] = deque()
        """Generations of full files, oldest first."""
        self._next_generation = 1
        self._generation = 0
        self._file = -1
        self._offset = 0
        self._lsn = 1
        self._synced_lsn = 0
        self._noted_lsn = 0
        self.bytes_written = 0

    def _path(self, generation: int) -> Path:
        return self._directory / f"{_PREFIX}{generation:010d}"

    # --- recovery

    def replay(self, start: Position) -> Iterator[bytes]:
        """Payloads of all blocks from `start`. When exhausted, the journal can be written. Raises `StorageDamaged`."""
        self._directory.mkdir(parents=True, exist_ok=True)
        found = sorted(int(path.name[len(_PREFIX) :]) for path in self._directory.glob(_PREFIX + "*"))
        if start.offset > 0 and start.generation not in found:
            raise StorageDamaged(f"journal file {self._path(start.generation)} is missing")
        lsn = start.lsn
        unread: list[tuple[int, int]] = []
        for generation in found:
            if generation < start.generation:
                continue
            at = start.offset if generation == start.generation else 0
            with self._mapped(generation) as data:
                while (block := decode_block(data, at, generation)) is not None and block.lsn == lsn:
                    if block.payload:
                        yield block.payload
                    at, lsn = block.end, lsn + 1
            unread.append((generation, at))
        untouched = [generation for generation, at in unread if not self._refuse_damage(generation, at, lsn) and at == 0]
        self._lsn, self._synced_lsn = lsn, lsn - 1
        self._take_over(found, untouched)
        self._next_generation = max([start.generation, *found]) + 1
        self._sync_replayed([generation for generation, at in unread if at])
        self._open_next()

    def _take_over(self, found: list[int], untouched: list[int]) -> None:
        """Prepared but unused files are used next; all others are old."""
        last_written = max((generation for generation in found if generation not in untouched), default=0)
        for generation in found:
            path = self._path(generation)
            if generation > last_written and path.stat().st_size == self._file_bytes:
                self._spares.append((generation, os.open(path, os.O_RDWR)))
            else:
                self._old.append(generation)

    def _refuse_damage(self, generation: int, at: int, lsn: int) -> bool:
        """Whether a block of this generation follows. Raises `StorageDamaged` if it proves that an earlier block was on
        disk."""
        traces = False
        pattern, path = _HEAD.pack(_MAGIC, generation), self._path(generation)
        with self._mapped(generation) as data:
            at = data.find(pattern, at)
            while at >= 0:
                traces = True
                block = decode_block(data, at, generation)
                if block is not None and block.synced_lsn >= lsn:
                    raise StorageDamaged(
                        f"journal block {lsn} is damaged: block {block.lsn} in {path} records that it was on disk"
                    )
                at = data.find(pattern, at + 1)
        return traces

    @contextmanager
    def _mapped(self, generation: int) -> Iterator["mmap.mmap | bytes"]:
        path = self._path(generation)
        if path.stat().st_size == 0:
            yield b""
            return
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            yield data

    def _sync_replayed(self, generations: list[int]) -> None:
        """Sync the replayed files: their data may have been in the page cache only, and it is served from now on."""
        for generation in generations:
            sync_path(self._path(generation))

    # --- writing

    @property
    def position(self) -> Position:
        """The position of the next block."""
        return Position(self._generation, self._offset, self._lsn)

    def write(self, parts: Sequence[bytes], *, sync: bool = False) -> None:
        """Append one block; with `sync` it and all earlier ones are on disk on return. Raises OSError."""
        payload = b"".join(parts)
        size = BLOCK_HEADER_BYTES + len(payload)
        if self._offset and self._offset + size > self._file_bytes:
            self._rotate()
        header = block_header(self._generation, self._lsn, self._synced_lsn, payload)
        written = os.pwritev(self._file, (header, payload), self._offset)
        while written < size:
            written += os.pwrite(self._file, (header + payload)[written:], self._offset + written)
        with self._file_lock:
            self._offset += size
            self._lsn += 1
        self.bytes_written += size
        if sync:
            os.fdatasync(self._file)
            self._synced_lsn = self._lsn - 1

    def sync(self) -> None:
        """Sync all blocks written before the call. May run concurrently with `write`."""
        with self._file_lock:
            lsn, file = self._lsn - 1, os.dup(self._file)
        try:
            os.fdatasync(file)
        finally:
            os.close(file)
        self._synced_lsn = max(self._synced_lsn, lsn)

    def note_synced(self) -> None:
        """Record that the last block is on disk, so that damage to it is detected. This record need not be synced."""
        if self._synced_lsn == self._lsn - 1 > self._noted_lsn:
            self.write(())
            self._noted_lsn = self._lsn - 1

    def _rotate(self) -> None:
        os.fdatasync(self._file)
        self._synced_lsn = self._lsn - 1
        self._old.append(self._generation)
        self._open_next()

    def _open_next(self) -> None:
        if not self._spares:
            self._add_spare()
        with self._lock:
            generation, file = self._spares.popleft()
        with self._file_lock:
            old, self._file, self._generation, self._offset = self._file, file, generation, 0
        if old >= 0:
            os.close(old)

    # --- files

    def prepare(self) -> bool:
        """Prepare files for later use. Returns whether one is available for when the current one is full, even if no more can
        be created."""
        try:
            while len(self._spares) < self._spare_files:
                self._add_spare()
        except OSError:
            return bool(self._spares)
        return True

    def _add_spare(self) -> None:
        with self._lock:
            path = self._path(self._next_generation)
            temporary = path.with_name("preparing")
            handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
            try:
                left, zeros = self._file_bytes, bytes(1 << 20)
                while left:
                    left -= os.write(handle, zeros[: min(left, len(zeros))])
                os.fsync(handle)
                os.rename(temporary, path)
                sync_path(self._directory)
            except OSError:
                os.close(handle)
                temporary.unlink(missing_ok=True)
                raise
            self._spares.append((self._next_generation, handle))
            self._next_generation += 1

    def recycle(self, generation: int) -> None:
        """Reuse or remove the files before `generation`: they are no longer needed."""
        with self._lock:
            while self._old and self._old[0] < generation:
                path = self._path(self._old.popleft())
                if len(self._spares) < self._spare_files and path.stat().st_size == self._file_bytes:
                    handle = os.open(path, os.O_RDWR)
                    os.rename(path, self._path(self._next_generation))
                    self._spares.append((self._next_generation, handle))
                    self._next_generation += 1
                else:
                    path.unlink(missing_ok=True)
            sync_path(self._directory)

    def close(self) -> None:
        """Close the files."""
        for _, handle in self._spares:
            os.close(handle)
        self._spares.clear()
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

"""The journal: one sequence of blocks over several files, written whole or cut at recovery.

A block is a header and a payload. The header holds the file's generation, the block's number (LSN, counted over all
files), and the highest LSN known to be on disk when the block was written; a CRC covers all of it and the payload.
Files are filled with zeros in advance and used again under a new generation, so a write changes no file size and its
sync is cheap; what an old generation left behind is recognised by its generation.

Replay reads blocks in order and stops at the first that is not whole. If a later block says that the missing one had
been on disk, bytes were damaged after they were acknowledged: that is refused (`StorageDamaged`), never skipped.
Otherwise the tail was torn by a crash and is cut. A recovered journal continues in a new file, so nothing after the cut
can ever be taken for a block again.
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
    """A place between two blocks."""

    generation: int
    offset: int
    lsn: int
    """Number of the next block."""


class Block(NamedTuple):
    """A whole block as read."""

    lsn: int
    synced_lsn: int
    payload: bytes
    end: int


def encode_block(generation: int, lsn: int, synced_lsn: int, parts: Sequence[bytes]) -> list[bytes]:
    """Buffers to write for one block."""
    head = _HEAD.pack(_MAGIC, generation)
    rest = _REST.pack(sum(map(len, parts)), lsn, synced_lsn)
    crc = crc32c(rest, crc32c(head))
    for part in parts:
        crc = crc32c(part, crc)
    return [head + _CRC.pack(crc) + rest, *parts]


def decode_block(data: "bytes | mmap.mmap", at: int, generation: int) -> Block | None:
    """The whole block at `at`, or None."""
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
    """See the module. One thread writes; another may prepare files and recycle old ones."""

    def __init__(self, directory: Path, *, file_bytes: int, spare_files: int = 2) -> None:
        self._directory = directory
        self._file_bytes = file_bytes
        self._spare_files = spare_files
        self._lock = threading.Lock()
        self._file_lock = threading.Lock()
        self._spares: deque[tuple[int, int]] = deque()
        """(generation, open file) of files that are ready to be written, in order."""
        self._old: deque[int] = deque()
        """Generations of files that were written full, oldest first."""
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
        """Payloads of all blocks from `start` on. Afterwards the journal is ready to be written. Raises
        `StorageDamaged`."""
        self._directory.mkdir(parents=True, exist_ok=True)
        found = sorted(int(path.name[len(_PREFIX) :]) for path in self._directory.glob(_PREFIX + "*"))
        if start.lsn > 1 and start.generation not in found and start.offset > 0:
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
        """Files that were prepared but never written are used next; all others are old."""
        last_written = max((generation for generation in found if generation not in untouched), default=0)
        for generation in found:
            path = self._path(generation)
            if generation > last_written and path.stat().st_size == self._file_bytes:
                self._spares.append((generation, os.open(path, os.O_RDWR)))
            else:
                self._old.append(generation)

    def _refuse_damage(self, generation: int, at: int, lsn: int) -> bool:
        """Whether anything that looks like a block of this generation follows; raises when it proves damage before
        it."""
        traces = False
        pattern, path = _HEAD.pack(_MAGIC, generation), self._path(generation)
        with self._mapped(generation) as data:
            at = data.find(pattern, at)
            while at >= 0:
                traces = True
                block = decode_block(data, at, generation)
                if block is not None and block.synced_lsn >= lsn:
                    raise StorageDamaged(
                        f"block {lsn} of the journal is damaged, but block {block.lsn} in {path} says that it was on disk"
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
        """What was replayed may have been in the page cache only: it is acted upon from now on, so it must be on
        disk."""
        for generation in generations:
            sync_path(self._path(generation))

    # --- writing

    @property
    def position(self) -> Position:
        """Where the next block goes."""
        return Position(self._generation, self._offset, self._lsn)

    def write(self, parts: Sequence[bytes]) -> None:
        """Write one block at the end, without sync."""
        buffers = encode_block(self._generation, self._lsn, self._synced_lsn, parts)
        size = sum(map(len, buffers))
        if self._offset and self._offset + size > self._file_bytes:
            self._rotate()
            buffers = encode_block(self._generation, self._lsn, self._synced_lsn, parts)
        data = b"".join(buffers)
        written = os.pwrite(self._file, data, self._offset)
        while written < size:
            written += os.pwrite(self._file, data[written:], self._offset + written)
        with self._file_lock:
            self._offset += size
            self._lsn += 1
        self.bytes_written += size

    def sync(self) -> None:
        """All blocks written before the call are on disk when this returns. May run beside `write`."""
        with self._file_lock:
            lsn, file = self._lsn - 1, os.dup(self._file)
        try:
            os.fdatasync(file)
        finally:
            os.close(file)
        self._synced_lsn = max(self._synced_lsn, lsn)

    def note_synced(self) -> None:
        """Leave a trace that the last block is on disk, so that damage to it is noticed. Needs no sync of its own."""
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
        """Have prepared files at hand; whether there is one for when the current one is full, also where no more can be made."""
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
        """Files before `generation` are not needed any more: use them again, or remove them."""
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

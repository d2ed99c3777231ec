"""The checkpoint file of a data directory. It is written to a temporary file and renamed, so a complete one always exists."""

import os
from pathlib import Path
from typing import Any

import msgspec
from crc32c import crc32c

from ..durable import sync_path
from .errors import StorageDamaged
from .segment import LogEntry

_MAGIC = b"HCP1"


class Checkpoint(msgspec.Struct):
    """The broker's state at the end of a block, the segment table, and the position in the journal; `clean`: written by an
    orderly shutdown."""

    position: tuple[int, int, int]
    clean: bool
    segments: list[LogEntry]
    state: dict[str, Any]


def read_checkpoint(directory: Path) -> Checkpoint | None:
    """Read the checkpoint of a data directory; None if there is none. Raises `StorageDamaged`, OSError."""
    path = directory / "checkpoint"
    if not path.exists():
        return None
    raw = path.read_bytes()
    if raw[:4] != _MAGIC or int.from_bytes(raw[4:8], "big") != crc32c(raw[8:]):
        raise StorageDamaged(f"{path} is damaged: bad magic or checksum")
    return msgspec.msgpack.decode(raw[8:], type=Checkpoint)


def write_checkpoint(directory: Path, checkpoint: Checkpoint) -> None:
    """Replace and sync the checkpoint. Raises OSError."""
    body = msgspec.msgpack.encode(checkpoint)
    temporary = directory / "checkpoint.new"
    with temporary.open("wb") as file:
        file.write(_MAGIC + crc32c(body).to_bytes(4, "big") + body)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(directory / "checkpoint")
    sync_path(directory)

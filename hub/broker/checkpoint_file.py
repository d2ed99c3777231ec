"""The checkpoint of a data directory as a file: written beside the old one and renamed, so there is always a whole one."""

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
    """The broker's state at a block, the table of segments, and where the journal continues; `clean`: by an orderly stop."""

    position: tuple[int, int, int]
    clean: bool
    segments: list[LogEntry]
    state: dict[str, Any]


def read_checkpoint(directory: Path) -> Checkpoint | None:
    """The checkpoint in a data directory, if there is one. Raises `StorageDamaged`, OSError."""
    path = directory / "checkpoint"
    if not path.exists():
        return None
    raw = path.read_bytes()
    if raw[:4] != _MAGIC or int.from_bytes(raw[4:8], "big") != crc32c(raw[8:]):
        raise StorageDamaged(f"{path} is damaged")
    return msgspec.msgpack.decode(raw[8:], type=Checkpoint)


def write_checkpoint(directory: Path, checkpoint: Checkpoint) -> None:
    """Replace the checkpoint; the new one is on disk when this returns. Raises OSError."""
    body = msgspec.msgpack.encode(checkpoint)
    temporary = directory / "checkpoint.new"
    with temporary.open("wb") as file:
        file.write(_MAGIC + crc32c(body).to_bytes(4, "big") + body)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(directory / "checkpoint")
    sync_path(directory)

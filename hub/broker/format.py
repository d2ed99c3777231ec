"""The format number of a data directory: the version of the layout of its files.

    <data_dir>/format         the number, as text, and a newline

It is written and read before all other files. Data of another format is neither opened nor changed.
"""

import os
from pathlib import Path

from ..durable import sync_path
from .errors import OtherFormat

#: Increase it with each incompatible change of the layout, in either direction.
FORMAT = 1

#: A directory that a broker has used contains at least one of these, even if it was made before format numbers existed.
_OF_EVERY_FORMAT = ("checkpoint", "journal")


def ensure_format(directory: Path) -> None:
    """Check the format number of a data directory; write it if the directory is unused. Raises `OtherFormat`, OSError."""
    path = directory / "format"
    if path.exists():
        _check(directory, path.read_bytes()[:64].decode(errors="replace").strip())
    elif any((directory / name).exists() for name in _OF_EVERY_FORMAT):
        raise OtherFormat(str(directory), None, FORMAT)
    else:
        _write(path)


def _check(directory: Path, found: str) -> None:
    if found != str(FORMAT):
        raise OtherFormat(str(directory), found, FORMAT)


def _write(path: Path) -> None:
    """Write and sync the format number: a journal without it would be rejected as another format."""
    beside = path.with_suffix(".new")
    with beside.open("w") as file:
        file.write(f"{FORMAT}\n")
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    sync_path(path.parent)

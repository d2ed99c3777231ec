"""The format number of a data directory: which version of its layout the files have.

    <data_dir>/format         the number, as text, and a newline

It is written before anything else, and read before anything else. Data of another format is never opened, nor changed.
"""

import os
from pathlib import Path

from ..durable import sync_path
from .errors import OtherFormat

#: Counted up by whoever changes what is in a data directory so that an earlier version cannot read it, or the other way round.
FORMAT = 1

#: Either of them is there in a directory that a broker has used, also before there were format numbers.
_OF_EVERY_FORMAT = ("checkpoint", "journal")


def ensure_format(directory: Path) -> None:
    """Check the format of a data directory, and write it into one that no broker has used. Raises `OtherFormat`, OSError."""
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
    """Durable when it returns: a journal without it would count as one of another format."""
    beside = path.with_suffix(".new")
    with beside.open("w") as file:
        file.write(f"{FORMAT}\n")
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    sync_path(path.parent)

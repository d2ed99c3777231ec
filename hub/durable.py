"""Durability of files."""

import os
from pathlib import Path


def sync_path(path: Path) -> None:
    """Sync a file, or the entries of a directory, to disk, including writes of other processes. Raises OSError."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

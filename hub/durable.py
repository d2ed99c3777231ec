"""Bringing files to disk."""

import os
from pathlib import Path


def sync_path(path: Path) -> None:
    """Bring a file, or the names in a directory, to disk: also what others wrote there. Raises OSError."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

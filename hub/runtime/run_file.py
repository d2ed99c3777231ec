"""`<data>/run.json`: the processes that currently use a data directory, for `hub status` and other tools."""

import json
import os
from pathlib import Path
from typing import Any

NAME = "run.json"


def write_run_file(data_dir: Path, content: dict[str, Any]) -> None:
    """Replace the file atomically."""
    data_dir.mkdir(parents=True, exist_ok=True)
    beside = data_dir / f"{NAME}.new"
    beside.write_text(json.dumps(content, indent=2) + "\n")
    beside.replace(data_dir / NAME)


def read_run_file(data_dir: Path) -> dict[str, Any] | None:
    """The content of the file if its supervisor is still running, else None."""
    try:
        content = json.loads((data_dir / NAME).read_text())
        pid = int(content["pid"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return dict(content) if process_lives(pid) else None


def remove_run_file(data_dir: Path) -> None:
    """Remove the file, at the end of a drain."""
    (data_dir / NAME).unlink(missing_ok=True)


def process_lives(pid: int) -> bool:
    """Whether a process with this id exists on this machine."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True

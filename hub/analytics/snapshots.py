"""The snapshot of the view in a file: it shortens a restart, and nothing else. Without a usable one the view is rebuilt from the
log."""

import os
from hashlib import blake2b
from pathlib import Path

import msgspec
from msgspec import Struct

from ..durable import sync_path
from ..logs import Logger
from .view import Shape, ViewContents

log = Logger(__name__)

FILE = "analytics.snapshot"
FORMAT = 1


class ViewSnapshot(Struct):
    """A file: the contents of a view, and a digest of what it was configured to keep."""

    format: int
    digest: str
    contents: ViewContents


def digest_of(shape: Shape, cluster: str) -> str:
    """Identifies the configuration of a view, and the cluster whose log it is of."""
    parts = (shape.pane_seconds, shape.keep_seconds, cluster, [msgspec.to_builtins(rule) for rule in shape.rules])
    return blake2b(msgspec.json.encode(parts), digest_size=16).hexdigest()


def write(folder: Path, digest: str, contents: ViewContents) -> None:
    """Replace the snapshot, atomically. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    temporary, path = folder / f"{FILE}.new", folder / FILE
    temporary.write_bytes(msgspec.msgpack.encode(ViewSnapshot(FORMAT, digest, contents)))
    sync_path(temporary)
    os.replace(temporary, path)
    sync_path(folder)


def read(folder: Path, digest: str) -> ViewContents | None:
    """The contents of the snapshot; None if there is none of this configuration that can be read."""
    try:
        snapshot = msgspec.msgpack.decode((folder / FILE).read_bytes(), type=ViewSnapshot)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        log.warning("the snapshot cannot be used", action="analytics_snapshot_unusable", reason=str(error))
        return None
    return snapshot.contents if (snapshot.format, snapshot.digest) == (FORMAT, digest) else None

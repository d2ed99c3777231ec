"""Monitors the disk of a data directory, so that writes are rejected before it is full."""

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

from .storage import StorageSpace

logger = logging.getLogger(__name__)


class DiskRoom:
    """The free space of one disk. `reserve_bytes` are kept free for deletions and checkpoints. `enough` is the result of the
    last `look`; other threads may read it."""

    def __init__(self, directory: Path, reserve_bytes: int) -> None:
        self._directory = directory
        self.reserve_bytes = reserve_bytes
        self.enough = True
        self._known = True

    def space(self) -> StorageSpace:
        """Total and usable size of the disk. Raises OSError."""
        disk = shutil.disk_usage(self._directory)
        return StorageSpace(disk.total, max(0, disk.free - self.reserve_bytes))

    def look(self, has_place: Callable[[], bool]) -> None:
        """Check the free space and, if it is sufficient, `has_place` for the next writes. If the free space cannot be
        determined, `enough` does not change."""
        free = self._free_bytes()
        room = (self.enough if free is None else free > self.reserve_bytes) and has_place()
        if room != self.enough:
            self._report(free, room=room)
        self.enough = room

    def _free_bytes(self) -> int | None:
        try:
            free = shutil.disk_usage(self._directory).free
        except OSError as error:
            if self._known:
                logger.warning(
                    "cannot determine the free disk space of %s (%s); writes are accepted or rejected as before",
                    self._directory,
                    error,
                    extra={"action": "disk_space_unknown"},
                )
            self._known = False
            return None
        self._known = True
        return free

    def _report(self, free: int | None, *, room: bool) -> None:
        where = {"path": str(self._directory), "free_bytes": free, "reserve_bytes": self.reserve_bytes}
        if room:
            logger.warning(
                "free disk space is above the reserve again: writes are accepted", extra={"action": "disk_has_room", **where}
            )
        else:
            logger.error(
                "the disk of %s is full (%s bytes free, %d bytes reserved): writes are rejected, except deletes and changes of"
                " topic settings. Free space or shorten the retention of topics; the broker resumes by itself",
                self._directory,
                "an unknown number of" if free is None else free,
                self.reserve_bytes,
                extra={"action": "disk_full", **where},
            )

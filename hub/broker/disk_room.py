"""Whether the disk of a data directory has room for more: writes are refused before it is full."""

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

from .storage import StorageSpace

logger = logging.getLogger(__name__)


class DiskRoom:
    """See the module. `reserve_bytes` are kept free, so that deletions and checkpoints still come through. `enough` is what the
    last `look` found; read by other threads."""

    def __init__(self, directory: Path, reserve_bytes: int) -> None:
        self._directory = directory
        self.reserve_bytes = reserve_bytes
        self.enough = True
        self._known = True

    def space(self) -> StorageSpace:
        """The size of the disk and what of it can be used. Raises OSError."""
        disk = shutil.disk_usage(self._directory)
        return StorageSpace(disk.total, max(0, disk.free - self.reserve_bytes))

    def look(self, has_place: Callable[[], bool]) -> None:
        """Look at the free space, and ask whether the next writes have a place where there is enough of it. A disk that does not
        say how much is free counts as it was before."""
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
                    "the free space on the disk of %s cannot be read (%s); writes are accepted or refused as before",
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
            logger.warning("the disk has room again: writes are accepted", extra={"action": "disk_has_room", **where})
        else:
            logger.error(
                "the disk of %s is full (%s bytes are free, %d are kept in reserve): writes are refused, except deletes and topic"
                " settings. Free some space, or shorten the retention of topics; the broker recovers by itself",
                self._directory,
                "an unknown number of" if free is None else free,
                self.reserve_bytes,
                extra={"action": "disk_full", **where},
            )

"""Background work of a partition that never delays its transactions: deletes old intake, monitors free disk space.

Each sends one request at a time in a separate task, so that a broker that does not respond delays nothing.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from logging import INFO, WARNING
from typing import Literal

from schemas.events import EngineStorageChanged

from ..errors import HubError
from ..logs import Logger
from ..service import ServiceTasks
from .ports import UNKNOWN_SPACE, DiskSpace, EngineBroker
from .settings import EngineSettings

log = Logger(__name__)

#: Interval of checks of the free space (seconds): 10 s at 100 MB/s are 1 GB, which the thresholds allow for.
STORAGE_SECONDS = 10.0

#: Backoff after a failed deletion of intake (seconds).
RETRY_SECONDS = 60.0

#: How long leaving a partition waits for its request to the broker (seconds).
CLOSE_SECONDS = 2.0

#: See `level_of`.
RECOVERED = 1.1

#: How long a reported free space is valid (seconds): several checks, so that a restart of the broker changes nothing.
ANSWER_HOLDS_SECONDS = 60.0

StorageLevel = Literal["ok", "warning", "low"]

_STORAGE_MESSAGES: dict[StorageLevel, str] = {
    "ok": "the broker's disk has enough free space again",
    "warning": "the broker's disk is filling up; free space or shorten the retention of its topics",
    "low": "the broker's disk is almost full: new submissions are rejected until space is free",
}
_SPACE_UNKNOWN = "the broker no longer reports its free disk space; submissions are accepted again"


def level_of(space: DiskSpace, settings: EngineSettings, before: str) -> StorageLevel:
    """The level of a disk by the thresholds of `settings` (0 disables one). To leave the level `before` for a better one, the
    free space must exceed the threshold by the factor RECOVERED, so that the level does not oscillate."""
    warn, low = settings.storage_thresholds(space.total_bytes)
    if space.usable_bytes < low * (RECOVERED if before == "low" else 1):
        return "low"
    return "warning" if space.usable_bytes < warn * (RECOVERED if before != "ok" else 1) else "ok"


class Housekeeping:
    """The background requests of one partition's loop, among its `tasks`. `close` ends them.

    `space` and `level` follow the latest report of the broker about its disk. If it has reported nothing for
    ANSWER_HOLDS_SECONDS, `space` is None and the level "ok", so that submissions are not rejected because of an outdated
    number. Before the first report, or until that time has passed, `level` is None.
    """

    def __init__(self, broker: EngineBroker, partition: int, settings: EngineSettings, tasks: ServiceTasks) -> None:
        self._broker = broker
        self._partition = partition
        self._settings = settings
        self._tasks = tasks
        self._trimming: asyncio.Task[None] | None = None
        self._looking: asyncio.Task[None] | None = None
        self._trim_due = self._look_due = 0.0
        self._trimmed = 0
        self._holds_until: float | None = None
        self.space: DiskSpace | None = None
        self.level: StorageLevel | None = None

    def trim(self, before: int | None) -> None:
        """Request the deletion of the intake before this offset (None: nothing is old enough)."""
        if before is None or before <= self._trimmed or _now() < self._trim_due:
            return
        if self._trimming is None or self._trimming.done():
            self._trimming = self._begin(partial(self._trim, before))

    def look(self, written: str) -> None:
        """Look at the free space again when it is time; `space` and `level` follow. `written` is the level that was written last:
        where nothing has been reported to this process yet, the disk was at that level before."""
        if _now() < self._look_due or not (self._looking is None or self._looking.done()):
            return
        self._look_due = _now() + STORAGE_SECONDS
        self._looking = self._begin(partial(self._look, written))

    def storage_change(self, written: str) -> EngineStorageChanged | None:
        """The change from the level written last to the current one, which is also logged; None without a change."""
        if self.level is None or self.level == written:
            return None
        usable, total = self.space or UNKNOWN_SPACE
        log.log(
            WARNING if self.level != "ok" else INFO,
            _STORAGE_MESSAGES[self.level] if self.space is not None else _SPACE_UNKNOWN,
            action="engine_storage_changed",
            partition=self._partition,
            usable_bytes=usable,
            total_bytes=total,
        )
        return EngineStorageChanged(level=self.level, usable_bytes=usable, total_bytes=total)

    def _begin(self, work: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
        return self._tasks.start(self._guarded(work), f"engine-{self._partition}-housekeeping")

    async def _guarded(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except (HubError, OSError, TimeoutError) as reason:
            log.warning("housekeeping failed", action="engine_housekeeping", partition=self._partition, reason=str(reason))
        except Exception as failure:  # it must not end the partition, but be reported
            log.exception("housekeeping failed", action="engine_housekeeping", partition=self._partition, reason=repr(failure))

    async def _trim(self, before: int) -> None:
        self._trim_due = _now() + RETRY_SECONDS
        await self._broker.trim_intake(self._partition, before)
        self._trimmed, self._trim_due = before, 0.0
        log.debug("intake deleted", action="engine_intake_trimmed", partition=self._partition, before=before)

    async def _look(self, written: str) -> None:
        space = None
        try:
            space = await self._broker.disk_space()
        finally:
            self._note(space, written)

    def _note(self, space: DiskSpace | None, written: str) -> None:
        now = _now()
        if self._holds_until is None:
            self._holds_until = now + ANSWER_HOLDS_SECONDS
        if space is not None:
            self._holds_until = now + ANSWER_HOLDS_SECONDS
            self.space, self.level = space, level_of(space, self._settings, self.level or written)
        elif now >= self._holds_until:
            self.space, self.level = None, "ok"

    async def close(self) -> None:
        """Wait for current requests; cancel them after CLOSE_SECONDS (a client cancelled while connecting leaks a
        connection)."""
        tasks = [task for task in (self._trimming, self._looking) if task is not None]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=CLOSE_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.wait(tasks)


def _now() -> float:
    """Seconds by the clock of the event loop."""
    return asyncio.get_running_loop().time()

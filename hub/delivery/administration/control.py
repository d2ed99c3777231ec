"""What a running subscriber takes from `hub.subscribers`: whether it is paused, and its state."""

import asyncio

from ...errors import HubError
from ...kafka import Cluster, StoredRecord
from ...service import ServiceTasks, no_log
from .control_records import pause_key, read_pause
from .control_topic import ControlFollower, ControlWriter
from .state import DurableState

STOP_SECONDS = 5.0


class Paused(HubError):
    """The subscriber is paused by an operator."""


class Control:
    """The records about one subscriber; use from one event loop, between `start` and `stop`. `follower`: one that is shared with
    the other subscribers of the process, and that its owner runs; by default it has one of its own.

    `caught_up` is set when the records that existed at the start are known. `paused`: the reason while it is paused, else
    None."""

    def __init__(self, cluster: Cluster, subscriber: str, follower: ControlFollower | None = None) -> None:
        self.paused: str | None = None
        self._writer = ControlWriter(cluster)
        self.state = DurableState(subscriber, self._writer)
        self._pause_key = pause_key(subscriber)
        self._changed = asyncio.Event()
        self._own: ControlFollower | None = None
        if follower is None:
            follower = self._own = ControlFollower(cluster)
        follower.add(subscriber, self._apply)
        self.caught_up = follower.caught_up
        self._tasks = ServiceTasks(f"control of subscriber {subscriber}", no_log)

    def start(self) -> None:
        """Begin to follow, unless it follows already or its follower is shared."""
        if self._own is not None and not self._tasks:
            self._tasks.start(self._own.run(), "control")

    async def stop(self) -> None:
        """Stop following, and writing."""
        await self._tasks.cancel(again_seconds=STOP_SECONDS)
        await self._writer.close()

    async def until_paused(self) -> None:
        """Wait until it is paused, then raise Paused."""
        while self.paused is None:
            self._changed.clear()
            await self._changed.wait()
        raise Paused(self.paused)

    async def until_resumed(self) -> None:
        """Wait until it is not paused."""
        while self.paused is not None:
            self._changed.clear()
            await self._changed.wait()

    def _apply(self, record: StoredRecord) -> None:
        key = record.key or b""
        if key.startswith(self.state.prefix):
            self.state.apply(key, record.value, record.offset)
        if key != self._pause_key:
            return
        pause = None if record.value is None else read_pause(record.value)
        reason = "" if pause is None or not pause.reason else f": {pause.reason}"
        self.paused = None if pause is None else f"paused since {pause.since}{reason}"
        self._changed.set()

"""The supervisor of `hub up`: starts the processes side by side, restarts what dies, drains in order.

1. start all; each waits for what it needs (those that need the broker's address, until it is known);
2. a child that does not come up the first time ends everything, with that child's exit code;
3. a child that dies later is started again, after 0.1 s doubling to 5 s; a worker's death is reported to the engine at once;
4. drain: workers, delivery, analytics, engines, broker. A second signal kills them all.
"""

import asyncio
import os
import signal
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from ..child_process import describe_exit
from ..logs import Logger
from ..service import ServiceTasks, no_log, set_within
from .child import Child, ChildSpec
from .errors import ChildFailed, ProcessFailed
from .health import FleetMember, FleetPages
from .launching import Launcher
from .process import Process
from .run_file import remove_run_file, write_run_file

log = Logger(__name__)

PAUSE_SECONDS = (0.1, 5.0)
"""Before a restart: the first, and the longest."""
SETTLED_SECONDS = 10.0
"""A process that ran for this time is restarted after the shortest backoff."""
READY_SECONDS = 60.0
KILL_SECONDS = 5.0
"""For the end of a process after SIGKILL; then the fork server is killed, too."""
DRAIN_ORDER = ("worker", "delivery", "analytics", "engine", "broker", "broker+engine")
BROKER_ROLES = ("broker", "broker+engine")


class Fleet(NamedTuple):
    """What to run. `bootstrap` is None while only the broker's `ready` line can say it (`--port 0`); the option of the same name
    is added to the commands of the processes that connect to it.

    `drain_seconds`: per stage of the drain, after which its processes are killed."""

    children: Sequence[ChildSpec]
    bootstrap: str | None
    data_dir: Path | None
    drain_seconds: float = 45.0


class Supervisor:
    """See the module. `on_up` is called once, when everything serves. `launcher`: starts the processes, by default new ones."""

    def __init__(self, fleet: Fleet, on_up: Callable[["Supervisor"], None], launcher: Launcher | None = None) -> None:
        self.fleet = fleet
        self._launcher = launcher or Launcher()
        self.children = [Child(spec, self._launcher, self._write) for spec in fleet.children]
        self._on_up = on_up
        self._address: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        if fleet.bootstrap is not None:
            self._address.set_result(fleet.bootstrap)
        self._keepers: dict[Child, asyncio.Task[None]] = {}
        self._tasks = ServiceTasks("the supervisor", no_log)
        self._reports = ServiceTasks("the supervisor", _log_loss_not_reported)
        self._data_is_ours = all(spec.role not in BROKER_ROLES for spec in fleet.children)
        self._health_address: str | None = None
        self._started_at = datetime.now(UTC).isoformat(timespec="milliseconds")

    @property
    def address(self) -> str:
        """Of the broker; known once it serves."""
        return self._address.result()

    async def run(self, process: Process) -> None:
        """Until a signal asks to stop, then drain. Raises ChildFailed when a process does not come up, and what a background task
        of the supervisor itself raises."""
        process.at_once.append(self.kill)
        pages = process.pages = FleetPages(process.health, self.members, process.collect)
        process.snapshots = pages.snapshots
        self._health_address = process.health.facts.get("health")
        try:
            await process.until_stopped(self._serve(process))
        finally:
            await self._drain()

    async def _serve(self, process: Process) -> None:
        self._keepers = {child: self._tasks.start(self._keep(child), child.spec.name) for child in self.children}
        await self._tasks.unless_failed(self._all_serve())
        process.health.started = True
        self._on_up(self)
        await asyncio.to_thread(_load_losses)  # so that a death is reported without the wait for an import
        await self._tasks.watch()

    async def _all_serve(self) -> None:
        try:
            async with asyncio.timeout(READY_SECONDS):
                for child in self.children:
                    await child.serving.wait()
        except TimeoutError as error:
            waiting = ", ".join(child.spec.name for child in self.children if not child.serving.is_set())
            raise ProcessFailed(f"Not ready after {READY_SECONDS:g} s: {waiting}. The log above may say why.") from error

    # One child

    async def _keep(self, child: Child) -> None:
        loop = asyncio.get_running_loop()
        pause = PAUSE_SECONDS[0]
        if child.spec.role not in BROKER_ROLES:
            child.spec = child.spec.with_options(bootstrap=await asyncio.shield(self._address))
        served = False
        while not child.stopping.is_set():
            since = loop.time()
            await child.spawn()
            noting = self._tasks.start(self._note_serving(child), f"{child.spec.name} serves")
            code = await child.ended()
            noting.cancel()
            served = served or child.serving.is_set()
            if child.stopping.is_set():
                return
            if not served:
                raise ChildFailed(child.spec.name, code, describe_exit(code))
            self._died(child, code)
            pause = PAUSE_SECONDS[0] if loop.time() - since > SETTLED_SECONDS else pause
            await set_within(child.stopping, pause)
            pause = min(2 * pause, PAUSE_SECONDS[1])
            child.restarts += 1

    async def _note_serving(self, child: Child) -> None:
        await child.serving.wait()
        log.info("child serves", action="child_serves", child=child.spec.name, pid=child.pid, restarts=child.restarts)
        if child.spec.role in BROKER_ROLES and not self._data_is_ours:
            self._data_is_ours = True
            self._keep_address(child)
        self._write()

    def _keep_address(self, broker: Child) -> None:
        """Keep the port that the system chose for restarts, because the other processes have it."""
        address = str(broker.facts["address"])
        if not self._address.done():
            self._address.set_result(address)
            broker.spec = broker.spec.with_options(port=int(address.rpartition(":")[2]))

    def _died(self, child: Child, code: int) -> None:
        if child.spec.role == "delivery":  # perhaps one of its subscribers ended it: each gets a process of its own
            child.spec = child.spec.with_options(isolate=True)
        log.warning("child died", action="child_died", child=child.spec.name, pid=child.pid, how=describe_exit(code))
        child.serving.clear()
        self._write()
        incarnation = child.facts.get("incarnation")
        if incarnation is not None and code != 0:
            from .cluster import cluster_at
            from .losses import report_lost

            reason = f"its process {child.pid} ended with {describe_exit(code)}"
            self._reports.start(report_lost(cluster_at(self.address), str(incarnation), reason), f"loss of {child.spec.name}")

    # All of them

    def members(self) -> list[FleetMember]:
        """The processes, with the addresses of their health pages."""
        return [
            FleetMember(child.spec.name, child.spec.role, child.pid, child.serving.is_set(), child.facts.get("health"))
            for child in self.children
        ]

    def describe(self) -> dict[str, Any]:
        """What runs, as JSON types."""
        return {
            "role": "up",
            "pid": os.getpid(),
            "address": self.address,
            "data": None if self.fleet.data_dir is None else str(self.fleet.data_dir),
            "health": self._health_address,
            "started_at": self._started_at,
            "processes": [
                {
                    "name": child.spec.name,
                    "role": child.spec.role,
                    "pid": child.pid,
                    "serving": child.serving.is_set(),
                    "restarts": child.restarts,
                    **{key: value for key, value in child.facts.items() if key not in ("role", "pid")},
                }
                for child in self.children
            ],
        }

    def _write(self) -> None:
        """Only once the broker has served: before, the data directory may be another hub's."""
        if self.fleet.data_dir is not None and self._data_is_ours and self._address.done():
            try:
                write_run_file(self.fleet.data_dir, self.describe())
            except OSError as error:  # a full disk must not end the hub
                log.error("the run file may be out of date", action="run_file_not_written", reason=str(error))

    async def _drain(self) -> None:
        log.info("draining", action="supervisor_drains")
        if not self._address.done():
            self._address.cancel()  # processes that wait for it need not start
        await self._reports.wait(1.0)
        await self._reports.cancel()
        for role in DRAIN_ORDER:
            async with asyncio.TaskGroup() as group:
                for child, keeper in self._keepers.items():
                    if child.spec.role == role:
                        group.create_task(self._stop(child, keeper))
        await self._tasks.cancel()
        self._launcher.close()
        if self.fleet.data_dir is not None and self._data_is_ours:
            remove_run_file(self.fleet.data_dir)

    async def _stop(self, child: Child, keeper: "asyncio.Task[None]") -> None:
        child.stop()
        await asyncio.wait([keeper], timeout=self.fleet.drain_seconds)
        if not keeper.done():
            log.error("killed", action="child_killed", child=child.spec.name, after_seconds=self.fleet.drain_seconds)
            child.signal(signal.SIGKILL)
            await asyncio.wait([keeper], timeout=KILL_SECONDS)
            if not keeper.done():
                self._launcher.kill()
            await asyncio.wait([keeper])
        if not keeper.cancelled() and (error := keeper.exception()) is not None:
            log.debug("had failed", action="child_had_failed", child=child.spec.name, reason=str(error))  # raised already

    def kill(self) -> None:
        """End every child now."""
        for child in self.children:
            child.stopping.set()
            child.signal(signal.SIGKILL)


def _load_losses() -> None:
    from . import losses

    assert losses


def _log_loss_not_reported(error: BaseException) -> None:
    """The engine then finds out by the leases."""
    log.error("loss not reported", action="worker_loss_not_reported", exc_info=error)

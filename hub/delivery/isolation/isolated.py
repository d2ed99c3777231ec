"""One subscriber in a process of its own, as the process of delivery sees it: started, watched, restarted, stopped."""

import asyncio
import dataclasses
import logging
import os
import pickle
import signal
from collections.abc import Callable, Mapping
from typing import NamedTuple

from ...child_process import describe_exit
from ...errors import ConfigurationError
from ...fork_server import ForkedProcess, ForkServer, ForkServerEnded
from ...kafka import Cluster
from ...metrics import MetricsSnapshot, merged
from ...metrics.merging import totals
from ..config import SubscriberConfig
from ..current_events import ProcessEnded, ProcessKilled, Suspect, remains_of, shared_file
from ..failures import StoppedByPolicy
from ..lifecycle import Lifecycle
from ..restarting import Restarting
from ..status import SubscriberStatus
from .reports import ReportReader, metrics_in, status_in
from .suspicion import Suspicion

WATCH_SECONDS = 1.0
SILENT_SECONDS = 5.0
"""Without a report for this time, the status is "blocked"."""
KILL_AFTER_SILENT_SECONDS = 30.0
STOP_SECONDS = 15.0
OUTER_SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGKILL, signal.SIGTERM)
"""Signals that come from another process."""


class Job(NamedTuple):
    """What the process of a subscriber needs to know. `suspects`: events that must be handled alone, or not at all."""

    cluster: Cluster
    config: SubscriberConfig
    topic: str
    drain_seconds: float
    dead_letter_configs: Mapping[str, str]
    suspects: tuple[Suspect, ...] = ()

    def to_bytes(self) -> bytes:
        """Encode the job for a process forked from this one."""
        return pickle.dumps(self._replace(dead_letter_configs=dict(self.dead_letter_configs)))

    @classmethod
    def of_bytes(cls, data: bytes) -> "Job":
        """Decode a job."""
        job: Job = pickle.loads(data)
        return job


class IsolatedSubscriber:
    """One configured subscriber, run until `run` is cancelled. Has the interface of `SubscriberSupervisor`."""

    def __init__(self, job: Job, server: ForkServer, on_change: Callable[[], None]) -> None:
        self.config = job.config
        self._job, self._server = job, server
        self.lifecycle = Lifecycle(logging.getLogger(f"hub.delivery.{job.config.id}"), on_change)
        self._restarting = Restarting(self.lifecycle)
        self.checked = self._restarting.checked
        self._status: SubscriberStatus | None = None
        self._invalid: str | None = None
        self._is_draining = False
        self._process: ForkedProcess | None = None
        self._heard_at = 0.0
        self._metrics: MetricsSnapshot | None = None
        self._of_ended: MetricsSnapshot | None = None
        self._suspicion = Suspicion()
        self._has_progress = False

    def status(self) -> SubscriberStatus:
        """The latest reported status."""
        known = self._status or SubscriberStatus(self.config.id, self.config.use, "starting")
        silent = self._process is not None and self._silent_seconds() > SILENT_SECONDS
        return dataclasses.replace(
            known,
            state="blocked" if silent and self.lifecycle.state == "running" else self.lifecycle.state,
            restarts=known.restarts + self._restarting.restarts,
            error=self.lifecycle.error,
        )

    def metrics(self) -> list[MetricsSnapshot]:
        """The metrics that its process last reported, and the totals of those that have ended."""
        return [snapshot for snapshot in (self._of_ended, self._metrics) if snapshot is not None]

    async def run(self) -> None:
        """Run until cancelled or stopped by its policy. Raises ForkServerEnded."""
        await self._restarting.run(self._one_process, raised=(ForkServerEnded,), has_progress=lambda: self._has_progress)

    async def _one_process(self) -> None:
        self._has_progress, current = False, shared_file()
        try:
            await self._run_process(current)
        except ProcessEnded as error:
            raise self._note_end(current, error) from None
        finally:
            os.close(current)

    def _note_end(self, current: int, error: ProcessEnded) -> ProcessEnded:
        """Note which events were being handled, and whether others were delivered. Returns the error with this."""
        remains = remains_of(current)
        self._has_progress = remains.has_progress
        self._suspicion.note_end(remains, error)
        match remains.events:
            case ():
                return error
            case (place,):
                return ProcessEnded(f"{error} while it handled the event at offset {place.offset} of partition {place.partition}")
            case _:
                return ProcessEnded(f"{error} while it handled {len(remains.events)} events")

    async def _run_process(self, current: int) -> None:
        loop = asyncio.get_running_loop()
        process = await self._server.fork(self._job._replace(suspects=self._suspicion.suspects).to_bytes(), current)
        self._process, self._status, self._invalid, self._heard_at = process, None, None, loop.time()
        self._is_draining = False
        reports = ReportReader()
        os.set_blocking(process.reports, False)
        loop.add_reader(process.reports, self._read, process.reports, reports)
        try:
            await self._watch(process)
        finally:
            await self._end(process)
            self._read_rest(process.reports, reports)
            self._process = None
            self._keep_totals()
        self._explain(process)

    def _keep_totals(self) -> None:
        metrics, self._metrics = self._metrics, None
        if metrics is not None:
            ended = totals(metrics)
            self._of_ended = ended if self._of_ended is None else merged(self._of_ended, [ended])

    async def _watch(self, process: ForkedProcess) -> None:
        """Wait for the end of the process. Raises ProcessEnded if it must be ended."""
        loop = asyncio.get_running_loop()
        while not process.ended.done():
            before = loop.time()
            await asyncio.wait({process.ended}, timeout=WATCH_SECONDS)
            self._heard_at += max(0.0, loop.time() - before - WATCH_SECONDS - 1)  # this process was suspended, and perhaps all
            if self._silent_seconds() > KILL_AFTER_SILENT_SECONDS:
                process.signal(signal.SIGKILL)
                ended = ProcessKilled if self._is_draining else ProcessEnded
                raise ended(f"its process {process.pid} did not report for {KILL_AFTER_SILENT_SECONDS:g} s")
            used = resident_bytes(process.pid)
            if used > self.config.memory_bytes_max:
                process.signal(signal.SIGKILL)
                limit = self.config.memory_bytes_max
                raise ProcessKilled(f"its process {process.pid} used {used:,} bytes of memory; memory_bytes_max is {limit:,}")

    def _explain(self, process: ForkedProcess) -> None:
        """Raise why the process ended."""
        code = process.ended.result()
        if self._invalid is not None:
            raise ConfigurationError(self._invalid)
        if code == 0 and self.lifecycle.state == "stopped":
            raise StoppedByPolicy(self.lifecycle.error or "")
        if process.pid == 0:
            raise ProcessEnded("no process could be forked for it: the system has too few resources")
        ended = ProcessKilled if -code in OUTER_SIGNALS or self._is_draining else ProcessEnded
        raise ended(f"its process {process.pid} ended with {describe_exit(code)}")

    async def _end(self, process: ForkedProcess) -> None:
        """Request the process to drain, and kill it if that takes too long."""
        process.signal(signal.SIGTERM)
        await asyncio.wait({process.ended}, timeout=4 * self._job.drain_seconds + STOP_SECONDS)
        process.signal(signal.SIGKILL)
        await asyncio.wait({process.ended})

    # Reports

    def _silent_seconds(self) -> float:
        return asyncio.get_running_loop().time() - self._heard_at

    def _read(self, descriptor: int, reports: ReportReader) -> None:
        """Read what there is, once; at the end of the reports, close them."""
        try:
            piece = os.read(descriptor, 65536)
        except BlockingIOError:
            return
        if not piece:
            asyncio.get_running_loop().remove_reader(descriptor)
            return
        for message in reports.messages_in(piece):
            self._hear(message)

    def _read_rest(self, descriptor: int, reports: ReportReader) -> None:
        """Read what the process wrote before its end, and close the pipe."""
        asyncio.get_running_loop().remove_reader(descriptor)
        try:
            while piece := os.read(descriptor, 65536):
                for message in reports.messages_in(piece):
                    self._hear(message)
        except BlockingIOError:  # a process that the plugin started still has the pipe
            pass
        finally:
            os.close(descriptor)

    def _hear(self, message: dict[str, object]) -> None:
        self._heard_at = asyncio.get_running_loop().time()
        if isinstance(message.get("invalid"), str):
            self._invalid = str(message["invalid"])
            return
        if message.get("draining") is True:
            self._is_draining = True
            return
        self._metrics = metrics_in(message, self.config.id) or self._metrics
        status = status_in(message)
        if status is not None:
            self._status = status
            self._restarting.is_valid()
            self.lifecycle.mirror(status.state, status.error)


def resident_bytes(pid: int) -> int:
    """The resident memory of a process in bytes; 0 if it has ended."""
    import psutil

    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0

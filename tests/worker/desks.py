"""A desk without a broker: tests pass commands, and its reports are recorded."""

import time
from collections.abc import Callable
from typing import Any

from msgspec import json

from hub import TaskRegistry
from hub.kafka import Outgoing, RecordTooLarge
from hub.worker import WorkerSettings
from hub.worker.desk import Desk
from hub.worker.reports import WorkerIdentity
from schemas import ExecuteAttempt


class KeptReports:
    """Reports that are stored at once, unless they are ends of more than `bytes_max`."""

    def __init__(self, bytes_max: int | None = None) -> None:
        self._bytes_max = bytes_max
        self.kept: list[tuple[str, dict[str, Any]]] = []

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def flush(self, *, timeout_seconds: float) -> bool:
        return True

    async def watch(self) -> None: ...

    async def send(self, outgoing: Outgoing, *, timeout_seconds: float = 0.0) -> None:
        self.kept.append((dict(outgoing.headers)["ce_type"].decode(), json.decode(outgoing.value)))

    async def post(self, outgoing: Outgoing, on_settled: Callable[[], object] = lambda: None) -> None:
        kind = dict(outgoing.headers)["ce_type"]
        if self._bytes_max is not None and kind == b"attempt.completed" and len(outgoing.value) > self._bytes_max:
            raise RecordTooLarge(outgoing.topic, len(outgoing.value), self._bytes_max)
        await self.send(outgoing)
        on_settled()

    @property
    def kinds(self) -> list[str]:
        """The types of the reports, in order."""
        return [kind for kind, _ in self.kept]


class LoneDesk:
    """A desk, what it reports, whom it wants to send heartbeats to, and why it cannot continue. Inside a running loop."""

    def __init__(
        self,
        registry: TaskRegistry,
        *,
        slots: int = 4,
        partitions: int = 1,
        grace_seconds: float = 0.3,
        bytes_max: int | None = None,
        reports: KeptReports | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        settings = WorkerSettings(slots=slots, grace_seconds=grace_seconds)
        self.reports = reports or KeptReports(bytes_max)
        self.beats: list[int] = []
        self.failures: list[BaseException] = []
        self.desk = Desk(
            WorkerIdentity("incarnation", 0, settings),
            registry,
            settings,
            self.reports,
            partitions=partitions,
            beat_soon=self.beats.extend,
            on_failed=self.failures.append,
            clock=clock,
        )

    @property
    def idle(self) -> bool:
        """Whether nothing runs, and nothing waits."""
        stats = self.desk.stats()
        return stats["running"] == stats["waiting"] == 0


def command(name: str = "n", **more: Any) -> ExecuteAttempt:
    """The command to run a task."""
    fields = {"task": "t", "root": "t", "partition": 0, "attempt": 1, "dispatch": 1, "token": "x", "namespace": "n", **more}
    return ExecuteAttempt(name=name, **fields)

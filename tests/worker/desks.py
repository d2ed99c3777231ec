"""A desk or a whole worker without a broker: tests pass commands, and the reports are recorded."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from msgspec import json

from hub import TaskRegistry
from hub.kafka import Outgoing, RecordTooLarge, StoredRecord
from hub.worker import Worker, WorkerSettings
from hub.worker.commands import EVERYBODY
from hub.worker.desk import Desk
from hub.worker.effects import Command
from hub.worker.reports import WorkerIdentity
from schemas import COMMANDS, ExecuteAttempt, header_map


class KeptReports:
    """Reports that are stored at once, unless they are ends of more than `bytes_max`."""

    def __init__(self, bytes_max: int | None = None) -> None:
        self._bytes_max = bytes_max
        self.kept: list[tuple[str, dict[str, Any]]] = []

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def flush(self, *, timeout_seconds: float) -> bool:
        return True

    async def watch(self) -> None:
        await asyncio.Event().wait()

    async def send(self, outgoing: Outgoing, *, timeout_seconds: float = 0.0) -> None:
        self.kept.append((header_map(outgoing.headers)["ce_type"].decode(), json.decode(outgoing.value)))

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

    @property
    def ends(self) -> list[str]:
        """The types of the reports, in order, without starts: they are not reported if a body ends soon."""
        return [kind for kind in self.kinds if kind != "attempt.started"]


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


class LoneWorker:
    """A worker whose transport, on the caller's loop or not (`local`), is this object; `reports` are those of its desk, `beats`
    those of its heartbeats. Inside a running loop, whose time is the worker's."""

    address = "memory"

    def __init__(
        self,
        registry: TaskRegistry,
        *,
        partitions: int = 1,
        local: bool = True,
        reports: KeptReports | None = None,
        beats: KeptReports | None = None,
        **settings: Any,
    ) -> None:
        self.local = local
        self.reports, self.beats = reports or KeptReports(), beats or KeptReports()
        senders = iter((self.reports, self.beats))
        self._partitions = partitions
        self._records: asyncio.Queue[StoredRecord] = asyncio.Queue()
        self.worker = Worker(
            self.address,
            registry,
            WorkerSettings(**settings),
            transport=self,
            make_reports=lambda: next(senders),
            clock=asyncio.get_running_loop().time,
        )

    def write(self, *commands: Command) -> None:
        """Write commands to the inbox."""
        kinds = {struct: kind.encode() for kind, struct in COMMANDS.items()}
        for one in commands:
            headers = [("worker", EVERYBODY), ("ce_type", kinds[type(one)])]
            self._records.put_nowait(StoredRecord(0, 0, None, json.encode(one), headers))

    # The transport, and its only reader

    def sender(self, *, client_id: str, linger_ms: int = 0) -> Any:
        raise AssertionError("the worker has its senders")

    def reader(self, *, client_id: str) -> Any:
        return self

    def read_all(self, topic: str, partition: int) -> AsyncIterator[StoredRecord]:
        raise AssertionError("a worker reads its inbox from the end")

    async def describe_partitions(self) -> int:
        return self._partitions

    async def ensure_pool(self, pool: str) -> None: ...

    async def open(self, topic: str, partition: int, offset: int) -> None: ...

    async def end_offset(self) -> int:
        return 0

    def seek(self, offset: int) -> None: ...

    async def read(self, max_records: int, timeout_ms: int) -> list[StoredRecord]:
        return [await self._records.get()]

    async def close(self) -> None: ...


def command(name: str = "n", **more: Any) -> ExecuteAttempt:
    """The command to run a task."""
    fields = {"task": "t", "root": "t", "partition": 0, "attempt": 1, "dispatch": 1, "token": "x", "namespace": "n", **more}
    return ExecuteAttempt(name=name, **fields)

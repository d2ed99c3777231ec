"""Creates a worker's reports, records for `hub.intake`, and defines the interface that sends them."""

import os
import socket
from collections.abc import Callable, Mapping
from itertools import count
from types import MappingProxyType
from typing import Any, Protocol

from msgspec import Raw, Struct, json

from schemas import REPORTS
from schemas import reports as r

from ..kafka import INTAKE, HeaderTemplate, Outgoing
from .attempts import STARTED_NUMBER, Attempt
from .effects import Standing
from .outcome import Cancelled, Failed, Outcome, Succeeded
from .settings import WorkerSettings

_encoder = json.Encoder()
_KINDS: dict[type[Struct], bytes] = {struct: kind.encode() for kind, struct in REPORTS.items()}
_BASE = (("ce_specversion", b"1.0"), ("content-type", b"application/json"))


class Reports(Protocol):
    """Sends reports; used from one event loop. Implemented by `hub.kafka.Sender`, which documents the errors."""

    async def start(self) -> None:
        """Connect."""

    async def send(self, outgoing: Outgoing, *, timeout_seconds: float = ...) -> None:
        """Returns when the report is stored."""

    async def post(self, outgoing: Outgoing, on_settled: Callable[[], object] = ...) -> None:
        """Returns when the report is queued. `on_settled` is called when it is stored or has failed finally."""

    async def flush(self, *, timeout_seconds: float) -> bool:
        """Wait until all posted reports are stored; False on timeout."""

    async def watch(self) -> None:
        """Raises the error that prevents posted reports from being stored; does not return."""

    async def stop(self) -> None:
        """Disconnect."""


class WorkerIdentity:
    """The fields that all reports of a worker have in common. `process`: its host and process id, by default the present
    ones."""

    def __init__(
        self,
        incarnation: str,
        inbox: int,
        settings: WorkerSettings,
        *,
        process: tuple[str, int] | None = None,
    ) -> None:
        host, pid = process or (socket.gethostname(), os.getpid())
        self.incarnation = incarnation
        fields = {
            "incarnation": incarnation,
            "pool": settings.pool,
            "inbox": inbox,
            "queues": sorted(settings.queues),
            "slots": settings.slots,
            "lease_seconds": settings.lease_seconds,
            "host": host,
            "pid": pid,
        }
        self.fields: Mapping[str, Any] = MappingProxyType(fields)


class ReportBuilder:
    """Creates the reports of one incarnation; use from one thread. Each thread's builder has its own `series`, the prefix of the
    ids (`ce_id`) of its reports."""

    def __init__(self, identity: WorkerIdentity, series: str = "") -> None:
        self._identity = identity
        self._key = identity.incarnation.encode()
        source = f"/worker/{identity.incarnation}".encode()
        common = (*_BASE, ("ce_source", source))
        self._headers = {struct: HeaderTemplate((*common, ("ce_type", kind)), "ce_id") for struct, kind in _KINDS.items()}
        self._series = series.encode()
        self._numbers = count(1)

    def of_worker(self, report: type[r.WorkerReport], partition: int, standing: Standing, **more: Any) -> Outgoing:
        """A report of the worker's own state, for one engine partition."""
        credit, revision, definitions = standing.credit, standing.revision, standing.definitions
        value = report(**self._identity.fields, credit=credit, revision=revision, definitions=definitions, **more)
        return self._outgoing(value, partition, self._key)

    def heartbeat(self, partition: int, standing: Standing) -> Outgoing:
        """The heartbeat for one engine partition; `worker.draining` while the worker drains."""
        if standing.draining:
            return self.of_worker(r.WorkerDraining, partition, standing)
        return self.of_worker(r.WorkerHeartbeat, partition, standing, holding=standing.holding)

    def of_attempt(self, attempt: Attempt, report: type[r.AttemptReport], **fields: Any) -> Outgoing:
        """A report of an attempt, with the attempt's next report number."""
        attempt.number += 1
        return self._of_attempt(attempt, report, attempt.number, fields)

    def ended(self, attempt: Attempt, outcome: Outcome) -> Outgoing:
        """The report of the outcome of a body, with the attempt's next report number."""
        match outcome:
            case Succeeded(result, ran_seconds):
                return self._completed(attempt, Raw(result), ran_seconds)
            case Failed(error, ran_seconds, retry_after, timed_out):
                fields = {"error": error, "ran_seconds": ran_seconds, "retry_after": retry_after, "timed_out": timed_out}
                return self.of_attempt(attempt, r.AttemptFailed, **fields)
            case Cancelled():
                return self.of_attempt(attempt, r.AttemptCancelled)

    def _completed(self, attempt: Attempt, result: Raw, ran_seconds: float) -> Outgoing:
        """As `of_attempt`, for the report that most attempts end with."""
        command = attempt.command
        attempt.number += 1
        value = r.AttemptCompleted(
            task=command.task,
            root=command.root,
            attempt=command.attempt,
            dispatch=command.dispatch,
            token=command.token,
            incarnation=self._identity.incarnation,
            number=attempt.number,
            result=result,
            ran_seconds=ran_seconds,
        )
        return self._outgoing(value, command.partition, command.root.encode())

    def started(self, attempt: Attempt) -> Outgoing:
        """The report that the body of an attempt has begun; its number is always STARTED_NUMBER."""
        return self._of_attempt(attempt, r.AttemptStarted, STARTED_NUMBER, {})

    def _of_attempt(self, attempt: Attempt, report: type[r.AttemptReport], number: int, fields: dict[str, Any]) -> Outgoing:
        command = attempt.command
        value = report(
            task=command.task,
            root=command.root,
            attempt=command.attempt,
            dispatch=command.dispatch,
            token=command.token,
            incarnation=self._identity.incarnation,
            number=number,
            **fields,
        )
        return self._outgoing(value, command.partition, command.root.encode())

    def _outgoing(self, value: Struct, partition: int, key: bytes) -> Outgoing:
        headers = self._headers[type(value)].fill(b"%b%d" % (self._series, next(self._numbers)))
        return Outgoing(INTAKE, partition, key, _encoder.encode(value), headers)

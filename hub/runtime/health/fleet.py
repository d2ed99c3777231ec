"""The health pages of a supervisor: those of all its processes, read at each request, as one.

The processes are asked at the same time, and each has a limited time to respond: one that hangs is a result and not a wait.
"""

import asyncio
import json
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple

from .fetch import TIMEOUT_SECONDS, PageUnavailable, fetch
from .http import Request, Response
from .pages import METRICS, STATUS, json_response, live, metrics_response, not_found, readiness
from .state import Health

if TYPE_CHECKING:
    from ...metrics import MetricsSnapshot

RESPONSE = "response"
"""The check that fails if a process does not respond."""


class FleetMember(NamedTuple):
    """One process. `name` is unique; `address`: of its health pages; `pid`: None if no process runs."""

    name: str
    role: str
    pid: int | None
    serving: bool
    address: str | None


async def ask_all(members: Sequence[FleetMember], timeout_seconds: float = TIMEOUT_SECONDS) -> dict[str, dict[str, Any]]:
    """The status page of each process by name, after `timeout_seconds` at the latest. If one does not respond, its status has
    "role", "pid", "ready" and "failed" only, and the check RESPONSE has failed."""
    async with asyncio.TaskGroup() as group:
        asked = {one.name: group.create_task(_ask(one, timeout_seconds)) for one in members}
    return {name: task.result() for name, task in asked.items()}


async def _ask(member: FleetMember, timeout_seconds: float) -> dict[str, Any]:
    try:
        return _status_of(member, await _page(member, STATUS, timeout_seconds))
    except PageUnavailable as error:
        return {"role": member.role, "pid": member.pid, "ready": False, "failed": {RESPONSE: str(error)}}


def _status_of(member: FleetMember, page: bytes) -> dict[str, Any]:
    """Decode the status page of a process. Raises PageUnavailable if it is not one, or that of another process."""
    try:
        said: dict[str, Any] = json.loads(page)
        pid, failed = said["pid"], {str(check): str(detail) for check, detail in said["failed"].items()}
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise PageUnavailable(f"invalid response: {error!r}") from error
    if pid != member.pid:  # the port of a process that has ended may have a new owner
        raise PageUnavailable(f"process {pid} responds at its address, not {member.pid}")
    return said | {"ready": not failed, "failed": failed}


async def _page(member: FleetMember, path: str, timeout_seconds: float) -> bytes:
    """Raises PageUnavailable."""
    if not member.serving:
        raise PageUnavailable("it has ended or is starting")
    if member.address is None:
        raise PageUnavailable("it serves no health pages")
    page = await fetch(member.address, path, timeout_seconds=timeout_seconds)
    if page.status != HTTPStatus.OK:
        raise PageUnavailable(f"{path} has the status {page.status}")
    return page.body


class FleetPages:
    """The pages of a supervisor. `health`: its own state; `members`: its processes now; `collect`: its own metrics."""

    def __init__(
        self,
        health: Health,
        members: Callable[[], Sequence[FleetMember]],
        collect: "Callable[[], MetricsSnapshot]",
        *,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        self._health = health
        self._members = members
        self._collect = collect
        self._timeout_seconds = timeout_seconds

    async def answer(self, request: Request) -> Response:
        """See Pages."""
        match request.path:
            case "/livez":
                return live()
            case "/readyz":
                return readiness(self._failed(await ask_all(self._members(), self._timeout_seconds)))
            case "/status":
                return json_response(self._status(await ask_all(self._members(), self._timeout_seconds)))
            case "/metrics":
                return metrics_response(await self.snapshots(), request)
        return not_found()

    def _failed(self, asked: dict[str, dict[str, Any]]) -> dict[str, str]:
        """The failed checks of all processes, as `<process>/<check>`."""
        failed = {f"{name}/{check}": detail for name, status in asked.items() for check, detail in status["failed"].items()}
        return self._health.failed() | failed

    def _status(self, asked: dict[str, dict[str, Any]]) -> dict[str, Any]:
        failed = self._failed(asked)
        return self._health.status() | {"ready": not failed, "failed": failed, "processes": asked}

    async def snapshots(self) -> "list[MetricsSnapshot]":
        """The metrics of the supervisor and of every process that responds, each with the label `process`."""
        members = self._members()
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._snapshot(one)) for one in members]
        found = [task.result() for task in tasks]
        return [_labelled(self._collect(), self._health.role), *found]

    async def _snapshot(self, member: FleetMember) -> "MetricsSnapshot":
        """The metrics of a process; of one that does not respond only that it is not up."""
        from ...metrics import Registry, decode_snapshot

        try:
            snapshot = decode_snapshot(await _page(member, METRICS, self._timeout_seconds))
        except (PageUnavailable, ValueError):
            registry = Registry({"role": member.role})
            registry.gauge("hub.process.up").set(0)
            snapshot = registry.collect()
        return _labelled(snapshot, member.name)


def _labelled(snapshot: "MetricsSnapshot", process: str) -> "MetricsSnapshot":
    from msgspec import structs

    return structs.replace(snapshot, constant=snapshot.constant | {"process": process})

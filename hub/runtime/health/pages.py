"""The health pages of one process: which paths there are, and what they respond.

| Path | Response |
|---|---|
| `/livez` | 200: the event loop runs |
| `/readyz` | 200, or 503 with the failed checks |
| `/status` | role, process id, version, uptime, facts, checks |
| `/metrics` | the metrics of the process: text for Prometheus, or a snapshot as JSON if the client accepts that |
"""

import json
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol

from .http import JSON_TYPE, Request, Response
from .state import Health

if TYPE_CHECKING:
    from ...metrics import MetricsSnapshot

LIVEZ, READYZ, STATUS, METRICS = "/livez", "/readyz", "/status", "/metrics"


class Pages(Protocol):
    """What a health server serves."""

    async def answer(self, request: Request) -> Response:
        """The response to a request; must not wait for long."""


class ProcessPages:
    """The pages of a process that knows its own state only. `collect` returns its metrics."""

    def __init__(self, health: Health, collect: "Callable[[], MetricsSnapshot]") -> None:
        self._health = health
        self._collect = collect

    async def answer(self, request: Request) -> Response:
        """See Pages."""
        match request.path:
            case "/livez":
                return live()
            case "/readyz":
                return readiness(self._health.failed())
            case "/status":
                return json_response(self._health.status())
            case "/metrics":
                return self._metrics(request)
        return not_found()

    def _metrics(self, request: Request) -> Response:
        snapshot = self._collect()
        if not request.wants_json:
            return metrics_response([snapshot], request)
        from ...metrics import encode_snapshot

        return Response(HTTPStatus.OK, JSON_TYPE, encode_snapshot(snapshot))


def live() -> Response:
    """200: the loop that answers runs."""
    return Response(HTTPStatus.OK, body=b"ok\n")


def readiness(failed: Mapping[str, str]) -> Response:
    """{"ready", "failed"}: the names of failed checks with details. 503 if there are any."""
    status = HTTPStatus.SERVICE_UNAVAILABLE if failed else HTTPStatus.OK
    return json_response({"ready": not failed, "failed": dict(failed)}, status)


def json_response(content: Any, status: HTTPStatus = HTTPStatus.OK) -> Response:
    """`content` as JSON, indented for readers."""
    return Response(status, JSON_TYPE, (json.dumps(content, indent=2) + "\n").encode())


def metrics_response(snapshots: "Sequence[MetricsSnapshot]", request: Request) -> Response:
    """The metrics of one or several processes, in the text format that the client accepts."""
    from ...metrics.prometheus import exposition  # only once a page is requested

    text, content_type = exposition(snapshots, request.accept)
    return Response(HTTPStatus.OK, content_type, text.encode())


def not_found() -> Response:
    """404, with the paths that exist."""
    return Response(HTTPStatus.NOT_FOUND, body=f"The pages are {LIVEZ}, {READYZ}, {STATUS} and {METRICS}.\n".encode())

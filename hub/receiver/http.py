"""The HTTP side of the receiver: which requests are accepted, their limits, and the responses.

| Status | Meaning; Alertmanager repeats a notification after 5xx only |
|---|---|
| 200 | all submissions are on the log |
| 400 | the body is not a notification, or one of its alerts cannot create a task (the others have created theirs) |
| 401, 403 | the token is missing or wrong; the request was sent by a web page |
| 404, 405, 408, 413, 415 | another path or method; the body arrives too slowly, is too large, is not JSON |
| 503 | the hub did not store the submissions in time, or there are too many connections |
"""

import asyncio
import hmac
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, NamedTuple

from aiohttp import ClientError, web
from aiohttp.http_exceptions import HttpProcessingError
from msgspec import json
from pydantic import SecretStr

from ..logs import Logger
from .intake import AlertsNotStored, AlertSummary
from .notification import InvalidNotification, Notification, decode_notification

log = Logger(__name__)

PATH = "/alerts"
BODY_BYTES_MAX = 1 << 20
RETRY_AFTER_SECONDS = 5
JSON_TYPE = "application/json"

Accept = Callable[[Notification], Awaitable[AlertSummary]]


class RequestLimits(NamedTuple):
    """`body_max_bytes`: most bytes of a body. `read_seconds`: how long a client may take to send the head of a request, and as
    long again for the body."""

    body_max_bytes: int = BODY_BYTES_MAX
    read_seconds: float = 10.0


DEFAULT_LIMITS = RequestLimits()


class RefusedAlerts(Exception):
    """A request that gets an error as its response."""

    def __init__(self, status: HTTPStatus, why: str, **headers: str) -> None:
        super().__init__(why)
        self.status = status
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


class WebhookHandler:
    """Handles requests: checks them, and passes their notifications to `accept`. `token`: what a request must be authorized
    with, or None."""

    def __init__(self, accept: Accept, token: SecretStr | None, limits: RequestLimits) -> None:
        self._accept = accept
        self._token = None if token is None else token.get_secret_value().encode()
        self._limits = limits

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """The response to a request. Each connection has one request."""
        try:
            status, content, headers = await self._handle(request)
        except RefusedAlerts as refused:
            log.warning("a request was refused", action="alerts_refused", status=refused.status.value, reason=str(refused))
            status, content, headers = refused.status, {"error": str(refused)}, refused.headers
        except Exception as error:
            log.error("a request failed", action="alerts_failed", exc_info=error)
            status, headers = HTTPStatus.INTERNAL_SERVER_ERROR, {}
            content = {"error": "the request failed; the log of this service has the reason"}
        about = {"Server": "taskhub", "Cache-Control": "no-store", **headers}
        response = web.Response(status=status, body=json.encode(content) + b"\n", content_type=JSON_TYPE, headers=about)
        response.force_close()
        return response

    async def _handle(self, request: web.BaseRequest) -> tuple[HTTPStatus, dict[str, Any], dict[str, str]]:
        """Steps: 1. the head is checked, 2. the body is read and decoded, 3. the alerts are put on the log."""
        self._check_head(request)
        try:
            notification = decode_notification(await self._body(request))
        except InvalidNotification as error:
            raise RefusedAlerts(HTTPStatus.BAD_REQUEST, str(error)) from None
        try:
            counts, problems = await self._accept(notification)
        except AlertsNotStored as error:
            raise RefusedAlerts(HTTPStatus.SERVICE_UNAVAILABLE, str(error), Retry_After=str(RETRY_AFTER_SECONDS)) from None
        if problems:
            return HTTPStatus.BAD_REQUEST, {"error": "; ".join(problems), "alerts": counts}, {}
        return HTTPStatus.OK, {"alerts": counts}, {}

    def _check_head(self, request: web.BaseRequest) -> None:
        if request.path != PATH:
            raise RefusedAlerts(HTTPStatus.NOT_FOUND, f"notifications are sent to {PATH}")
        if request.method != "POST":
            raise RefusedAlerts(HTTPStatus.METHOD_NOT_ALLOWED, "notifications are sent with POST", Allow="POST")
        if self._token is None and "Origin" in request.headers:
            raise RefusedAlerts(HTTPStatus.FORBIDDEN, "requests of web pages are not accepted")
        if self._token is not None and not self._is_authorized(request.headers.getall("Authorization", [])):
            why = "the header Authorization must be: Bearer, and the token of this service"
            raise RefusedAlerts(HTTPStatus.UNAUTHORIZED, why, WWW_Authenticate="Bearer")
        if request.content_type != JSON_TYPE or request.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise RefusedAlerts(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"the body must be {JSON_TYPE}, not compressed")

    def _is_authorized(self, given: list[str]) -> bool:
        """Whether there is one header with the token. The comparison takes the same time for every token of the same length."""
        scheme, _, token = (given[0] if len(given) == 1 else "").partition(" ")
        is_equal = hmac.compare_digest(token.strip().encode("utf-8", "surrogateescape"), self._token or b"")
        return scheme.lower() == "bearer" and is_equal

    async def _body(self, request: web.BaseRequest) -> bytes:
        """The body. Raises RefusedAlerts (400, 408, 413)."""
        too_large = RefusedAlerts(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body must have at most {self._limits.body_max_bytes} bytes"
        )
        if (request.content_length or 0) > self._limits.body_max_bytes:
            raise too_large
        body = bytearray()
        try:
            async with asyncio.timeout(self._limits.read_seconds):
                async for part in request.content.iter_any():
                    body += part
                    if len(body) > self._limits.body_max_bytes:
                        raise too_large
        except TimeoutError:
            why = f"the body is not complete after {self._limits.read_seconds:g} s"
            raise RefusedAlerts(HTTPStatus.REQUEST_TIMEOUT, why) from None
        except (ClientError, HttpProcessingError, OSError):
            raise RefusedAlerts(HTTPStatus.BAD_REQUEST, "the body is not complete, or not encoded correctly") from None
        return bytes(body)

"""Notifications as Alertmanager sends them, a receiver on a free port, and requests to it."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from pydantic import SecretStr

from hub.receiver import ListenAddress
from hub.receiver.http import Accept, RequestLimits
from hub.receiver.service import AlertReceiver
from tests.health.clients import exchange

STARTED = "2026-01-01T09:30:00.250000Z"
TOKEN = "a-token-of-the-receiver"


def alert(name: str = "DiskFull", **changed: Any) -> dict[str, Any]:
    """A firing alert; `labels` are added to its own."""
    labels = {"alertname": name, "severity": "critical", **changed.pop("labels", {})}
    return {
        "status": "firing",
        "labels": labels,
        "annotations": {"summary": "the disk is full"},
        "startsAt": "2026-01-01T10:30:00.25+01:00",
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://prometheus:9090/graph?g0.expr=up",
        "fingerprint": "c64a1bd4f5a1c6a5",
        **changed,
    }


def notification(*alerts: dict[str, Any], **changed: Any) -> dict[str, Any]:
    """A notification of these alerts."""
    return {
        "version": "4",
        "groupKey": '{}:{alertname="DiskFull"}',
        "truncatedAlerts": 0,
        "status": "firing",
        "receiver": "taskhub",
        "groupLabels": {"alertname": "DiskFull"},
        "commonLabels": {"alertname": "DiskFull"},
        "commonAnnotations": {},
        "externalURL": "http://alertmanager:9093",
        "notification_reason": "first",
        "alerts": list(alerts),
        **changed,
    }


class Answer(NamedTuple):
    """A response. `headers`: names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


def request(body: bytes, *headers: str, line: str = "POST /alerts", type_: str = "application/json") -> bytes:
    """A request with a body, and its length."""
    fields = ("Host: hub", f"Content-Type: {type_}", f"Content-Length: {len(body)}", *headers)
    return "\r\n".join([f"{line} HTTP/1.1", *fields, "", ""]).encode() + body


async def send(address: str, data: bytes) -> Answer:
    """Send any bytes; the response."""
    head, _, body = (await exchange(address, data)).partition(b"\r\n\r\n")
    line, *fields = head.decode().split("\r\n")
    pairs = (field.partition(": ") for field in fields)
    return Answer(int(line.split(" ")[1]), {name.lower(): value for name, _, value in pairs}, body)


async def notify(address: str, *alerts: dict[str, Any], **changed: Any) -> Answer:
    """Send a notification of these alerts."""
    return await send(address, request(json.dumps(notification(*alerts, **changed)).encode()))


@asynccontextmanager
async def receiving(
    accept: Accept,
    token: str | None = None,
    limits: RequestLimits = RequestLimits(read_seconds=5.0),  # noqa: B008
) -> AsyncIterator[str]:
    """A receiver on a free port; gives host:port."""
    receiver = AlertReceiver(accept, ListenAddress("127.0.0.1", 0), None if token is None else SecretStr(token), limits)
    try:
        await receiver.start()
        yield str(receiver.address)
    finally:
        await receiver.stop()

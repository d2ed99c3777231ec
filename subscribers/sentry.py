"""Sentry: an error per failure. Each failure is sent, because Sentry counts and groups: by type, namespace, task and error.

    [[subscribers]]
    use = "sentry"
    settings = { dsn = "https://key@o1.ingest.sentry.io/2", environment = "production" }

Format: an envelope with one event to /api/<project>/envelope/. `event_id` is derived from source and id of the hub's event, so
that a repeated delivery is the same event of Sentry. Limits: 1 MB, and 200 kB compressed (kept without compression); 200
characters of a tag, 8,192 of a message. `X-Sentry-Rate-Limits` is observed, also in answers with status 200.

Source: develop.sentry.dev, "Envelopes", "Event Payloads", "Rate Limiting".
"""

import asyncio
import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple
from urllib.parse import urlsplit

from pydantic import AfterValidator, SecretStr

from schemas import Event
from schemas.ids import derived_id

from .api import Meta, Subscriber, SubscriberContext, Unavailable, on
from .notices import (
    ALERT_DELIVERY,
    FreeText,
    Notice,
    NoticeSettings,
    Notifications,
    cut_characters,
    fit_json,
    notice_of,
    sink_of,
)
from .sinks import Destination, SecretProxyUrl

EVENT_BYTES_MAX, MESSAGE_MAX, TAG_MAX = 200_000, 8192, 200
_LEVELS = {"critical": "fatal", "error": "error", "warning": "warning", "info": "info"}
_STACKTRACE_MAX = 16_384
_GROUP_OF_LIMITS = re.compile(r"\s*(\d{1,9}(?:\.\d+)?):([^:,]*)(?::[^,]*)?\s*")


class Dsn(NamedTuple):
    """The parts of a DSN: the URL of the envelope endpoint, and the public key."""

    url: str
    key: str

    @classmethod
    def parse(cls, text: str) -> "Dsn":
        """Read `https://<key>@<host>[/<path>]/<project>`. Raises ValueError, which does not repeat the text."""
        parts = urlsplit(text)
        path, _, project = parts.path.rpartition("/")
        key = parts.username or ""
        if not (key.isascii() and key.isalnum()) or not project.isalnum() or parts.query or parts.fragment:
            raise ValueError("must have the form https://<key>@<host>/<project>")
        url = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{path}/api/{project}/envelope/"
        Destination.parse(url)
        return cls(url, key)


def _is_dsn(dsn: SecretStr) -> SecretStr:
    Dsn.parse(dsn.get_secret_value())
    return dsn


class SentrySettings(NoticeSettings):
    """`dsn`: of the project. `environment`, `release`: attributes of each event; empty: none. `proxy`: the URL of
    an HTTP proxy."""

    dsn: Annotated[SecretStr, AfterValidator(_is_dsn)]
    environment: str = ""
    release: str = ""
    proxy: SecretProxyUrl | None = None


class Sentry(Subscriber[SentrySettings]):
    """Sends errors to a project of Sentry."""

    name = "sentry"
    delivery = ALERT_DELIVERY

    @classmethod
    def event_types(cls, settings: SentrySettings) -> tuple[str, ...]:
        """The types in the settings."""
        return settings.types

    async def open(self, ctx: SubscriberContext) -> None:
        """Connections are opened when they are needed."""
        self.http = sink_of(self.settings.proxy)
        self._itself = f"subscriber/{ctx.id}"
        self._notifications = Notifications(ctx.metrics, self.name)
        self._not_before = 0.0

    @on("*")
    async def receive(self, event: Event, meta: Meta) -> None:
        """Send the event, unless it is the end of an alert, or about this subscriber itself."""
        notice = notice_of(event, self.settings.templates)
        if notice.status == "resolved" or event.entity == self._itself:
            return
        with self._notifications.counting([notice]):
            await self._send(notice)

    async def _send(self, notice: Notice) -> None:
        now = asyncio.get_running_loop().time
        if (wait := self._not_before - now()) > 0:
            raise Unavailable("Sentry limits the rate of errors", retry_after=wait)
        dsn = Dsn.parse(self.settings.dsn.get_secret_value())
        headers = {
            "content-type": "application/x-sentry-envelope",
            "x-sentry-auth": f"Sentry sentry_version=7, sentry_client=taskhub/1, sentry_key={dsn.key}",
        }
        answer = await self.http.post(dsn.url, envelope_of(sentry_event(notice, self.settings)), headers)
        self._not_before = now() + limited_seconds(answer.headers)

    async def close(self) -> None:
        """Close the connections."""
        await self.http.aclose()


def sentry_event(notice: Notice, settings: SentrySettings) -> dict[str, Any]:
    """The payload of an event."""
    error, labels = notice.error, notice.labels
    event: dict[str, Any] = {
        "event_id": derived_id("sentry", notice.event.source, notice.event.id).replace("-", ""),
        "timestamp": notice.started_at,
        "platform": "other",
        "logger": "taskhub",
        "level": _LEVELS[notice.severity],
        "transaction": cut_characters(labels.get("task", notice.event_type), TAG_MAX),
        "fingerprint": [notice.event_type, *(labels[name] for name in sorted(labels) if name != "queue")],
        "tags": {name: cut_characters(value, TAG_MAX) for name, value in {"event": notice.event_type, **labels}.items()},
        "contexts": {"hub": {**notice.details, **{f"{link.text.lower()}_url": link.href for link in notice.links}}},
    }
    if error is not None:
        value = FreeText(cut_characters(error.message, MESSAGE_MAX))
        event["exception"] = {"values": [{"type": cut_characters(error.type, TAG_MAX), "value": value}]}
        if error.stacktrace:
            event["extra"] = {"stacktrace": FreeText(cut_characters(error.stacktrace, _STACKTRACE_MAX))}
    else:
        event["logentry"] = {"formatted": FreeText(cut_characters(f"{notice.title} {notice.text}".strip(), MESSAGE_MAX))}
    if notice.trace is not None:
        event["contexts"]["trace"] = {"trace_id": notice.trace.trace, "span_id": notice.trace.span}
    return event | {name: value for name in ("environment", "release") if (value := getattr(settings, name))}


def envelope_of(event: Mapping[str, Any]) -> bytes:
    """An envelope with one event: a line of headers, a line of headers of the item, a line with the event."""
    content = fit_json(event, EVENT_BYTES_MAX)
    item = {"type": "event", "content_type": "application/json", "length": len(content)}
    return b"\n".join((json.dumps({"event_id": event["event_id"]}).encode(), json.dumps(item).encode(), content)) + b"\n"


def limited_seconds(headers: Mapping[str, str]) -> float:
    """The time for which an answer forbids further errors, in seconds: the longest limit of all categories or of errors."""
    longest = 0.0
    for group in headers.get("x-sentry-rate-limits", "").split(","):
        match = _GROUP_OF_LIMITS.fullmatch(group)
        if match and (not match[2] or {"error", "default"} & set(match[2].split(";"))):
            longest = max(longest, float(match[1]))
    return longest

"""Datadog: an event per alert to the API, and counts of events to an agent (DogStatsD).

    [[subscribers]]
    use = "datadog"
    settings = { api_key = "...", site = "datadoghq.eu", statsd = "127.0.0.1:8125" }

Limits of an event: title 100 characters, text 4,000, aggregation key 100, tag 200. The aggregation key groups an alert and its
resolution. A count is a datagram `taskhub.events:1|c|#event:task.failed,...`, at most 1,432 bytes, for each event of `types`,
also if no notice is sent; it is lost if no agent listens, and not repeated at a redelivery.

Source: docs.datadoghq.com, "Events API v1", "DogStatsD datagram format".
"""

import asyncio
import re
from datetime import datetime
from hashlib import blake2b
from typing import Annotated, Any

from pydantic import AfterValidator, SecretStr

from schemas import Event

from .api import Meta, SubscriberContext, on, type_matches
from .notices import (
    JSON_CONTENT,
    AlertRequest,
    FreeText,
    HttpAlertSettings,
    HttpTarget,
    Notice,
    cut_bytes,
    cut_characters,
    fit_json,
    labels_of,
)
from .sinks import Destination, SecretUrl

TITLE_MAX, TEXT_MAX, KEY_MAX, TAG_MAX, DATAGRAM_BYTES_MAX = 100, 4000, 100, 200, 1432
EVENT_BYTES_MAX = 100_000
_ALERT_TYPES = {"critical": "error", "error": "error", "warning": "warning", "info": "info"}
_NOT_IN_TAGS = re.compile(r"[\s,|#\x00-\x1f]")
_SITE = re.compile(r"[a-z0-9]+(?:[.-][a-z0-9]+)*\.[a-z]+")


def _is_site(site: str) -> str:
    if _SITE.fullmatch(site) is None:
        raise ValueError('must be the site of the account, for example "datadoghq.com" or "us5.datadoghq.com"')
    return site


def _is_address(address: str) -> str:
    if address:
        host_and_port(address)
    return address


def host_and_port(address: str) -> tuple[str, int]:
    """Host and port of "host:port". Raises ValueError."""
    _, _, port = address.rpartition(":")
    if not port.isdigit():
        raise ValueError('must have the form "host:port"')
    found = Destination.parse(f"http://{address}")
    return found.host, found.port


class DatadogSettings(HttpAlertSettings):
    """`api_key`: of the account. `site`: of the account. `url` replaces the address of the API. `tags` ("name:value") are added
    to events and counts. `statsd`: "host:port" of an agent; empty: no counts."""

    api_key: SecretStr
    site: Annotated[str, AfterValidator(_is_site)] = "datadoghq.com"
    url: SecretUrl | None = None
    tags: tuple[str, ...] = ()
    statsd: Annotated[str, AfterValidator(_is_address)] = ""


class Datadog(HttpTarget[DatadogSettings]):
    """Sends alerts as events, and counts events."""

    name = "datadog"

    async def open(self, ctx: SubscriberContext) -> None:
        """As all targets; and open the socket for counts."""
        await super().open(ctx)
        self._agent: asyncio.DatagramTransport | None = None
        if self.settings.statsd:
            address = host_and_port(self.settings.statsd)
            loop = asyncio.get_running_loop()
            self._agent, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, remote_addr=address)

    @on("*")
    async def receive(self, event: Event, meta: Meta) -> None:
        """Count the event, and send the notices that are due because of it."""
        told = any(type_matches(pattern, event.type) for pattern in self.settings.types)
        if self._agent is not None and told and meta.attempt == 1:
            self._agent.sendto(datadog_count(event, self.settings.tags))
        await super().receive(event, meta)

    def request(self, notice: Notice) -> AlertRequest:
        """The event of a notice."""
        settings = self.settings
        address = f"https://api.{settings.site}/api/v1/events" if settings.url is None else settings.url.get_secret_value()
        headers = {**JSON_CONTENT, "dd-api-key": settings.api_key.get_secret_value()}
        return AlertRequest(address, datadog_event(notice, settings.tags), headers)

    async def close(self) -> None:
        """Close the connections and the socket."""
        if self._agent is not None:
            self._agent.close()
        await super().close()


def datadog_event(notice: Notice, tags: tuple[str, ...] = ()) -> bytes:
    """The body of a request to /api/v1/events."""
    resolved = notice.status == "resolved"
    facts = [f"{name}: {value}" for name, value in notice.details.items()]
    links = [f"{link.text}: {link.href}" for link in notice.links]
    end = "\n".join((*links, *facts))
    text = cut_characters(notice.text, max(TEXT_MAX - len(end) - 1, TEXT_MAX // 2))
    event: dict[str, Any] = {
        "title": cut_characters(f"Resolved: {notice.title}" if resolved else notice.title, TITLE_MAX),
        "text": FreeText(cut_characters(f"{text}\n{end}", TEXT_MAX)),
        "date_happened": int(datetime.fromisoformat(notice.ended_at or notice.started_at).timestamp()),
        "alert_type": "success" if resolved else _ALERT_TYPES[notice.severity],
        "priority": "low" if notice.severity == "info" else "normal",
        "aggregation_key": _aggregation_key(notice.key),
        "source_type_name": "taskhub",
        "tags": [*tags, *_tags(notice.event_type, notice.labels)],
    }
    return fit_json(event, EVENT_BYTES_MAX)


def datadog_count(event: Event, tags: tuple[str, ...] = ()) -> bytes:
    """The datagram that counts an event; tags that do not fit are omitted."""
    datagram = "taskhub.events:1|c|#"
    for tag in (*_tags(event.type, labels_of(event)), *tags):
        if len(f"{datagram},{tag}".encode()) <= DATAGRAM_BYTES_MAX:
            datagram += tag if datagram.endswith("#") else f",{tag}"
    return datagram.encode()


def _tags(event_type: str, labels: dict[str, str]) -> list[str]:
    return [
        cut_characters(f"{name}:{_NOT_IN_TAGS.sub('_', value)}", TAG_MAX)
        for name, value in (("event", event_type), *labels.items())
    ]


def _aggregation_key(key: str) -> str:
    if len(key) <= KEY_MAX:
        return key
    digest = blake2b(key.encode(), digest_size=8).hexdigest()
    return f"{cut_bytes(key, KEY_MAX - len(digest) - 1)[:-1]}~{digest}"

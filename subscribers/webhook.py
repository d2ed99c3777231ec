"""The webhook subscriber: posts each event to a URL, as a structured CloudEvent with a signature of Standard Webhooks.

    POST /hooks HTTP/1.1
    content-type: application/cloudevents+json
    webhook-id: evt_8f14e45fceea167a5a36dedd4bea2543c97d0ab5    the same at each delivery of the event
    webhook-timestamp: 1767225600                               of this request, in seconds of Unix time
    webhook-signature: v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=

The receiver verifies the signature with a library of Standard Webhooks, rejects old timestamps, and detects repeated deliveries
by `webhook-id`. An event larger than `body_max_bytes` is sent without `data`, and with `dataref` instead (CloudEvents, extension
"dataref"): its source and id, by which the receiver finds it in the log.

Answers: 2xx accepts the event; 410 says that the endpoint does not exist any more: no further requests are sent until the
subscriber is started again, and every event is handled as undeliverable. For other answers see `sinks/outcome.py`.

Sources: Standard Webhooks 1.0.0 (standardwebhooks.com), CloudEvents 1.0.2 and its HTTP protocol binding, section 3.2.
"""

import base64
import binascii
import hashlib
import hmac
import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated
from urllib.parse import quote

from msgspec import json
from pydantic import AfterValidator, Field, SecretStr, ValidationInfo, field_validator

from schemas import Event, MalformedEvent

from .api import (
    Delivery,
    Duration,
    EventTypes,
    Redelivery,
    Subscriber,
    SubscriberContext,
    SubscriberSettings,
    Undeliverable,
    on,
    parse_duration,
)
from .notices import Notifications, notice_of
from .sinks import AddressGuard, AddressRanges, Destination, HttpHeaders, HttpSink, SecretProxyUrl, SecretUrl

_SECRET_PREFIX = "whsec_"
_SECRET_BYTES = range(24, 65)
_SECRETS_MAX = 8
_TIMEOUT_MAX_SECONDS = 50.0
_CONNECTIONS_MAX = 1024  # the delivery's `concurrency`, which the configuration may change, is the limit
_GONE = 410


def signing_key(secret: str) -> bytes:
    """The key in a secret of Standard Webhooks: `whsec_` and 24 to 64 bytes in base64. Raises ValueError, which does not repeat
    the secret."""
    try:
        text = secret.removeprefix(_SECRET_PREFIX)
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not secret.startswith(_SECRET_PREFIX) or len(key) not in _SECRET_BYTES:
        raise ValueError("must be whsec_ and 24 to 64 random bytes in base64, such as the output of `openssl rand -base64 32`")
    return key


def _is_secret(secret: SecretStr) -> SecretStr:
    signing_key(secret.get_secret_value())
    return secret


def _are_few(secrets: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
    if not 1 <= len(secrets) <= _SECRETS_MAX:
        raise ValueError(f"must have at least 1 item, and at most {_SECRETS_MAX}")
    return secrets


class WebhookSettings(SubscriberSettings):
    """`secrets`: one, or during a rotation the new and the old one. `allow`: ranges of addresses that are not public and yet
    permitted; http instead of https is permitted for them only. `timeout`: of one request, at most 50 s. `body_max_bytes`: larger
    events are sent without their data. `proxy`: an HTTP proxy, which is asked for the checked address."""

    allow: AddressRanges = ()
    url: SecretUrl
    secrets: Annotated[tuple[Annotated[SecretStr, AfterValidator(_is_secret)], ...], AfterValidator(_are_few)]
    types: EventTypes = ("*",)
    headers: HttpHeaders = Field(default_factory=dict)
    timeout: Duration = "15s"
    body_max_bytes: int = Field(default=20 * 1024, ge=1024, le=16 * 1024 * 1024)
    proxy: SecretProxyUrl | None = None

    @field_validator("url")
    @classmethod
    def _url_may_be_called(cls, url: SecretStr, info: ValidationInfo) -> SecretStr:
        destination = Destination.parse(url.get_secret_value())
        allow = info.data.get("allow", ())
        tls = destination.scheme == "https"
        if not tls and not allow:
            raise ValueError("must begin with https; http is permitted for addresses in `allow` only")
        refusal = AddressGuard(allow, require_tls=True).refusal_of_literal(destination.host, tls=tls)
        if refusal is not None:
            raise ValueError(f"is refused: {refusal}; such a range must be in `allow`")
        return url

    @field_validator("headers")
    @classmethod
    def _headers_are_not_signed_ones(cls, headers: dict[str, SecretStr]) -> dict[str, SecretStr]:
        for name in headers:
            if name.lower().startswith("webhook-"):
                raise ValueError(f"the header {name} is set by the subscriber")
        return headers

    @field_validator("timeout")
    @classmethod
    def _timeout_is_below_the_handler(cls, timeout: float) -> float:
        if not 0 < timeout <= _TIMEOUT_MAX_SECONDS:
            raise ValueError(f"must be above 0 and at most {_TIMEOUT_MAX_SECONDS:g} s")
        return timeout


class Webhook(Subscriber[WebhookSettings]):
    """Posts all events whose type matches `types`."""

    name = "webhook"
    delivery = Delivery(order="task", concurrency=8, retry=Redelivery(initial=1, max="5m", timeout="1h"), timeout="60s")

    @classmethod
    def event_types(cls, settings: WebhookSettings) -> tuple[str, ...]:
        """The types in the settings."""
        return settings.types

    async def open(self, ctx: SubscriberContext) -> None:
        """Prepare the client; nothing is sent."""
        settings = self.settings
        self._log: logging.Logger = ctx.logger
        self._gone = False
        self._notifications = Notifications(ctx.metrics, self.name)
        self._url = settings.url.get_secret_value()
        self._keys = [signing_key(one.get_secret_value()) for one in settings.secrets]
        self._headers = {name: value.get_secret_value() for name, value in settings.headers.items()}
        self._sink = HttpSink(
            timeout_seconds=parse_duration(settings.timeout),
            guard=AddressGuard(settings.allow, require_tls=True),
            proxy=None if settings.proxy is None else settings.proxy.get_secret_value(),
            connections_max=_CONNECTIONS_MAX,
        )

    @on("*")
    async def post(self, event: Event) -> None:
        """Post one event; alerts are counted as notifications."""
        alerts = [notice_of(event)] if event.type.startswith("alert.") else []
        with self._notifications.counting(alerts):
            await self._post(event)

    async def _post(self, event: Event) -> None:
        if self._gone:
            raise Undeliverable("the endpoint answered 410 Gone to an earlier event")
        content = body_of(event, self.settings.body_max_bytes)
        signed = signature_headers(message_id(event), content, self._keys, datetime.now(UTC))
        headers = {**self._headers, "content-type": "application/cloudevents+json", **signed}
        answer = await self._sink.post(self._url, content, headers, status_is_answer=frozenset({_GONE}))
        if answer.status == _GONE:
            self._stop_requests()

    def _stop_requests(self) -> None:
        if not self._gone:
            self._gone = True
            self._log.error(
                "the endpoint answered 410 Gone: no events are sent to it until the subscriber is started again; "
                "remove the subscriber, or correct its `url`",
                extra={"action": "webhook_gone"},
            )
        raise Undeliverable("the endpoint answered 410 Gone")

    async def close(self) -> None:
        """Close the connections."""
        await self._sink.aclose()


def message_id(event: Event) -> str:
    """The `webhook-id` of an event: derived from its source and id, which are unique together, and without "."; the same at each
    delivery."""
    identity = f"{event.source}\n{event.id}".encode()
    return "evt_" + hashlib.sha256(identity).hexdigest()[:40]


def body_of(event: Event, body_max_bytes: int) -> bytes:
    """The event as a structured CloudEvent. If it is larger than `body_max_bytes`: without `data`, and with `dataref`. Raises
    Undeliverable if its data is not valid JSON."""
    try:
        fields = event.as_dict()
    except MalformedEvent as error:
        raise Undeliverable(f"the event cannot be sent as JSON: {error}") from None
    content = json.encode(fields)
    if len(content) <= body_max_bytes:
        return content
    del fields["data"]
    return json.encode({**fields, "dataref": f"{event.source}#{quote(event.id, safe='/')}"})


def signature_headers(message: str, content: bytes, keys: Sequence[bytes], now: datetime) -> dict[str, str]:
    """The headers of Standard Webhooks: `webhook-signature` has an HMAC-SHA256 by each key, of id, timestamp (`now`) and body."""
    timestamp = str(int(now.timestamp()))
    signed = f"{message}.{timestamp}.".encode() + content
    signatures = (base64.b64encode(hmac.digest(key, signed, "sha256")).decode() for key in keys)
    return {
        "webhook-id": message,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(f"v1,{one}" for one in signatures),
    }

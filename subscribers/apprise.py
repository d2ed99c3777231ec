"""Apprise: alerts to the services that the library of this name knows (Teams, Telegram, Discord, ntfy, Opsgenie and many others).

    [[subscribers]]
    use = "apprise"
    settings = { url = "ntfy://ntfy.example/alerts" }

Requires `pip install 'taskhub[apprise]'`. One subscriber has one URL, so that a retry does not repeat what another service has
accepted.

Addresses. The library connects by itself, so the check of `AddressGuard` is weaker here than for webhooks. Covered: the host in
the URL, for services that have a server of their own in it (its addresses are resolved and checked before each message), and
redirects, which are switched off. Not covered: an address that changes between the check and the connection, hosts that a
service's module chooses itself, and other parameters of the URL, such as a proxy. So do not let others choose this URL.

The library does not say why a message was not accepted; so a failure is retried as an error, until the timeout of `retry`.
"""

import asyncio
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from schemas import Event

from .api import Meta, SubscriberContext, Unavailable, Undeliverable, on
from .notices import AlertSettings, Notice, Notifier, cut_bytes, cut_characters
from .sinks import AddressGuard, AddressRanges

if TYPE_CHECKING:
    from apprise import Apprise as Library

TITLE_MAX, BODY_BYTES_MAX = 250, 32_768
_TYPES = {"critical": "failure", "error": "failure", "warning": "warning", "info": "info"}


class AppriseError(Exception):
    """The service did not accept a message, or could not be reached: the library does not tell these apart."""


class AppriseSettings(AlertSettings):
    """`url`: as documented by Apprise; secret. `allow`: ranges of addresses that are permitted although they are not public."""

    url: SecretStr
    allow: AddressRanges = ()


class Apprise(Notifier[AppriseSettings]):
    """Sends alerts by the library Apprise."""

    name = "apprise"

    async def open(self, ctx: SubscriberContext) -> None:
        """Load the library. Raises ImportError if it is not installed, ValueError if it does not know the URL."""
        await super().open(ctx)
        self._service, self._library = await asyncio.to_thread(service_of, self.settings.url.get_secret_value())
        self._guard = AddressGuard(self.settings.allow)

    @on("*")
    async def receive(self, event: Event, meta: Meta) -> None:
        """Send the notices that are due because of this event."""
        await self.notify([event])

    async def send(self, notices: Sequence[Notice]) -> None:
        """Check the address, and send each notice."""
        await self._check_address()
        for notice in notices:
            if not await asyncio.to_thread(self._library.notify, **apprise_message(notice)):
                raise AppriseError(f"the service {self._service.service_name} did not accept the message")

    async def _check_address(self) -> None:
        host = self_hosted(self._service)
        if host is None:
            return
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, self._service.port or 443, type=socket.SOCK_STREAM)
        except OSError:
            raise Unavailable("the host in the URL has no address", endpoint=host) from None
        for *_, address in found:
            if refusal := self._guard.refusal(str(address[0])):
                raise Undeliverable(f"the host in the URL has a refused address: {refusal}; see `allow`")


def service_of(url: str) -> "tuple[Any, Library]":
    """The service of a URL, and the library with it. Raises ImportError, ValueError; neither has the URL."""
    try:
        import apprise
    except ImportError:
        raise ImportError("this subscriber requires Apprise: pip install 'taskhub[apprise]'") from None
    asset = apprise.AppriseAsset(http_redirects=False)
    service = apprise.Apprise.instantiate(url, asset=asset, suppress_exceptions=True)
    if service is None:
        raise ValueError("url: Apprise knows no service with such a URL, or the URL is incomplete")
    library = apprise.Apprise(asset=asset)
    library.add(service)
    return service, library


def self_hosted(service: Any) -> str | None:
    """The host of a service whose URLs name a server; None if the host is part of the service."""
    named = any("{host}" in template for template in service.templates)
    return str(service.host) if named and service.host else None


def apprise_message(notice: Notice) -> dict[str, Any]:
    """The arguments of `Apprise.notify`."""
    resolved = notice.status == "resolved"
    facts = [f"{name}: {value}" for name, value in {**notice.labels, **notice.details}.items()]
    lines = [notice.text, *(f"{link.text}: {link.href}" for link in notice.links), *facts]
    return {
        "title": cut_characters(f"Resolved: {notice.title}" if resolved else notice.title, TITLE_MAX),
        "body": cut_bytes("\n".join(one for one in lines if one), BODY_BYTES_MAX),
        "notify_type": "success" if resolved else _TYPES[notice.severity],
    }

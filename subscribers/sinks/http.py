"""The HTTP client of subscribers: posts a body, and distinguishes an outage from a rejection (see `outcome.py`)."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from gzip import compress
from typing import TYPE_CHECKING

from ..api import Unavailable, Undeliverable
from .addresses import AddressGuard
from .destination import Destination
from .outcome import Answer, NoAnswer, Refused, judge
from .proxy import Proxy

if TYPE_CHECKING:
    from .connect import Resolver
    from .exchange import Exchange

__all__ = ["NO_STATUSES", "Answer", "HttpSink"]

NO_STATUSES: frozenset[int] = frozenset()

_DEFAULT_HEADERS = {"accept-encoding": "identity", "user-agent": "taskhub"}


class HttpSink:
    """One HTTP client of a subscriber; used in one event loop, closed by `aclose`.

    `timeout_seconds`: for one request as a whole, from the wait for a connection to the end of the answer. `guard`: which
    addresses it may connect to; None permits all, for a destination that the operator of the hub chose. `proxy`: the URL of an
    HTTP proxy for all requests (`http[s]://[user:password@]host[:port]`), which the guard does not check. `connections_max`: with
    TLS, and as many without; further requests wait. `resolve` replaces the name service of the machine. TLS certificates are
    verified by the authorities of the machine, or by those in SSL_CERT_FILE. Raises ValueError for an invalid proxy.
    """

    def __init__(
        self,
        *,
        timeout_seconds: float = 10.0,
        guard: AddressGuard | None = None,
        proxy: str | None = None,
        connections_max: int = 8,
        resolve: "Resolver | None" = None,
    ) -> None:
        self._timeout_seconds = timeout_seconds
        self._guard = guard
        self._proxy = None if proxy is None else Proxy.parse(proxy)
        self._connections_max = connections_max
        self._resolve = resolve
        self._opened: Exchange | None = None

    async def post(
        self,
        url: str,
        content: bytes,
        headers: Mapping[str, str] | None = None,
        *,
        gzip: bool = False,
        status_is_answer: frozenset[int] = NO_STATUSES,
    ) -> Answer:
        """Post `content`, compressed if `gzip`, and return the answer if its status is 2xx or one of `status_is_answer`.

        `headers`: in addition to Host and Content-Length; they may replace User-Agent and Accept-Encoding. Raises `Unavailable`
        if there is no answer in time, or with 408, 425, 429, 5xx; `Undeliverable` for other statuses (redirects are not
        followed), for an address that the guard refuses, and for an invalid URL or header. The errors name only the host.
        """
        try:
            destination = Destination.parse(url)
        except ValueError as error:
            raise Undeliverable(f"the URL is invalid: {error}") from None
        fields = {**_DEFAULT_HEADERS, **{name.lower(): value for name, value in (headers or {}).items()}}
        if gzip:
            content = compress(content, mtime=0)
            fields["content-encoding"] = "gzip"
        answer = await self._exchanged(destination, fields, content)
        if answer.status not in status_is_answer:
            judge(answer, destination.authority, datetime.now(UTC))
        return answer

    async def _exchanged(self, destination: Destination, fields: Mapping[str, str], content: bytes) -> Answer:
        host = destination.authority
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await self._exchange().post(destination, fields, content)
        except TimeoutError:
            raise Unavailable(f"{host} did not answer within {self._timeout_seconds:g} s", endpoint=host) from None
        except NoAnswer as error:
            raise Unavailable(f"{host}: {error}", endpoint=host) from None
        except Refused as error:
            raise Undeliverable(f"{host}: {error}") from None

    def _exchange(self) -> "Exchange":
        if self._opened is None:
            from .connect import Route, resolved  # here: loading the HTTP library takes long, and most hubs do not need it
            from .exchange import Exchange

            route = Route(self._timeout_seconds, self._guard, self._proxy, self._resolve or resolved)
            self._opened = Exchange(route, self._connections_max)
        return self._opened

    async def aclose(self) -> None:
        """Close all connections."""
        if self._opened is not None:
            await self._opened.aclose()
            self._opened = None

"""Connections of a sink: the name is resolved once, every address is checked, and the connection goes to a checked address.

The check is in the network backend of httpcore2, below the pool and below TLS, so that no connection exists that was not checked:
the certificate, the server name of TLS, and the header `Host` are those of the name, and the name is not resolved a second time
(a name server could give another address then). If one of several addresses is refused, the connection is refused.

Through a proxy: the proxy is asked (CONNECT) for the checked address, so that its own name server plays no part. A proxy that
filters by name therefore needs a sink without a guard: it is then asked for the name, and decides alone.

Rules: this module and `exchange.py` import httpcore2, and are imported at the first request. httpcore2 is used without its client
httpx2, which follows redirects, keeps cookies, reads proxies from the environment, decompresses answers, and logs complete URLs.
"""

import asyncio
import os
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import httpcore2

from .addresses import AddressGuard
from .outcome import NoAnswer, Refused
from .proxy import Proxy, tunnel

Resolver = Callable[[str, int], Awaitable[Sequence[str]]]
"""Returns the addresses of a host, for connections to a port. Raises OSError."""

_ADDRESSES_MAX = 4


class Route(NamedTuple):
    """How connections are made. `timeout_seconds`: for all addresses of a name. `guard`: None permits every address."""

    timeout_seconds: float
    guard: AddressGuard | None
    proxy: Proxy | None
    resolve: Resolver


async def resolved(host: str, port: int) -> Sequence[str]:
    """The addresses of a host by the name service of the machine, in its order, without repetitions. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(one[4][0]) for one in found))


class CheckedBackend(httpcore2.AsyncNetworkBackend):
    """Connects the pool of one scheme to addresses that the guard permits. Raises `Refused`, `NoAnswer`."""

    def __init__(self, route: Route, *, tls: bool) -> None:
        self._route = route
        self._tls = tls
        self._inner = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Connect to a host, directly or through the proxy. The other arguments are not used: the pool sets none."""
        route = self._route
        if route.proxy is None:
            return await self._dial(await self._permitted(host, port), port)
        targets = [host] if route.guard is None else await self._permitted(host, port)
        return await self._through(route.proxy, targets[0], port)

    async def _permitted(self, host: str, port: int) -> Sequence[str]:
        """The addresses of a host, all of which are permitted."""
        addresses = await self._resolved(host, port)
        guard = self._route.guard
        refusals = (guard.refusal(one, tls=self._tls) for one in addresses) if guard is not None else iter(())
        refusal = next((one for one in refusals if one is not None), None)
        if refusal is not None:
            raise Refused(f"connections to this host are refused: {refusal}")
        return addresses

    async def _resolved(self, host: str, port: int) -> Sequence[str]:
        try:
            addresses = await self._route.resolve(host, port)
        except (OSError, UnicodeError):
            addresses = ()
        if not addresses:
            raise NoAnswer("the name cannot be resolved")
        return addresses

    async def _dial(self, addresses: Sequence[str], port: int) -> httpcore2.AsyncNetworkStream:
        """A connection to the first address that accepts one, of the first few; each gets an equal part of the time."""
        tried = addresses[:_ADDRESSES_MAX]
        seconds = self._route.timeout_seconds / len(tried)
        reason = ""
        for address in tried:
            try:
                return await self._inner.connect_tcp(address, port, timeout=seconds)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                reason = reason_of(error)
        raise NoAnswer(reason)

    async def _through(self, proxy: Proxy, target: str, port: int) -> httpcore2.AsyncNetworkStream:
        """A connection to the target through the proxy (RFC 9110, section 9.3.6)."""
        place = proxy.place
        try:
            stream = await self._dial(await self._resolved(place.host, place.port), place.port)
        except NoAnswer as error:
            raise NoAnswer(f"no connection to the proxy: {error}") from None
        try:
            if place.scheme == "https":
                stream = await stream.start_tls(httpcore2.default_ssl_context(), server_hostname=place.host)
            await tunnel(stream, target, port, proxy.authorization)
        except BaseException:
            await stream.aclose()
            raise
        return stream


def reason_of(error: BaseException) -> str:
    """Why a connection failed, in a few words, by the causes of the error."""
    causes = list(_causes(error))
    for one in causes:
        if isinstance(one, ssl.SSLCertVerificationError):
            return f"its TLS certificate is not accepted: {one.verify_message}"
        if isinstance(one, ssl.SSLError):
            return "TLS failed"
    if any(isinstance(one, TimeoutError | httpcore2.TimeoutException) for one in causes):
        return "it does not accept connections in time"
    numbers = (one.errno for one in causes if isinstance(one, OSError) and one.errno)
    return next((os.strerror(one).lower() for one in numbers), "the connection failed")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__

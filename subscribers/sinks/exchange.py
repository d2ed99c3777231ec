"""One exchange of HTTP/1.1: sends a request, and reads the answer up to a limit."""

from collections.abc import Mapping
from contextlib import aclosing

import httpcore2

from .connect import CheckedBackend, Route, reason_of
from .destination import Destination
from .outcome import Answer, NoAnswer, Refused

BODY_MAX_BYTES = 64 * 1024
"""The part of an answer's body that is read; the connection of a longer one is closed."""

_KEEP_ALIVE_SECONDS = 30.0


class Exchange:
    """The connections of a sink, which are kept open between requests. Not for concurrent use in several event loops."""

    def __init__(self, route: Route, connections_max: int) -> None:
        self._route = route
        self._connections_max = connections_max
        self._pools: dict[str, httpcore2.AsyncConnectionPool] = {}

    async def post(self, destination: Destination, headers: Mapping[str, str], content: bytes) -> Answer:
        """Send a POST request. Returns an answer of any status. Raises `Refused`, `NoAnswer`."""
        try:
            return await self._post(destination, headers, content)
        except (Refused, NoAnswer):
            raise
        except (httpcore2.LocalProtocolError, UnicodeEncodeError):
            raise Refused("the request is not valid HTTP") from None
        except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
            raise NoAnswer(reason_of(error)) from None
        except httpcore2.ProtocolError:
            raise NoAnswer("it closed the connection, or did not answer with HTTP") from None
        except (httpcore2.NetworkError, httpcore2.TimeoutException, OSError):
            raise NoAnswer("the connection was lost") from None

    async def _post(self, destination: Destination, headers: Mapping[str, str], content: bytes) -> Answer:
        scheme, host, port, target = destination
        url = httpcore2.URL(scheme=scheme, host=host, port=port, target=target)
        fields = [(name.encode("ascii"), value.encode("ascii")) for name, value in headers.items()]
        async with self._pool(scheme).stream("POST", url, headers=fields, content=content) as response:
            names = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
            return Answer(response.status, names, await _body(response))

    def _pool(self, scheme: str) -> httpcore2.AsyncConnectionPool:
        """The connections of a scheme: whether TLS is used decides, with the address, whether a connection is permitted."""
        pool = self._pools.get(scheme)
        if pool is None:
            tls = scheme == "https"
            pool = self._pools[scheme] = httpcore2.AsyncConnectionPool(
                ssl_context=httpcore2.default_ssl_context() if tls else None,
                max_connections=self._connections_max,
                max_keepalive_connections=self._connections_max,
                keepalive_expiry=_KEEP_ALIVE_SECONDS,
                network_backend=CheckedBackend(self._route, tls=tls),
            )
        return pool

    async def aclose(self) -> None:
        """Close all connections."""
        for pool in self._pools.values():
            await pool.aclose()


async def _body(response: httpcore2.Response) -> bytes:
    body = b""
    async with aclosing(response.aiter_stream()) as parts:
        async for part in parts:
            body += part
            if len(body) >= BODY_MAX_BYTES:
                break
    return body[:BODY_MAX_BYTES]

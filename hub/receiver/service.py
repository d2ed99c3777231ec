"""`AlertReceiver`: listens for notifications, with bounded connections."""

import asyncio
import logging
from typing import cast

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from pydantic import SecretStr

from ..errors import InUse
from ..logs import Logger
from .address import ListenAddress, require_token
from .http import DEFAULT_LIMITS, Accept, RequestLimits, WebhookHandler

log = Logger(__name__)

CONNECTIONS_MAX = 64
"""Most connections at once; a further one gets 503."""
LINGER_SECONDS = 0.5
"""How long the rest of a refused body is read and discarded. A connection closed with unread data is reset, and the client may
lose the response."""
STOP_SECONDS = 15.0
"""How long requests that are being handled may take when the service stops."""

_TOO_MANY = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


def _is_ours(record: logging.LogRecord) -> bool:
    """Whether aiohttp's record is about this service: not what a client sent that is not HTTP, which gets 400."""
    return record.exc_info is None or not isinstance(record.exc_info[1], HttpProcessingError)


_connection_log = logging.getLogger("hub.receiver.connections")
_connection_log.addFilter(_is_ours)


class ListenAddressTaken(InUse):
    """The receiver cannot listen at its address."""

    def __init__(self, address: ListenAddress, reason: str) -> None:
        super().__init__(f"Cannot listen on {address} ({reason}). Choose another address with --listen.")


class AlertReceiver:
    """Listens for notifications of Alertmanager, and passes them to `accept` (`AlertIntake.accept`). A service (`hub.service`).

    Raises ConfigurationError for an address other than loopback without a token."""

    def __init__(
        self, accept: Accept, listen: ListenAddress, token: SecretStr | None = None, limits: RequestLimits = DEFAULT_LIMITS
    ) -> None:
        require_token(listen, token)
        self._listen = listen
        self._limits = limits
        self._handler = WebhookHandler(accept, token, limits)
        self._runner: web.ServerRunner | None = None
        self._listener: asyncio.Server | None = None
        self.address: ListenAddress | None = None

    async def start(self) -> None:
        """Listen. Raises ListenAddressTaken."""
        server = web.Server(
            self._handler,
            access_log=None,
            logger=_connection_log,
            keepalive_timeout=self._limits.read_seconds,  # also the time for the head of the first request
            lingering_time=LINGER_SECONDS,
            auto_decompress=False,
        )
        self._runner = web.ServerRunner(server, shutdown_timeout=STOP_SECONDS)
        await self._runner.setup()

        def protocol() -> asyncio.BaseProtocol:
            return server() if len(server.connections) < CONNECTIONS_MAX else _Refusal()

        try:
            loop = asyncio.get_running_loop()
            self._listener = await loop.create_server(protocol, self._listen.host, self._listen.port)
        except OSError as error:
            raise ListenAddressTaken(self._listen, (error.strerror or str(error)).rpartition(": ")[2].lower()) from error
        self.address = ListenAddress(self._listen.host, self._listener.sockets[0].getsockname()[1])

    async def watch(self) -> None:
        """Wait; the service has no background tasks that could fail."""
        await asyncio.Event().wait()

    async def stop(self) -> None:
        """Close the port, finish the requests that are being handled, and close all connections."""
        if self._listener is not None:
            self._listener.close()
        if self._runner is not None:
            await self._runner.cleanup()


class _Refusal(asyncio.Protocol):
    """A connection beyond the limit."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        writable = cast(asyncio.WriteTransport, transport)  # not a subclass of it with uvloop
        log.warning("too many connections", action="alerts_connection_refused", connections_max=CONNECTIONS_MAX)
        writable.write(_TOO_MANY)
        writable.close()

"""The listener: accepts client connections at one address and determines the principal of each.

A connection has a principal before its first request. Without TLS and SASL it is always `ANONYMOUS`; either would set it here,
from the client's certificate or credentials.
"""

import asyncio
import errno

from .broker import ANONYMOUS, Broker
from .connection import ClientConnection
from .errors import AddressInUse

BACKLOG = 512


class ClientListener:
    """Listens on `host` and `port` (0: a free port, available as `port` after `open`). `advertised_host` is the host in
    metadata responses."""

    def __init__(self, host: str, port: int, *, advertised_host: str | None = None, frame_bytes_max: int) -> None:
        self.host = host
        self.port = port
        self.advertised_host = advertised_host or host
        self.connections: set[ClientConnection] = set()
        self._frame_bytes_max = frame_bytes_max
        self._server: asyncio.Server | None = None

    @property
    def bootstrap(self) -> str:
        """host:port for clients, an IPv6 address in brackets."""
        host = self.advertised_host
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"

    @property
    def listening(self) -> bool:
        """Whether connections are accepted."""
        return self._server is not None and self._server.is_serving()

    async def open(self, broker: Broker) -> None:
        """Bind the port; connections are accepted only after `serve`. Raises `AddressInUse`."""
        try:
            self._server = await asyncio.get_running_loop().create_server(
                lambda: ClientConnection(broker, self.connections, principal=ANONYMOUS, frame_bytes_max=self._frame_bytes_max),
                self.host,
                self.port,
                start_serving=False,
                backlog=BACKLOG,
            )
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES):
                raise AddressInUse(f"cannot listen on {self.host}:{self.port}: {error.strerror}") from error
            raise
        self.port = self._server.sockets[0].getsockname()[1]

    async def serve(self) -> None:
        """Accept connections."""
        assert self._server is not None, "the listener is not open"
        await self._server.start_serving()

    def close(self) -> None:
        """Stop accepting connections, and close all open ones."""
        if self._server is not None:
            self._server.close()
        for connection in tuple(self.connections):
            connection.close()

    async def closed(self) -> None:
        """Wait until every connection is closed."""
        if self._server is not None:
            await self._server.wait_closed()

"""The connections of one client to the brokers of a cluster, opened on demand and cached by address."""

from collections.abc import Collection

from .cluster import Address, Cluster
from .connection import Connection, connect_any

BOOTSTRAP: Address = ("", 0)
"""Key of the connection to the bootstrap address that responded."""


class ConnectionPool:
    """A pool of connections. `role` is part of the client id."""

    def __init__(self, cluster: Cluster, *, role: str) -> None:
        self._cluster = cluster
        self._role = role
        self._connections: dict[Address, Connection] = {}

    async def connect(self, address: Address) -> Connection:
        """An open connection to the broker at `address`. Raises BrokerUnreachable."""
        connection = self.get_open(address)
        if connection is None:
            connection = await Connection.open(self._cluster, *address, role=self._role)
            self._connections[address] = connection
        return connection

    def get_open(self, address: Address) -> Connection | None:
        """The connection to the broker at `address`, if it is open."""
        connection = self._connections.get(address)
        return connection if connection is not None and connection.is_open else None

    async def connect_any(self) -> Connection:
        """An open connection to any broker. Raises BrokerUnreachable."""
        for connection in self._connections.values():
            if connection.is_open:
                return connection
        connection = await connect_any(self._cluster, role=self._role)
        self._connections[BOOTSTRAP] = connection
        return connection

    def close_first(self) -> None:
        """Close the connection to the bootstrap address."""
        if first := self._connections.pop(BOOTSTRAP, None):
            first.close()

    def keep_only(self, addresses: Collection[Address]) -> None:
        """Close the connections to all other addresses."""
        for address in self._connections.keys() - addresses:
            self._connections.pop(address).close()

    def close(self) -> None:
        """Close all connections; they are reopened on demand."""
        for connection in self._connections.values():
            connection.close()
        self._connections.clear()

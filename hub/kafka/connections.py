"""The connections of one client to the brokers of a cluster, opened when they are needed and kept by address."""

from .cluster import Address, Cluster
from .connection import Connection, connect_any

BOOTSTRAP: Address = ("", 0)
"""Stands for the connection to whichever cluster address answered."""


class ConnectionPool:
    """See the module. `role` is part of the client id."""

    def __init__(self, cluster: Cluster, *, role: str) -> None:
        self._cluster = cluster
        self._role = role
        self._connections: dict[Address, Connection] = {}

    async def connect(self, address: Address) -> Connection:
        """The open connection to a broker. Raises BrokerUnreachable."""
        connection = self._connections.get(address)
        if connection is None or not connection.is_open:
            connection = await Connection.open(self._cluster, *address, role=self._role)
            self._connections[address] = connection
        return connection

    async def connect_any(self) -> Connection:
        """An open connection to any broker, for what every broker knows. Raises BrokerUnreachable."""
        for connection in self._connections.values():
            if connection.is_open:
                return connection
        connection = await connect_any(self._cluster, role=self._role)
        self._connections[BOOTSTRAP] = connection
        return connection

    def close_first(self) -> None:
        """Close the connection to a cluster address, which is not known by the broker's own address."""
        if first := self._connections.pop(BOOTSTRAP, None):
            first.close()

    def close(self) -> None:
        """Close them all; they are opened again when they are needed."""
        for connection in self._connections.values():
            connection.close()
        self._connections.clear()

"""The address of a Kafka cluster and the settings of connections to it, as one value."""

import os
from dataclasses import dataclass, replace
from typing import Any

from ..errors import ConfigurationError

DEFAULT_PORT = 9092
PORT_MAX = 65535

Address = tuple[str, int]
"""Host and port; an IPv6 address without brackets."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """Addresses, client id and timeouts. Created once per process or client (`Cluster.of`) and passed to everything that opens
    a connection."""

    addresses: tuple[Address, ...]
    """Bootstrap brokers."""
    client_id: str | None = None
    """Client id in the logs and quotas of brokers; None derives it from the role (`client_id_of`)."""
    connect_seconds: float = 5.0
    """Timeout for opening a connection."""
    request_seconds: float = 10.0
    """Timeout for the response to a request."""

    @classmethod
    def of(cls, cluster: "str | Cluster") -> "Cluster":
        """Parse a comma-separated list of `host`, `host:port` or `[ipv6]:port`; returns a `Cluster` unchanged. Raises
        `ConfigurationError` for an invalid list."""
        if isinstance(cluster, Cluster):
            return cluster
        entries = [entry for entry in (part.strip() for part in cluster.split(",")) if entry]
        if not entries:
            raise ConfigurationError(f"bootstrap: {cluster!r} has no address; for example 127.0.0.1:{DEFAULT_PORT}")
        return cls(tuple(_address(entry) for entry in entries))

    def client_id_of(self, role: str) -> str:
        """The client id for a role: the configured one, or hub-<role>-<process id>."""
        return self.client_id or f"hub-{role}-{os.getpid()}"

    def named(self, role: str) -> "Cluster":
        """The cluster with the client id of `role`, for several clients with the same id."""
        return replace(self, client_id=self.client_id_of(role))

    def client_settings(self, role: str) -> dict[str, Any]:
        """Arguments for aiokafka's clients."""
        return {
            "bootstrap_servers": str(self),
            "client_id": self.client_id_of(role),
            "request_timeout_ms": int(self.request_seconds * 1000),
        }

    def __str__(self) -> str:
        """host:port,host:port"""
        return ",".join(name_of_address(*address) for address in self.addresses)


def name_of_address(host: str, port: int) -> str:
    """ "host:port", with an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _address(entry: str) -> Address:
    host, colon, port = entry.rpartition(":")
    if not colon or entry.endswith("]"):
        host, port = entry, str(DEFAULT_PORT)
    if not (port.isascii() and port.isdecimal() and 0 < int(port) <= PORT_MAX):
        raise ConfigurationError(f"bootstrap: {entry!r} is not of the form host:port with a port from 1 to {PORT_MAX}")
    return host.strip("[]"), int(port)

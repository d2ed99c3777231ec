"""The listen address of the embedded broker, and the host that it advertises to clients (Kafka's advertised listener)."""

import ipaddress
import socket
from typing import NamedTuple

from ..errors import ConfigurationError

WILDCARDS = ("", "*", "0")
"""Names for all addresses of the machine, in addition to the unspecified addresses."""


class Listener(NamedTuple):
    """The broker listens on `host`; clients get `advertised_host` in metadata responses and connect to it."""

    host: str
    advertised_host: str

    def address(self, port: int) -> str:
        """host:port for clients, an IPv6 address in brackets."""
        return join_address(self.advertised_host, port)


def make_listener(host: str, advertised_host: str | None) -> Listener:
    """Check `--host` and `--advertised-host`. Raises ConfigurationError if clients could not connect."""
    host = _without_brackets(host)
    if advertised_host is None:
        if is_wildcard(host):
            raise ConfigurationError(
                f"--host {host or '(empty)'} listens on every address of this machine, but clients cannot connect to it."
                " Specify the host by which clients reach this machine with --advertised-host (HUB_ADVERTISED_HOST), for"
                f" example --advertised-host {socket.gethostname()}."
            )
        return Listener(host, host)
    advertised = _without_brackets(advertised_host)
    if is_wildcard(advertised):
        raise ConfigurationError(
            f"--advertised-host {advertised or '(empty)'} is not an address that a client can connect to. Name a host or an"
            f" address of this machine, for example --advertised-host {socket.gethostname()}."
        )
    if not _is_host(advertised):
        raise ConfigurationError(
            f"--advertised-host {advertised_host} is not a host: give a name or an address without a scheme and a port"
            " (the port is that of --port)."
        )
    return Listener(host, advertised)


def is_wildcard(host: str) -> bool:
    """Whether `host` means all addresses of a machine: 0.0.0.0, ::, and equivalent forms."""
    try:
        return host in WILDCARDS or ipaddress.ip_address(host.partition("%")[0]).is_unspecified
    except ValueError:
        return False


def join_address(host: str, port: int) -> str:
    """host:port, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _without_brackets(host: str) -> str:
    host = host.strip()
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host


def _is_host(host: str) -> bool:
    if ":" in host:
        try:
            return ipaddress.ip_address(host.partition("%")[0]).version == 6
        except ValueError:
            return False
    return not any(character.isspace() or character == "/" for character in host)

"""Ports for processes that need a port known to the test and keep it across restarts.

They are below the range of ephemeral ports. In that range any outgoing connection may occupy the port when the process binds
it again, and a client that retries a closed loopback port may even connect to itself.
"""

import random
import socket
from pathlib import Path

LOWEST = 10_000
EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
IANA_EPHEMERAL = 49_152  # where a kernel does not say
TRIES = 1_000


def free_ports(count: int) -> list[int]:
    """So many different loopback ports that nobody listens on now."""
    below = int(EPHEMERAL.read_text().split()[0]) if EPHEMERAL.exists() else IANA_EPHEMERAL
    held: list[socket.socket] = []
    try:
        for _ in range(TRIES):
            if len(held) == count:
                return [probe.getsockname()[1] for probe in held]
            try:
                held.append(socket.create_server(("127.0.0.1", random.randrange(LOWEST, below))))
            except OSError:
                continue
        raise OSError(f"no {count} free ports between {LOWEST} and {below} in {TRIES} tries")
    finally:
        for probe in held:
            probe.close()


def free_port() -> int:
    """One of them."""
    return free_ports(1)[0]

"""Ports for processes that need a port known to the test and keep it across restarts.

They are below the range of ephemeral ports. In that range any outgoing connection may occupy the port when the process binds
it again, and a client that retries a closed loopback port may even connect to itself.

Each test process has a block of ports of its own, which it holds with a file lock: a port that one process has chosen and not
bound yet (a JVM takes seconds) is not chosen by another.
"""

import fcntl
import itertools
import os
import random
import socket
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import IO

LOWEST = 10_000
BLOCK = 100
EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
IANA_EPHEMERAL = 49_152  # where a kernel does not say
LOCKS = Path(tempfile.gettempdir()) / f"taskhub-test-ports-{os.getuid()}"

_held: list[IO[bytes]] = []


def free_ports(count: int) -> list[int]:
    """So many different loopback ports that nobody listens on now. Raises OSError if there are none."""
    found: list[int] = []
    for port in itertools.islice(_block(), BLOCK):
        if len(found) == count:
            break
        if _is_free(port):
            found.append(port)
    if len(found) < count:
        raise OSError(f"no {count} free ports among the {BLOCK} of this process")
    return found


def free_port() -> int:
    """One of them."""
    return free_ports(1)[0]


@cache
def _block() -> Iterator[int]:
    """The ports of this process, round and round: what was chosen last is chosen again last."""
    first = _hold_block(LOCKS)
    return itertools.cycle(range(first, first + BLOCK))


def _hold_block(locks: Path) -> int:
    """The first port of a block that no other process holds; it is held until this process ends."""
    locks.mkdir(exist_ok=True)
    below = int(EPHEMERAL.read_text().split()[0]) if EPHEMERAL.exists() else IANA_EPHEMERAL
    blocks = range(LOWEST, below - BLOCK, BLOCK)
    for first in random.sample(blocks, len(blocks)):
        file = (locks / str(first)).open("wb")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
        else:
            _held.append(file)
            return first
    raise OSError(f"every block of {BLOCK} ports between {LOWEST} and {below} is held: {locks}")


def _is_free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True

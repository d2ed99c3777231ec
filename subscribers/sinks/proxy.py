"""HTTP proxies: their URLs, and the tunnels through them (RFC 9110, section 9.3.6, CONNECT)."""

import base64
import re
from typing import NamedTuple, Protocol
from urllib.parse import unquote

from .destination import Destination
from .outcome import NoAnswer

_HEAD_MAX_BYTES = 16 * 1024
_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3})")
_URL = re.compile(r"(?P<scheme>[A-Za-z]+://)(?:(?P<user>[^:@/]*)(?::(?P<password>[^@/]*))?@)?(?P<rest>[^/]*/?)")


class ByteStream(Protocol):
    """An open connection."""

    async def read(self, max_bytes: int) -> bytes:
        """The next bytes; none at the end."""

    async def write(self, buffer: bytes) -> None:
        """Send bytes."""


class Proxy(NamedTuple):
    """An HTTP proxy. `authorization`: the value of the header `Proxy-Authorization`, or None."""

    place: Destination
    authorization: str | None

    @classmethod
    def parse(cls, url: str) -> "Proxy":
        """Read `http[s]://[user:password@]host[:port]`. Raises ValueError, which does not repeat the URL."""
        match = _URL.fullmatch(url)
        if match is None:
            raise ValueError("the URL of a proxy must have the form http://[user:password@]host[:port]")
        place = Destination.parse(match["scheme"] + match["rest"])
        if match["user"] is None:
            return cls(place, None)
        credentials = f"{unquote(match['user'])}:{unquote(match['password'] or '')}".encode()
        return cls(place, "Basic " + base64.b64encode(credentials).decode())

    def __repr__(self) -> str:
        return f"Proxy({self.place})"


async def tunnel(stream: ByteStream, host: str, port: int, authorization: str | None) -> None:
    """Ask the proxy at the other end of `stream` for a connection to `host`, a name or an address: from then on, the stream is
    this connection. Raises NoAnswer if it refuses."""
    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    credentials = f"Proxy-Authorization: {authorization}\r\n" if authorization else ""
    await stream.write(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{credentials}\r\n".encode())
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        part = await stream.read(4096)
        head += part
        if not part or len(head) > _HEAD_MAX_BYTES:
            break
    status = _STATUS.match(head)
    if status is None or not head.endswith(b"\r\n\r\n"):
        raise NoAnswer("the proxy did not answer with HTTP")
    if not status[1].startswith(b"2"):
        raise NoAnswer(f"the proxy answered {status[1].decode()}")

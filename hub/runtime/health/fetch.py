"""Reads a health page of another process of this machine, with a limit of time and size."""

import asyncio
from typing import NamedTuple

from .http import JSON_TYPE, parse_response

TIMEOUT_SECONDS = 1.0
BYTES_MAX = 16 << 20


class FetchedPage(NamedTuple):
    """The response to a request: its HTTP status and its body."""

    status: int
    body: bytes


class PageUnavailable(Exception):
    """A page could not be read; the message is the reason."""


async def fetch(address: str, path: str, *, timeout_seconds: float = TIMEOUT_SECONDS) -> FetchedPage:
    """GET `path`, as JSON if there is a choice, from the health pages at `address` (host:port). Raises PageUnavailable, at the
    latest after `timeout_seconds`."""
    host, _, port = address.rpartition(":")
    try:
        async with asyncio.timeout(timeout_seconds):
            data = await _exchange(host.strip("[]"), int(port), _request(address, path))
        return FetchedPage(*parse_response(data))
    except TimeoutError:
        raise PageUnavailable(f"no response within {timeout_seconds:g} s") from None
    except OSError as error:
        raise PageUnavailable(f"no connection to its health pages ({(error.strerror or str(error)).lower()})") from error
    except ValueError as error:
        raise PageUnavailable(f"invalid response: {error}") from error


def _request(address: str, path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: {address}\r\nAccept: {JSON_TYPE}\r\nConnection: close\r\n\r\n".encode("ascii")


async def _exchange(host: str, port: int, request: bytes) -> bytes:
    """Raises OSError; ValueError if the response has more than BYTES_MAX bytes."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(request)
        pieces = bytearray()
        while piece := await reader.read(1 << 16):
            pieces += piece
            if len(pieces) > BYTES_MAX:
                raise ValueError(f"more than {BYTES_MAX} bytes")
        return bytes(pieces)
    finally:
        writer.close()

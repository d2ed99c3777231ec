"""The part of HTTP/1.1 that the health pages need (RFC 9110, RFC 9112): parsing of a request's head, encoding of a response.

No I/O. Only GET and HEAD are known, bodies of requests are not read, and every connection has one response.
"""

import re
from http import HTTPStatus
from typing import NamedTuple

HEAD_BYTES_MAX = 8192
"""Most bytes of a request line and its headers, the usual limit of servers."""
METHODS = ("GET", "HEAD")
JSON_TYPE = "application/json"
TEXT_TYPE = "text/plain; charset=utf-8"

_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([!-~]+) (HTTP/[0-9]\.[0-9])")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00\r\n]*?)[ \t]*")
_ABSOLUTE = re.compile(r"https?://[^/?#]+", re.IGNORECASE)


class Request(NamedTuple):
    """`path`: without query. `accept`: the header Accept, or an empty text."""

    method: str
    path: str
    accept: str = ""

    @property
    def wants_json(self) -> bool:
        """Whether the client accepts JSON by name."""
        return JSON_TYPE in self.accept.lower()


class Response(NamedTuple):
    """`allow`: the header of this name, for 405."""

    status: HTTPStatus
    content_type: str = TEXT_TYPE
    body: bytes = b""
    allow: str = ""

    def encode(self, *, head_only: bool = False) -> bytes:
        """The bytes of the response; `head_only`: without the body, but with its length."""
        lines = [
            f"HTTP/1.1 {self.status.value} {self.status.phrase}",
            f"Content-Type: {self.content_type}",
            f"Content-Length: {len(self.body)}",
            "Cache-Control: no-store",
            "Connection: close",
            *([f"Allow: {self.allow}"] if self.allow else []),
        ]
        return "\r\n".join([*lines, "", ""]).encode() + (b"" if head_only else self.body)


class RefusedRequest(Exception):
    """A request that gets an error as its response."""

    def __init__(self, status: HTTPStatus, why: str) -> None:
        super().__init__(why)
        self.response = Response(status, body=f"{why}\n".encode(), allow=", ".join(METHODS) if status == 405 else "")


def parse_request(head: bytes) -> Request:
    """Parse the head of a request, up to and including the empty line. Raises RefusedRequest (400, 405, 505)."""
    line, *fields = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    matched = _LINE.fullmatch(line)
    if matched is None:
        raise RefusedRequest(HTTPStatus.BAD_REQUEST, "The request line is not that of an HTTP request.")
    method, target, version = (part.decode("ascii") for part in matched.groups())
    if not version.startswith("HTTP/1."):
        raise RefusedRequest(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, f"{version} is not supported, HTTP/1.1 is.")
    headers = _headers(fields)
    if version == "HTTP/1.1" and len(headers.get("host", [])) != 1:
        raise RefusedRequest(HTTPStatus.BAD_REQUEST, "A request of HTTP/1.1 must have one header Host.")
    if method not in METHODS:
        raise RefusedRequest(HTTPStatus.METHOD_NOT_ALLOWED, f"{method} is not allowed here.")
    return Request(method, _path(target), ",".join(headers.get("accept", [])))


def _headers(fields: list[bytes]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for field in fields:
        matched = _FIELD.fullmatch(field)
        if matched is None:
            raise RefusedRequest(HTTPStatus.BAD_REQUEST, "A header is not of the form name: value.")
        name, value = matched.groups()
        found.setdefault(name.decode("ascii").lower(), []).append(value.decode("latin-1"))
    return found


def _path(target: str) -> str:
    """The path of a target in origin form or absolute form. Raises RefusedRequest."""
    path = _ABSOLUTE.sub("", target, count=1) if not target.startswith("/") else target
    if not path.startswith("/") and path:
        raise RefusedRequest(HTTPStatus.BAD_REQUEST, "The target of the request is not a path.")
    return re.split(r"[?#]", path, maxsplit=1)[0] or "/"


def parse_response(data: bytes) -> tuple[int, bytes]:
    """The status and the body of a response of such a server, read until the connection was closed. Raises ValueError."""
    head, separator, body = data.partition(b"\r\n\r\n")
    matched = re.match(rb"HTTP/1\.[01] ([0-9]{3})(?: |$)", head.split(b"\r\n")[0])
    if not separator or matched is None:
        raise ValueError("the response is not one of HTTP/1.1")
    length = re.search(rb"\r\ncontent-length:[ \t]*([0-9]+)", head, re.IGNORECASE)
    if length is not None and int(length[1]) != len(body):
        raise ValueError(f"the response ended after {len(body)} of {int(length[1])} bytes")
    return int(matched[1]), body

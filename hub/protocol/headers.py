"""Headers of requests and responses (https://kafka.apache.org/protocol#protocol_messages)."""

import struct
from functools import cache, lru_cache

from .apis import ApiKey, RequestType
from .errors import MalformedMessage
from .primitives import INT16, skip_tags

_REQUEST = struct.Struct(">ihhi")
_CORRELATION_ID_BYTES = 4
_NO_TAGS = b"\0"


def request_frame(kind: RequestType, correlation_id: int, client_id: bytes, body: bytes) -> bytes:
    """A complete request: length, header (version 2 if the API version is flexible, else 1), body."""
    rest = _after_correlation_id(kind, client_id)
    return b"".join((_REQUEST.pack(8 + len(rest) + len(body), *kind, correlation_id), rest, body))


@lru_cache(maxsize=1_000)
def _after_correlation_id(kind: RequestType, client_id: bytes) -> bytes:
    return b"".join((INT16.pack(len(client_id)), client_id, _NO_TAGS if kind.flexible else b""))


def response_tags(key: int, flexible: bool) -> bytes:
    """The tag section after the correlation id in the header of a response. ApiVersions never has one: its client does not yet
    know the versions that the broker supports (KIP-511)."""
    return _NO_TAGS if flexible and key != ApiKey.API_VERSIONS else b""


def response_body_at(kind: RequestType, frame: bytes | bytearray | memoryview, start: int = 0) -> int:
    """Position of the body in a response frame that begins at `start`, without its length. Raises `MalformedMessage`."""
    at = start + _CORRELATION_ID_BYTES
    if not _is_tagged(kind):
        return at
    try:
        return skip_tags(frame, at) if frame[at] else at + 1
    except IndexError as short:
        raise MalformedMessage("the response ends inside its header") from short


@cache
def _is_tagged(kind: RequestType) -> bool:
    return bool(response_tags(kind.key, kind.flexible))

"""Headers of requests and answers (https://kafka.apache.org/protocol#protocol_messages)."""

import struct

from .apis import ApiKey, RequestType
from .errors import MalformedMessage
from .primitives import INT16, skip_tags

_REQUEST = struct.Struct(">ihhi")
_CORRELATION_ID_BYTES = 4
_NO_TAGS = b"\0"


def request_frame(kind: RequestType, correlation_id: int, client_id: bytes, body: bytes) -> bytes:
    """A whole request: length, header (version 2 of it when the API is flexible, else version 1), body."""
    tags = _NO_TAGS if kind.flexible else b""
    length = 10 + len(client_id) + len(tags) + len(body)
    head = _REQUEST.pack(length, kind.key, kind.version, correlation_id)
    return b"".join((head, INT16.pack(len(client_id)), client_id, tags, body))


def response_tags(key: int, flexible: bool) -> bytes:
    """What follows the correlation id in the header of an answer. ApiVersions has none in any version: its client does not
    know yet what the broker speaks (KIP-511)."""
    return _NO_TAGS if flexible and key != ApiKey.API_VERSIONS else b""


def response_body_at(kind: RequestType, frame: bytes) -> int:
    """Where the body starts in an answer without its length. Raises `MalformedMessage`."""
    if not response_tags(kind.key, kind.flexible):
        return _CORRELATION_ID_BYTES
    try:
        return skip_tags(frame, _CORRELATION_ID_BYTES)
    except IndexError as short:
        raise MalformedMessage("an answer that ends in its header") from short

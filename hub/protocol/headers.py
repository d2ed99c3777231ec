"""Headers of requests and responses (https://kafka.apache.org/protocol#protocol_messages)."""

import struct

from .apis import ApiKey, RequestType
from .errors import MalformedMessage
from .primitives import INT16, skip_tags

_REQUEST = struct.Struct(">ihhi")
_CORRELATION_ID_BYTES = 4
_NO_TAGS = b"\0"


def request_frame(kind: RequestType, correlation_id: int, client_id: bytes, body: bytes) -> bytes:
    """A complete request: length, header (version 2 if the API version is flexible, else 1), body."""
    tags = _NO_TAGS if kind.flexible else b""
    length = 10 + len(client_id) + len(tags) + len(body)
    head = _REQUEST.pack(length, kind.key, kind.version, correlation_id)
    return b"".join((head, INT16.pack(len(client_id)), client_id, tags, body))


def response_tags(key: int, flexible: bool) -> bytes:
    """The tag section after the correlation id in the header of a response. ApiVersions never has one: its client does not yet
    know the versions that the broker supports (KIP-511)."""
    return _NO_TAGS if flexible and key != ApiKey.API_VERSIONS else b""


def response_body_at(kind: RequestType, frame: bytes | memoryview) -> int:
    """Position of the body in a response frame without its length. Raises `MalformedMessage`."""
    if not response_tags(kind.key, kind.flexible):
        return _CORRELATION_ID_BYTES
    try:
        return skip_tags(frame, _CORRELATION_ID_BYTES)
    except IndexError as short:
        raise MalformedMessage("the response ends inside its header") from short

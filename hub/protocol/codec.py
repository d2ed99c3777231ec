"""The generic codec: encodes and decodes messages of all defined APIs and versions as plain dicts.

Readers and writers are built on first use for each API and version, and cached. Invalid bytes raise `MalformedMessage`.
"""

import struct
from functools import cache

from .apis import APIS
from .errors import MalformedMessage
from .reading import Message, Reader, struct_reader
from .writing import Writer, struct_writer

UNREADABLE = (struct.error, IndexError, ValueError)
"""Exceptions of readers for invalid bytes; `MalformedMessage` is a ValueError."""


def encode_request(key: int, version: int, message: Message) -> bytes:
    """Encode the body of a request."""
    out: list[bytes] = []
    _request_writer(key, version)(out, message)
    return b"".join(out)


def decode_request(key: int, version: int, buffer: bytes, at: int = 0) -> Message:
    """Decode the request whose body starts at position `at` of `buffer`. Raises `MalformedMessage`."""
    try:
        message: Message = _request_reader(key, version)(buffer, at)[0]
    except UNREADABLE as error:
        raise _malformed("request", key, version, error) from error
    return message


def encode_response(key: int, version: int, message: Message) -> bytes:
    """Encode the body of a response."""
    out: list[bytes] = []
    _response_writer(key, version)(out, message)
    return b"".join(out)


def decode_response(key: int, version: int, buffer: bytes, at: int = 0) -> Message:
    """Decode the response whose body starts at position `at` of `buffer`. Raises `MalformedMessage`."""
    try:
        message: Message = _response_reader(key, version)(buffer, at)[0]
    except UNREADABLE as error:
        raise _malformed("response", key, version, error) from error
    return message


def _malformed(kind: str, key: int, version: int, error: Exception) -> MalformedMessage:
    return MalformedMessage(f"{APIS[key].name} v{version} {kind}: {error}")


@cache
def _request_reader(key: int, version: int) -> Reader:
    api = APIS[key]
    return struct_reader(api.request, version, api.flexible(version))


@cache
def _request_writer(key: int, version: int) -> Writer:
    api = APIS[key]
    return struct_writer(api.request, version, api.flexible(version))


@cache
def _response_reader(key: int, version: int) -> Reader:
    api = APIS[key]
    return struct_reader(api.response, version, api.flexible(version))


@cache
def _response_writer(key: int, version: int) -> Writer:
    api = APIS[key]
    return struct_writer(api.response, version, api.flexible(version))

"""Types of settings that sinks share. All errors are ValueError, which pydantic reports with the path of the field."""

import re
from typing import Annotated

from pydantic import AfterValidator, SecretStr

from .addresses import AddressGuard
from .destination import Destination
from .proxy import Proxy

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, section 5.6.2
_VALUE = re.compile(r"[\t\x20-\x7e]*")
_OWN = frozenset({"connection", "content-encoding", "content-length", "content-type", "host", "transfer-encoding"})


def _is_url(url: SecretStr) -> SecretStr:
    Destination.parse(url.get_secret_value())
    return url


def _is_proxy(url: SecretStr) -> SecretStr:
    Proxy.parse(url.get_secret_value())
    return url


def _are_ranges(ranges: tuple[str, ...]) -> tuple[str, ...]:
    AddressGuard(ranges)
    return ranges


def _are_headers(headers: dict[str, SecretStr]) -> dict[str, SecretStr]:
    for name, value in headers.items():
        if _TOKEN.fullmatch(name) is None:
            raise ValueError("the name of a header must consist of letters, digits and !#$%&'*+-.^_`|~")
        if name.lower() in _OWN:
            raise ValueError(f"the header {name} is set by the subscriber")
        if _VALUE.fullmatch(value.get_secret_value()) is None:
            raise ValueError(f"the value of the header {name} must consist of printable ASCII characters")
    return headers


SecretUrl = Annotated[SecretStr, AfterValidator(_is_url)]
"""A URL of a destination; secret, because the URLs of many services hold their token."""

SecretProxyUrl = Annotated[SecretStr, AfterValidator(_is_proxy)]
"""The URL of an HTTP proxy; secret, because it may hold a password."""

AddressRanges = Annotated[tuple[str, ...], AfterValidator(_are_ranges)]
"""Ranges of addresses in CIDR notation; see `AddressGuard`, `allow`."""

HttpHeaders = Annotated[dict[str, SecretStr], AfterValidator(_are_headers)]
"""Headers that are added to each request; their values are secret."""

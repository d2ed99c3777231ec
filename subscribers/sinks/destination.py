"""A destination: the parts of a URL to which a sink posts, read strictly.

Parsers of URLs disagree about unusual forms (`http://good@127.0.0.1/`, `http://127.0.0.1\\@good/`, `http://0x7f.1/`), and a check
by one is useless if another then connects. So one reader accepts a narrow form: `scheme://host[:port][/path][?query]` in
printable ASCII, where the host is a name of letters, digits, "-" and "_", an IPv4 address of four decimal numbers, or an IPv6
address in brackets. User information, fragments, backslashes, percent signs in the host, and IPv4 addresses in other notations
are refused.

Sources: RFC 3986; the host rule "ends in a number" is the one of the WHATWG URL Standard, section 3.5.

Rules: values only, no IO. An error says what is wrong, and never repeats the URL: its path and query may be secret.
"""

import re
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import NamedTuple

_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?#]*)(?P<target>[^#]*)")
_AUTHORITY = re.compile(r"(?P<host>\[[^\[\]]*\]|[^:\[\]]*)(?::(?P<port>.*))?")
_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")
_PORT = re.compile(r"[0-9]{1,5}")
_PORTS = {"http": 80, "https": 443}


class Destination(NamedTuple):
    """`scheme`: http or https. `host`: in lower case, IPv6 without brackets. `target`: path and query; may be secret."""

    scheme: str
    host: str
    port: int
    target: str

    @classmethod
    def parse(cls, url: str) -> "Destination":
        """Read a URL. Raises ValueError, which does not repeat the URL."""
        if any(not "!" <= one <= "~" for one in url):
            raise ValueError("a URL must consist of printable ASCII characters without spaces: encode others (%20, xn--...)")
        match = _URL.fullmatch(url)
        if "\\" in url or match is None:
            raise ValueError('a URL must have the form https://host[:port]/path, without "#" and "\\"')
        scheme = match["scheme"].lower()
        if scheme not in _PORTS:
            raise ValueError("the scheme of a URL must be https or http")
        host, port = _split(match["authority"])
        target = match["target"]
        return cls(scheme, host, _PORTS[scheme] if port is None else port, target if target.startswith("/") else f"/{target}")

    @property
    def authority(self) -> str:
        """The host, and the port if it is not the default, as in the header `Host`."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    def __repr__(self) -> str:
        return f"Destination({self.scheme}://{self.authority})"


def _split(authority: str) -> tuple[str, int | None]:
    """The host and the port of an authority. Raises ValueError."""
    if "@" in authority:
        raise ValueError("a URL must not have a user name or a password: use headers")
    match = _AUTHORITY.fullmatch(authority)
    if match is None:
        raise ValueError("the host of a URL must be a name, an IPv4 address, or an IPv6 address in brackets")
    port = match["port"]
    if port and (_PORT.fullmatch(port) is None or not 1 <= int(port) <= 65_535):
        raise ValueError("the port of a URL must be a number from 1 to 65535")
    return _host(match["host"]), int(port) if port else None


def _host(host: str) -> str:
    if host.startswith("["):
        try:
            if "%" in host:
                raise AddressValueError
            return str(IPv6Address(host[1:-1]))
        except AddressValueError:
            raise ValueError("the host of a URL in brackets must be an IPv6 address without a zone") from None
    labels = host.split(".")
    if len(host) > 253 or any(_LABEL.fullmatch(one) is None for one in labels):
        raise ValueError('the host of a URL must be a name of letters, digits, "-", "_" and single dots')
    if _NUMBER.fullmatch(labels[-1]):
        try:
            return str(IPv4Address(host))
        except AddressValueError:
            raise ValueError("an IPv4 address in a URL must be four decimal numbers without leading zeros") from None
    return host.lower()

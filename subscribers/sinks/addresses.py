"""Which addresses a sink may connect to.

A URL that another person configures, or a name whose owner changes its address, must not make the hub send requests to its own
network (server-side request forgery). Every address is checked that a connection is about to use, after the name was resolved.

Sources: the IANA IPv4 and IPv6 Special-Purpose Address Registries (RFC 6890) and the RFC that each row names. Of IPv6, only
2000::/3 is assigned for global unicast (RFC 4291, section 2.4): everything outside it is refused.

Rules: values only, no IO.
"""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

REFUSED_IPV4: tuple[tuple[IPv4Network, str], ...] = tuple(
    (IPv4Network(range_), kind)
    for range_, kind in (
        ("0.0.0.0/8", "unspecified"),  # RFC 1122; Linux connects 0.0.0.0 to the machine itself
        ("10.0.0.0/8", "private"),  # RFC 1918
        ("100.64.0.0/10", "shared"),  # RFC 6598, carrier-grade NAT; one cloud's metadata service is at 100.100.100.200
        ("127.0.0.0/8", "loopback"),  # RFC 1122
        ("168.63.129.16/32", "platform"),  # the host agent of Azure's virtual machines, at an address that is formally public
        ("169.254.0.0/16", "link-local"),  # RFC 3927; the metadata services of most clouds are at 169.254.169.254
        ("172.16.0.0/12", "private"),  # RFC 1918
        ("192.0.0.0/24", "reserved"),  # RFC 6890, protocol assignments; one cloud's metadata service is at 192.0.0.192
        ("192.0.2.0/24", "documentation"),  # RFC 5737
        ("192.88.99.0/24", "reserved"),  # RFC 7526, relays of 6to4
        ("192.168.0.0/16", "private"),  # RFC 1918
        ("198.18.0.0/15", "benchmark"),  # RFC 2544
        ("198.51.100.0/24", "documentation"),  # RFC 5737
        ("203.0.113.0/24", "documentation"),  # RFC 5737
        ("224.0.0.0/4", "multicast"),  # RFC 5771
        ("240.0.0.0/4", "reserved"),  # RFC 1112, and the broadcast address 255.255.255.255
    )
)
"""Ranges of IPv4 that are no destinations on the Internet, and what they are."""

REFUSED_IPV6: tuple[tuple[IPv6Network, str], ...] = tuple(
    (IPv6Network(range_), kind)
    for range_, kind in (
        ("::/128", "unspecified"),  # RFC 4291
        ("::1/128", "loopback"),  # RFC 4291
        ("::/96", "reserved"),  # RFC 4291, "IPv4-compatible" (::127.0.0.1)
        ("::ffff:0:0:0/96", "reserved"),  # RFC 2765, "IPv4-translated"
        ("64:ff9b:1::/48", "reserved"),  # RFC 8215, local translation between IPv4 and IPv6
        ("2001::/23", "reserved"),  # RFC 2928, protocol assignments: Teredo (2001::/32), benchmarks (2001:2::/48), ORCHID
        ("2001:db8::/32", "documentation"),  # RFC 3849
        ("2002::/16", "reserved"),  # RFC 7526, 6to4: has any IPv4 address inside
        ("3fff::/20", "documentation"),  # RFC 9637
        ("fc00::/7", "unique local"),  # RFC 4193; one cloud's metadata service is at fd00:ec2::254
        ("fe80::/10", "link-local"),  # RFC 4291
        ("fec0::/10", "site-local"),  # RFC 3879
        ("ff00::/8", "multicast"),  # RFC 4291
    )
)
"""Ranges of IPv6 that are no destinations on the Internet, and what they are."""

_GLOBAL_UNICAST = IPv6Network("2000::/3")
_IPV4_EMBEDDED = (
    IPv6Network("::ffff:0:0/96"),  # RFC 4291, "IPv4-mapped": a socket of IPv6 connects to the IPv4 address
    IPv6Network("64:ff9b::/96"),  # RFC 6052: how a network without IPv4 (NAT64) reaches an IPv4 address
)


class AddressGuard:
    """Decides which addresses a sink may connect to: those of the public Internet, and those in `allow`.

    `allow`: ranges in CIDR notation ("10.0.0.0/8", "::1/128", or one address) that are opened although they are not public.
    `require_tls`: connections without TLS are refused, except to an address in `allow`. Raises ValueError for an invalid range.
    """

    def __init__(self, allow: Sequence[str] = (), *, require_tls: bool = False) -> None:
        self._allowed = tuple(ip_network(one) for one in allow)
        self._require_tls = require_tls

    def refusal(self, address: str, *, tls: bool = True) -> str | None:
        """Why a connection (with or without `tls`) to this IP address is refused, as a few words; None if it is permitted. Raises
        ValueError if it is not an address."""
        found = ip_address(address)
        if self._is_allowed(found):
            return None
        kind = _kind_of(_embedded(found) or found)
        if kind is not None:
            return f"{kind} address"
        return None if tls or not self._require_tls else "connection without TLS"

    def refusal_of_literal(self, host: str, *, tls: bool = True) -> str | None:
        """As `refusal`, for the host of a URL; None if the host is a name, whose addresses are checked when it is resolved."""
        try:
            return self.refusal(host, tls=tls)
        except ValueError:
            return None

    def _is_allowed(self, address: IPv4Address | IPv6Address) -> bool:
        inner = _embedded(address)
        return any(address in one or (inner is not None and inner in one) for one in self._allowed)


def _embedded(address: IPv4Address | IPv6Address) -> IPv4Address | None:
    """The IPv4 address to which a connection to this address leads, if it is another one."""
    if isinstance(address, IPv6Address) and any(address in one for one in _IPV4_EMBEDDED):
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return None


def _kind_of(address: IPv4Address | IPv6Address) -> str | None:
    """What an address is that is not a public one; None for a public address."""
    if isinstance(address, IPv4Address):
        return next((kind for network, kind in REFUSED_IPV4 if address in network), None)
    kind = next((kind for network, kind in REFUSED_IPV6 if address in network), None)
    return kind if kind is not None or address in _GLOBAL_UNICAST else "reserved"

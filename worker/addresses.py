"""Which addresses a worker may connect to for a stranger: public ones only, whatever form they are written in."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
#: Whether a connection to this address and port may be made.
Policy = Callable[[Address, int], bool]

PORTS = frozenset({80, 443})
_V4_CLOSED = tuple(
    ipaddress.IPv4Network(network)
    for network in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/3",
    )
)
_V6_OPEN = ipaddress.IPv6Network("2000::/3")
_V6_CLOSED = tuple(ipaddress.IPv6Network(network) for network in ("2001::/23", "2001:db8::/32", "3fff::/20"))
_SIX_TO_FOUR = ipaddress.IPv6Network("2002::/16")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def public(address: Address, port: int) -> bool:
    """The product's policy: web ports of addresses that are public after every embedding is unwrapped."""
    return port in PORTS and is_public(address)


def is_public(address: Address) -> bool:
    """Whether the address is on the open internet.

    The tables are our own because those of the standard library differ between patch releases of Python, and
    count multicast as global. IPv6 is closed but for 2000::/3, which leaves out Teredo, documentation and the like.
    """
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _V4_CLOSED)
    inner = embedded(address)
    if inner is not None:
        return is_public(inner)
    return address in _V6_OPEN and not any(address in network for network in _V6_CLOSED) and not _is_isatap(address)


def embedded(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that a mapped, 6to4 or NAT64 address leads to."""
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address in _SIX_TO_FOUR:
        return ipaddress.IPv4Address(int(address) >> 80 & 0xFFFF_FFFF)
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return None


def _is_isatap(address: ipaddress.IPv6Address) -> bool:
    """Whether the last half spells an IPv4 address of the tunnel's own network."""
    return int(address) >> 32 & 0xFDFF_FFFF == 0x0000_5EFE

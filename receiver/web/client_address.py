"""The address of a client: the nearest hop that is not a trusted proxy."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ipaddress import IPv4Address

    from aiohttp.web import BaseRequest

    from receiver.projects import Network

#: Prefix length that an internet provider assigns to one customer; the customer chooses the other bits.
_IPV6_CUSTOMER: Final = 64
_UNKNOWN: Final = "unknown"


class ClientAddresses:
    """Finds the addresses of clients behind trusted proxies, by X-Forwarded-For."""

    def __init__(self, proxies: tuple[Network, ...]) -> None:
        self._proxies = proxies

    def of(self, request: BaseRequest) -> IPv4Address | IPv6Address | None:
        """Return the address of a request's client; None if X-Forwarded-For has an invalid one."""
        hops = [hop.strip() for line in request.headers.getall("X-Forwarded-For", []) for hop in line.split(",")]
        address = _parsed(request.remote or "")
        while hops and address is not None and any(address in network for network in self._proxies):
            address = _parsed(hops.pop())
        return address

    def client(self, request: BaseRequest) -> str:
        """Return the client's name for counts and logs."""
        return client_name(self.of(request))


def client_name(address: IPv4Address | IPv6Address | None) -> str:
    """Return an IPv4 address, or the /64 network of an IPv6 address, as a client's name."""
    if isinstance(address, IPv6Address):
        return str(address.ipv4_mapped or ip_network((address, _IPV6_CUSTOMER), strict=False))
    return _UNKNOWN if address is None else str(address)


def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None

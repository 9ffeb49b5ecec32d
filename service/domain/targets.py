"""Where webhooks may point: to public addresses, and to what the operator has allowed by name or network.

A name is judged by the addresses it resolves to, and the connection goes to an address that was judged: a name that resolves to
something else a moment later changes nothing.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import urlsplit

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

LONGEST_URL = 2048
CARRYING = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("::/96"))
"""NAT64, and IPv4 addresses as IPv6 once wrote them: the last 32 bits are the address meant."""
LOCAL_NAMES = (".localhost", ".local", ".internal", ".localdomain", ".home.arpa")


class NotAllowed(Exception):
    """A target that messages must not be sent to; the text says why."""


@dataclass(frozen=True)
class Allowed:
    """What the operator allows beside public addresses: the setting `webhook_targets`."""

    entries: tuple[str, ...]

    @classmethod
    def read(cls, text: str) -> Allowed:
        """Read names and networks separated by commas."""
        return cls(tuple(entry.strip().lower().rstrip(".") for entry in text.split(",") if entry.strip()))

    @cached_property
    def networks(self) -> list[Network]:
        """The entries that are addresses or networks."""
        return [network for entry in self.entries if (network := _network(entry)) is not None]

    def names(self, host: str) -> bool:
        """Whether a host is allowed by its name."""
        return host.lower().rstrip(".") in self.entries

    def holds(self, address: Address) -> bool:
        """Whether an address lies in a network that is allowed."""
        return any(address.version == network.version and address in network for network in self.networks)


def _network(entry: str) -> Network | None:
    try:
        return ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return None


def host_of(url: str) -> str:
    """The host of a webhook's URL.

    Raises:
        NotAllowed: it is no URL that messages can be sent to.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise NotAllowed("This is not a URL.") from None
    if parts.scheme not in ("http", "https") or not host or port == 0:
        raise NotAllowed("The URL must be https://host/… or http://host/….")
    if "@" in parts.netloc:
        raise NotAllowed("The URL must not hold a user name or a password; messages are signed instead.")
    if len(url) > LONGEST_URL or not url.isascii() or any(character <= " " or character in '\\"<>`' for character in url):
        raise NotAllowed(f"The URL must be of at most {LONGEST_URL} printable ASCII characters; write others percent-encoded.")
    return host


def check(url: str, allowed: Allowed) -> None:
    """Refuse what can be seen to be local without resolving it.

    Raises:
        NotAllowed: the URL cannot be sent to, or names this machine or a private network.
    """
    host = host_of(url)
    if allowed.names(host):
        return
    name = host.lower().rstrip(".")
    if name == "localhost" or name.endswith(LOCAL_NAMES):
        raise NotAllowed(_refusal(host))
    if (address := _literal(host)) is not None:
        judge(host, [address], allowed)


def judge(host: str, addresses: Sequence[Address], allowed: Allowed) -> Address:
    """The address to connect to.

    Args:
        host: as the URL names it.
        addresses: what it resolves to. One that is not allowed condemns them all: nobody mixes such by accident.
        allowed: the operator's word.

    Raises:
        NotAllowed: there is none, or one of them is neither public nor allowed.
    """
    if not addresses:
        raise NotAllowed(f"{host} has no address.")
    if not allowed.names(host) and not all(is_public(one) or allowed.holds(one) for one in addresses):
        raise NotAllowed(_refusal(host))
    return addresses[0]


def is_public(address: Address) -> bool:
    """Whether an address lies in the open internet; one that carries another inside is judged by that."""
    inner = _inside(address)
    if inner is not None:
        return is_public(inner)
    is_site_local = isinstance(address, ipaddress.IPv6Address) and address.is_site_local
    return address.is_global and not address.is_multicast and not is_site_local


def _inside(address: Address) -> Address | None:
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if any(address in network for network in CARRYING):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)


def _literal(host: str) -> Address | None:
    """An address written as one, in any of the spellings that resolvers take: `127.1`, `0x7f000001`, `2130706433`."""
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        pass
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host))
    except (OSError, ValueError):
        return None


def _refusal(host: str) -> str:
    return f"{host} is not a public address. The service's operator can allow it: MESHYARD_WEBHOOK_TARGETS."

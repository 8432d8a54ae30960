"""The client's address behind trusted proxies."""

import functools
import ipaddress
import re
from collections.abc import Iterable
from typing import Any, cast

from django.core.exceptions import ImproperlyConfigured

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# What proxies write: 192.0.2.1, 192.0.2.1:4711, 2001:db8::1, [2001:db8::1], [2001:db8::1]:4711
ENTRY = re.compile(r"(\d+(?:\.\d+){3})(?::\d{1,5})?|\[([0-9a-fA-F:.]+)\](?::\d{1,5})?|([0-9a-fA-F:.]+)")


def networks(name: str, values: Iterable[str]) -> list[Network]:
    """The networks that the setting `name` lists; raises `ImproperlyConfigured`."""
    try:
        found = [_network(value) for value in values]
    except ValueError as problem:
        raise ImproperlyConfigured(
            f"{name} must be addresses and networks such as 10.0.0.7,10.1.0.0/16: {problem}."
        ) from None
    if any(_is_everybody(version, found) for version in (4, 6)):
        raise ImproperlyConfigured(f"{name} must not be everybody: whoever connects could take any address.")
    return found


def _network(text: str) -> Network:
    """A network, or an address as a URL has it: [2001:db8::1]. An IPv4 address in IPv6's form is itself."""
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if "%" in bare:
        raise ValueError(f"{text!r} has a zone, and peers are compared without one")
    found = ipaddress.ip_network(bare)
    mapped = found.network_address.ipv4_mapped if isinstance(found, ipaddress.IPv6Network) else None
    if mapped is not None and found.prefixlen >= 96:
        return ipaddress.ip_network(f"{mapped}/{found.prefixlen - 96}")
    return found


def _is_everybody(version: int, found: list[Network]) -> bool:
    """Whether together they are all addresses, as 0.0.0.0/1 and 128.0.0.0/1 are."""
    all_of_it: Any = ipaddress.collapse_addresses(cast(Any, [one for one in found if one.version == version]))
    return any(network.prefixlen == 0 for network in all_of_it)


def address(text: str) -> Address | None:
    """The address in an entry of X-Forwarded-For, or `None`."""
    match = ENTRY.fullmatch(text)
    try:
        found = ipaddress.ip_address(match[match.lastindex or 0]) if match else None
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found  # ::ffff:192.0.2.1 is the same machine as 192.0.2.1


class Proxies:
    """The proxies whose X-Forwarded-For and X-Forwarded-Proto are believed; false if there are none."""

    def __init__(self, trusted: list[Network]) -> None:
        self.trusted = trusted
        self.is_proxy = functools.lru_cache(maxsize=256)(self._is_proxy)

    def __bool__(self) -> bool:
        return bool(self.trusted)

    def reveal(self, scope: dict[str, Any]) -> None:
        """Replace the proxy by the client in scope["client"] and scope["scheme"].

        A peer without an address, on a Unix socket, is not a trusted proxy; its address becomes an empty text.
        """
        host, port = scope["client"] or ("", 0)
        scope["client"] = (str(address(host) or host), port)
        if not self.is_proxy(host):
            return
        named = [value for name, value in scope["headers"] if name == b"x-forwarded-for"]
        scope["client"] = (self._client(host, b",".join(named).decode("latin-1")), 0)
        if {value for name, value in scope["headers"] if name == b"x-forwarded-proto"} == {b"https"}:
            scope["scheme"] = "https"

    def _client(self, proxy: str, forwarded: str) -> str:
        """The last address in the header that is not itself a trusted proxy.

        The client may have invented everything to the left of it, and every entry that is not an address.
        """
        last = proxy
        while forwarded and self.is_proxy(last):
            forwarded, _, entry = forwarded.rpartition(",")
            found = address(entry.strip(" \t"))
            if found is None:
                break
            last = str(found)
        return last

    def _is_proxy(self, host: str) -> bool:
        found = address(host)
        return found is not None and any(found in network for network in self.trusted)

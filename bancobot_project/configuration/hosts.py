"""Hosts, origins and the base path of settings: put right where only one thing can be meant, else refused."""

import ipaddress
import re
from urllib.parse import urlsplit

A_NAME = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)(?:\.(?!-)[a-z0-9_-]{1,63}(?<!-))*", re.ASCII)
USUAL_PORTS = {"http": 80, "https": 443}
A_BASE_PATH = re.compile(r"(?:/[A-Za-z0-9_-]+)*", re.ASCII)
# The first parts of the service's own addresses. Under /chat, the path /chat could be the page, or the call.
OURS = (
    "admin", "api", "chat", "docs", "health", "messages", "models", "redoc", "schema", "sessions", "static", "turns"
)  # fmt: skip
MAX_BASE_CHARS = 100  # it is in cookies' names too
OF_APPS = ("capacitor", "ionic", "tauri", "app", "chrome-extension", "moz-extension", "safari-web-extension")


def listening_host(text: str) -> str:
    """The address or name to listen on, an IPv6 address without brackets. Raises `ValueError`."""
    host = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if ":" in host:
        return str(ipaddress.IPv6Address(host.replace("%", " ")))  # a zone's name is not for sockets
    return _name(host)


def in_address(host: str) -> str:
    """The host as an address has it: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host


def allowed_host(text: str) -> str:
    """An entry of ALLOWED_HOSTS as Django compares it: without a port, domains with a point. Raises `ValueError`."""
    host = text.lower()
    if host == "*":
        return host
    found = re.fullmatch(r"\[([0-9a-f:.]+)\](?::[0-9]{1,5})?|([0-9a-f:.]*:[0-9a-f.]*:[0-9a-f:.]*)", host)
    if found:
        return f"[{ipaddress.IPv6Address(found[1] or found[2])}]"
    name = re.sub(r":[0-9]{1,5}$", "", host)
    domain = re.match(r"\*?\.", name)
    if "_" in name:  # Django takes no such Host
        raise ValueError
    return ("." if domain else "") + _name(name[domain.end() :] if domain else name)


def origin(text: str, *, domains: bool = False) -> str:
    """An origin as browsers send it. `domains`: its host may be `*.example.com`. Raises `ValueError`."""
    parts = urlsplit(text)
    schemes = USUAL_PORTS if domains else (*USUAL_PORTS, *OF_APPS)
    if parts.scheme not in schemes or parts.path not in ("", "/") or parts.query or parts.fragment or "@" in text:
        raise ValueError
    host = parts.hostname or ""
    star = "*." if domains and host.startswith("*.") else ""
    shown = in_address(str(ipaddress.IPv6Address(host))) if ":" in host else star + _name(host.removeprefix(star))
    port = "" if parts.port in (None, USUAL_PORTS.get(parts.scheme)) else f":{parts.port}"
    return f"{parts.scheme}://{shown}{port}"


def base_path(text: str) -> str:
    """A path such as /bot, or empty; never with a slash at its end. Raises `ValueError`."""
    path = text.rstrip("/")
    path = path if path.startswith("/") or not path else f"/{path}"
    if not A_BASE_PATH.fullmatch(path) or len(path) > MAX_BASE_CHARS or path[1:].partition("/")[0] in OURS:
        raise ValueError
    return path


def _name(text: str) -> str:
    """A host's name in lower case and ASCII, or an IPv4 address."""
    name = text.rstrip(".").lower()
    if not name.isascii():
        name = name.encode("idna").decode()
    if not A_NAME.fullmatch(name) or len(name) > 253:
        raise ValueError
    return name

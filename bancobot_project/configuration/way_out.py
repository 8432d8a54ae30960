"""The way to the provider, as the environment has it: which proxy, and whose certificates are believed.

All of it is read once, at the start. What can't be read stops the start and names the variable.
"""

import os
import re
import ssl
from collections.abc import Callable
from ipaddress import ip_address, ip_network
from pathlib import Path
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies_environment

from django.core.exceptions import ImproperlyConfigured

from web.redaction import hide

FROM_ENVIRONMENT = "environment"
PORTS = {"http": 80, "https": 443}
WORD = r"[A-Za-z0-9._~!$&'()*+,;=%-]*"  # RFC 3986's characters of a user or a password
PROXY = re.compile(
    rf"https?://(?:(?P<user>{WORD})(?::(?P<password>{WORD}))?@)?"
    r"(?:\[(?P<v6>[0-9a-f:.]+)\]|[a-z0-9_.-]*[a-z0-9_-]\.?)(?::(?P<port>[0-9]{1,5}))?/?",
    re.IGNORECASE,
)
EXEMPT = re.compile(r"(?:\[(?P<v6>[^\]]+)\]|(?P<name>[^:\[\]]+))(?::(?P<port>[0-9]+))?")
HASHED_NAME = re.compile(r"[0-9a-f]{8}\.[0-9]+")  # what OpenSSL looks for in a folder


def proxy_for(base_url: str, setting: str) -> str:
    """The URL of the proxy for a provider, empty where there is none. `setting`: UPSTREAM_PROXY's value."""
    if setting.lower() == FROM_ENVIRONMENT:
        return _from_environment(base_url)
    return _checked("UPSTREAM_PROXY", setting, f", or {FROM_ENVIRONMENT}") if setting else ""


def is_exempt(host: str, port: int, exempt: str) -> bool:
    """Whether a list such as NO_PROXY's names this host: as itself, by a domain or a network, or with its port."""
    host = host.rstrip(".").lower()
    return any(_matches(entry, host, port) for entry in re.split(r"[\s,]+", exempt.lower()) if entry)


def check_authorities() -> None:
    """Refuse authorities that could not be loaded: every provider's TLS would fail, and say so only in a turn."""
    checks: tuple[tuple[str, Callable[[str], bool], str], ...] = (
        ("SSL_CERT_FILE", _has_certificates, "a file of certificates in PEM form that can be read"),
        ("SSL_CERT_DIR", _has_hashed_certificates, "a folder of certificates that `openssl rehash` has prepared"),
    )
    for name, is_good, allowed in checks:
        paths = os.environ.get(name, "").split(os.pathsep)
        value = os.pathsep.join(str(Path(path).expanduser()) if path else "" for path in paths)
        if value:
            os.environ[name] = value  # OpenSSL knows no ~
        if value and not is_good(value):
            raise ImproperlyConfigured(f"{name} must be {allowed}, not {value!r}.")


def _from_environment(base_url: str) -> str:
    found, parts = getproxies_environment(), urlsplit(base_url)
    kind = next((kind for kind in (parts.scheme, "all") if found.get(kind, "").strip()), "")
    port = parts.port or PORTS[parts.scheme]
    if not kind or is_exempt(parts.hostname or "", port, found.get("no", "")):
        return ""
    value = found[kind].strip()
    return _checked(f"{kind.upper()}_PROXY", value if "://" in value else f"http://{value}")


def _checked(name: str, value: str, alternative: str = "") -> str:
    found = PROXY.fullmatch(value)
    if not found or not _is_port(found["port"]) or (found["v6"] and _address(found["v6"]) is None):
        raise ImproperlyConfigured(
            f"{name} must be the http:// or https:// address of a proxy, without a path{alternative}. "
            "In a user or password, @ is written %40, : %3A, / %2F, # %23 and % %25."
        )
    if ":" in unquote(found["user"] or ""):
        raise ImproperlyConfigured(f"{name} must not have a colon in the user's name: no proxy could tell its end.")
    secret = found["password"] or found["user"] or ""  # some proxies take a token in the user's place
    hide(secret, unquote(secret))
    return value


def _is_port(port: str | None) -> bool:
    return port is None or 0 < int(port) < 65536


def _address(text: str) -> object:
    try:
        return ip_address(text)
    except ValueError:
        return None


def _matches(entry: str, host: str, port: int) -> bool:
    if entry == "*":
        return True
    address = _address(host)
    if "/" in entry:
        return _is_within(entry, host if address else "")
    found = EXEMPT.fullmatch(entry)  # none: an IPv6 address without brackets
    if found and found["port"] and int(found["port"]) != port:
        return False
    name = (found["v6"] or found["name"]) if found else entry
    if address:
        return _address(name) == address
    name = name.removeprefix("*").strip(".")
    return name != "" and f".{host}".endswith(f".{name}")


def _is_within(network: str, address: str) -> bool:
    try:
        parsed = ip_network(network, strict=False)
    except ValueError:
        raise ImproperlyConfigured(f"NO_PROXY must not have {network!r}, which is no network.") from None
    return address != "" and ip_address(address) in parsed


def _has_certificates(path: str) -> bool:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if not Path(path).is_file():  # a pipe would never end
            return False
        context.load_verify_locations(cafile=path)
    except (OSError, ValueError):  # among them ssl.SSLError; a NUL in the path
        return False
    return context.cert_store_stats()["x509"] > 0


def _has_hashed_certificates(paths: str) -> bool:
    try:
        names = [entry for path in paths.split(os.pathsep) if path for entry in Path(path).iterdir()]
    except (OSError, ValueError):
        return False
    return any(_has_certificates(str(entry)) for entry in names if HASHED_NAME.fullmatch(entry.name))

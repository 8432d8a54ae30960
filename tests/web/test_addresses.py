"""The client behind proxies: TRUSTED_PROXIES, X-Forwarded-For, X-Forwarded-Proto."""

from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from testing.client import Caller
from tests.project.test_server import settings_error
from tests.support.services import Services
from web.addresses import Proxies, networks

PROXIES = ["10.0.0.1", "10.1.0.0/16", "2001:db8:1::/48"]
COUNTED = "SELECT counted FROM access_requestwindow"


def seen(peer: tuple[str, int] | None, *forwarded: str, scheme: str = "", trusted: list[str] = PROXIES) -> Any:
    """The client's address and scheme as the application sees them."""
    headers = [(b"x-forwarded-for", line.encode("latin-1")) for line in forwarded]
    headers += [(b"x-forwarded-proto", line.encode()) for line in scheme.split("|") if line]
    scope: dict[str, Any] = {"client": peer, "scheme": "http", "headers": headers}
    Proxies(networks("TRUSTED_PROXIES", trusted)).reveal(scope)
    return scope["client"][0], scope["scheme"]


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("10.0.0.1", ["192.0.2.7"], "192.0.2.7"),
        ("10.0.0.1", ["203.0.113.9, 192.0.2.7"], "192.0.2.7"),  # the client invented the entry to the left
        ("10.0.0.1", ["10.0.0.1, 192.0.2.7"], "192.0.2.7"),
        ("10.0.0.1", ["192.0.2.7, 10.1.2.3"], "192.0.2.7"),  # two proxies
        ("10.0.0.1", ["203.0.113.9, 192.0.2.7, 10.1.2.3,10.1.2.4"], "192.0.2.7"),
        ("10.0.0.1", ["203.0.113.9", "192.0.2.7"], "192.0.2.7"),  # two headers are one list
        ("10.0.0.1", ["192.0.2.7", "10.1.2.3"], "192.0.2.7"),
        ("10.0.0.1", ["10.1.2.3"], "10.1.2.3"),  # a request of the proxy itself
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["192.0.2.7:51234"], "192.0.2.7"),
        ("10.0.0.1", ["[2001:db8::7]:51234"], "2001:db8::7"),
        ("10.0.0.1", ["[2001:db8::7]"], "2001:db8::7"),
        ("10.0.0.1", ["2001:DB8:0:0::7"], "2001:db8::7"),
        ("10.0.0.1", ["::ffff:192.0.2.7"], "192.0.2.7"),
        ("::ffff:10.0.0.1", ["192.0.2.7"], "192.0.2.7"),
        ("2001:db8:1::5", ["192.0.2.7"], "192.0.2.7"),
        ("10.0.0.1", ["192.0.2.7, ::ffff:10.1.2.3"], "192.0.2.7"),
        ("192.0.2.66", ["203.0.113.9"], "192.0.2.66"),  # not a trusted proxy
        ("::ffff:192.0.2.66", ["203.0.113.9"], "192.0.2.66"),
        ("2001:db8:2::5", ["203.0.113.9"], "2001:db8:2::5"),
        ("fe80::1%eth0", ["203.0.113.9"], "fe80::1%eth0"),
    ],
)
def test_the_client_is_the_last_address_that_no_proxy_has(peer: str, forwarded: list[str], client: str) -> None:
    assert seen((peer, 4711), *forwarded)[0] == client


@pytest.mark.parametrize(
    "entry",
    [
        "", " ", "unknown", "_hidden", "localhost", "192.0.2", "192.0.2.256", "192.0.2.07", "192.0.2.7:port",
        "1.2.3.4:123456", "[192.0.2.7]:1:2", "[2001:db8::7", "2001:db8::7]", "fe80::1%eth0", "10.0.0.0/8", "'; --", "é",
        "192.0.2.7 1",
    ],
)  # fmt: skip
def test_what_is_no_address_ends_the_walk(entry: str) -> None:
    """Nothing to the left of an invalid entry is believed."""
    assert seen(("10.0.0.1", 1), f"203.0.113.9, {entry}")[0] == "10.0.0.1"
    assert seen(("10.0.0.1", 1), f"203.0.113.9, {entry}, 10.1.2.3")[0] == "10.1.2.3"


def test_a_peer_without_an_address_is_believed_nothing() -> None:
    """A Unix socket's."""
    assert seen(None, "203.0.113.9", scheme="https") == ("", "http")


@pytest.mark.parametrize(
    ("peer", "said", "scheme"),
    [
        ("10.0.0.1", "https", "https"), ("10.0.0.1", "http", "http"), ("10.0.0.1", "", "http"),
        ("10.0.0.1", "https|http", "http"), ("10.0.0.1", "https, http", "http"), ("10.0.0.1", "https|https", "https"),
        ("10.0.0.1", "HTTPS;", "http"), ("192.0.2.66", "https", "http"),
    ],
)  # fmt: skip
def test_https_is_believed_of_proxies_that_agree_on_it(peer: str, said: str, scheme: str) -> None:
    assert seen((peer, 1), scheme=said)[1] == scheme


@pytest.mark.parametrize("value", ["*", "proxy.example", "10.0.0.1/8", "10.0.0.0/33", "10.0.0.256", "10.0.0.1:80"])
def test_what_is_no_network_is_refused(value: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"TRUSTED_PROXIES must be addresses and networks such as"):
        networks("TRUSTED_PROXIES", ["10.0.0.1", value])


@pytest.mark.parametrize("value", ["0.0.0.0/0", "::/0"])
def test_everybody_is_no_proxy(value: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="TRUSTED_PROXIES must not be everybody"):
        networks("TRUSTED_PROXIES", [value])


def test_a_bad_proxy_stops_the_start(tmp_path: Any) -> None:
    assert "TRUSTED_PROXIES" in settings_error({"DATA_DIR": str(tmp_path), "TRUSTED_PROXIES": "127.0.0.1,nginx"})


def test_x_forwarded_for_cannot_dodge_the_limit_of_an_address(fronts: Services) -> None:
    service = fronts.shared(ADDRESS_REQUESTS_PER_MINUTE="3")
    statuses = [
        Caller(service, X_Forwarded_For=f"203.0.113.{n}", Forwarded=f"for=203.0.113.{n}").get("/sessions").status_code
        for n in range(6)
    ]
    assert statuses == [200] * 3 + [429] * 3
    assert service.sql(COUNTED) == [("address:127.0.0.1",)]


def test_behind_a_trusted_proxy_everybody_has_an_address_of_their_own(fronts: Services) -> None:
    service = fronts.shared(ADDRESS_REQUESTS_PER_MINUTE="2", TRUSTED_PROXIES="127.0.0.1,10.0.0.0/8", HTTPS="true")
    first, second = (Caller(service, X_Forwarded_For=f"1.1.1.1, 192.0.2.{n}, 10.9.9.9") for n in (1, 2))
    assert [first.get("/sessions").status_code for _ in range(3)] == [200, 200, 429]
    assert second.get("/sessions").status_code == 200
    assert sorted(service.sql(COUNTED)) == [("address:192.0.2.1",), ("address:192.0.2.2",)]
    for path in ("/health", "/sessions", "/admin/login/"):
        secure = Caller(service, X_Forwarded_Proto="https", X_Forwarded_For="192.0.2.3").get(path)
        assert secure.headers["strict-transport-security"] == "max-age=31536000"
        assert "strict-transport-security" not in Caller(service, X_Forwarded_For="192.0.2.4").get(path).headers

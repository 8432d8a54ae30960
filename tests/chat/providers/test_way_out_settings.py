"""What the settings say of the way to the provider, and what of it stops the start."""

import ssl
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from bancobot_project.configuration.way_out import check_authorities, is_exempt, proxy_for
from testing.upstream import Upstream
from tests.support.replies import provider_for
from web.redaction import mask

CERTIFICATES = Path(__file__).parent / "certificates"
AUTHORITY = CERTIFICATES / "authority.pem"
PROVIDER = "https://provider.test/v1"
VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*VARIABLES, *map(str.lower, VARIABLES), "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)


GOOD = ["http://proxy:3128", "https://proxy.example", "HTTP://ana:p%40ss@10.0.0.1:8080/", "http://[::1]:3128"]
BAD = [
    "socks5://proxy:1080", "proxy:3128", "https://@", "http://:3128", "http://proxy:0", "http://proxy:70000",
    "http://proxy:x", "http://proxy/path", "http://proxy?x=1", "http://proxy#x", "http://a b", "http://[::g]:1",
    "http://ana:s#nha@proxy", "http://ana:s@nha@proxy", "http://an%3Aa:senha@proxy", "none", "direct://",
    "environment:",
]  # fmt: skip


@pytest.mark.parametrize("value", GOOD)
def test_a_proxy_is_the_address_that_the_setting_names(upstream: Upstream, value: str) -> None:
    assert proxy_for(PROVIDER, value) == value
    provider_for(upstream, proxy=value)


@pytest.mark.parametrize("value", BAD)
def test_what_is_no_address_of_a_proxy_stops_the_start_and_is_not_shown(value: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"^UPSTREAM_PROXY must ") as problem:
        proxy_for(PROVIDER, value)
    assert value not in str(problem.value)
    assert "nha" not in str(problem.value)


def test_without_the_setting_there_is_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:1")
    assert proxy_for(PROVIDER, "") == ""


def test_the_password_of_a_proxy_is_masked_in_the_log() -> None:
    proxy_for(PROVIDER, "http://ana:s%40nha-muito-secreta@proxy")
    assert mask("said s@nha-muito-secreta and s%40nha-muito-secreta") == "said *** and ***"


FROM_ENVIRONMENT = [
    ({"HTTPS_PROXY": "http://a:1"}, PROVIDER, "http://a:1"),
    ({"https_proxy": "a:1", "HTTPS_PROXY": "http://b"}, PROVIDER, "http://a:1"),
    ({"HTTP_PROXY": "http://a:1"}, PROVIDER, ""),
    ({"HTTP_PROXY": "http://a:1"}, "http://llm.test/v1", "http://a:1"),
    ({"ALL_PROXY": "http://a:1"}, PROVIDER, "http://a:1"),
    ({"ALL_PROXY": "http://a:1", "HTTPS_PROXY": "http://b:1"}, PROVIDER, "http://b:1"),
    ({"ALL_PROXY": "http://a:1", "NO_PROXY": ".test"}, PROVIDER, ""),
    ({"ALL_PROXY": "http://a:1", "no_proxy": "provider.test:443"}, PROVIDER, ""),
    ({"ALL_PROXY": "http://a:1", "NO_PROXY": "provider.test:8443"}, PROVIDER, "http://a:1"),
    ({"HTTPS_PROXY": "socks5://a:1", "NO_PROXY": "*"}, PROVIDER, ""),
    ({}, PROVIDER, ""),
]


@pytest.mark.parametrize(("variables", "base_url", "proxy"), FROM_ENVIRONMENT)
@pytest.mark.parametrize("word", ["environment", "Environment"])
def test_the_environment_decides_where_the_setting_says_so(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], base_url: str, proxy: str, word: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert proxy_for(base_url, word) == proxy


@pytest.mark.parametrize(
    ("name", "value"),
    [("HTTPS_PROXY", "socks5h://a:1"), ("ALL_PROXY", "http://a:b:c"), ("NO_PROXY", "10.0.0.0/33"), ("NO_PROXY", "a/b")],
)
def test_a_variable_of_the_environment_that_cannot_be_read_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv("HTTPS_PROXY" if name == "NO_PROXY" else name, "http://proxy:1")
    monkeypatch.setenv(name, value)
    with pytest.raises(ImproperlyConfigured, match=f"^{name} must "):
        proxy_for(PROVIDER, "environment")


EXEMPT = [
    ("llm.bank.example", "bank.example", True),
    ("llm.bank.example", ".bank.example", True),
    ("llm.bank.example", "*.bank.example", True),
    ("LLM.bank.example.", " x.test , BANK.example ", True),
    ("llm.bank.example", "x.test bank.example", True),
    ("bank.example", ".bank.example", True),
    ("mybank.example", "bank.example", False),
    ("bank.example", "llm.bank.example", False),
    ("llm.bank.example", "*", True),
    ("llm.bank.example", "", False),
    ("llm.bank.example", " , .,*.", False),
    ("bank.example", "bank.example:8443", True),
    ("bank.example", "bank.example:443", False),
    ("10.1.2.3", "10.0.0.0/8", True),
    ("10.1.2.3", "10.1.2.9/24", True),
    ("11.1.2.3", "10.0.0.0/8", False),
    ("10.1.2.3", "10.1.2.3:8443", True),
    ("10.1.2.3", "1.2.3", False),
    ("10.1.2.3", "::/0", False),
    ("fd00::1", "fd00::/8", True),
    ("fd00::1", "[FD00::1]:8443", True),
    ("fd00::1", "fd00:0::1", True),
    ("fd00::1", "[fd00::1]:1", False),
    ("bank.example", "10.0.0.0/8", False),
]


@pytest.mark.parametrize(("host", "exempt", "found"), EXEMPT)
def test_no_proxy_knows_domains_ports_addresses_and_networks(host: str, exempt: str, found: bool) -> None:
    assert is_exempt(host, 8443, exempt) == found


def a_file(folder: Path, content: bytes) -> str:
    path = folder / "authorities.pem"
    path.write_bytes(content)
    return str(path)


WRONG = {
    "empty": b"",
    "words": b"no certificates here\n",
    "half": AUTHORITY.read_bytes()[:200],
    "a key alone": (CERTIFICATES / "server.pem").read_bytes().partition(b"-----BEGIN CERTIFICATE")[0],
    "DER": ssl.PEM_cert_to_DER_cert(AUTHORITY.read_text()),
    "a good one and garbage": AUTHORITY.read_bytes()
    + b"-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n",
}


@pytest.mark.parametrize("name", [*WRONG, "missing", "a folder", "NUL"])
def test_a_wrong_file_of_authorities_stops_the_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    others = {"missing": str(tmp_path / "missing.pem"), "a folder": str(tmp_path), "NUL": " "}
    monkeypatch.setenv("SSL_CERT_FILE", others.get(name) or a_file(tmp_path, WRONG[name]))
    with pytest.raises(ImproperlyConfigured, match=r"^SSL_CERT_FILE must be a file of certificates"):
        check_authorities()

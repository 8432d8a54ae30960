"""The way to the provider: through proxies, and with authorities of one's own."""

import asyncio
import base64
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from bancobot_project.configuration.way_out import check_authorities
from chat.providers import ChatMessage, Options
from testing import scenarios
from testing.client import Caller, problem
from testing.environment import free_port
from testing.service import Service
from testing.upstream import Upstream
from tests.support.proxy import Proxy
from tests.support.replies import ask, collect, list_models, provider_for
from tests.support.services import Services

CERTIFICATES = Path(__file__).parent / "certificates"
AUTHORITY = CERTIFICATES / "authority.pem"
PROVIDER = "https://provider.test/v1"
LOGIN, AUTHORIZED = "ana:s%40nha-secreta-%C3%A7@", base64.b64encode("ana:s@nha-secreta-ç".encode()).decode()
HASHED = "18fe9691.0"  # the name that `openssl rehash` gives the authority


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)


def server_tls() -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(CERTIFICATES / "server.pem")
    return context


@pytest.fixture(scope="module")
def secure() -> Iterator[Upstream]:
    with Upstream(tls=server_tls()) as upstream:
        yield upstream


@pytest.fixture(scope="module")
def the_proxy() -> Iterator[Proxy]:
    with Proxy() as proxy:
        yield proxy


@pytest.fixture
def proxy(the_proxy: Proxy, secure: Upstream) -> Proxy:
    the_proxy.clear()
    secure.clear()
    return the_proxy


@pytest.fixture
def trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(AUTHORITY))


@pytest.mark.parametrize("reply", [scenarios.ok("Olá"), scenarios.plain_json("Olá")], ids=["stream", "JSON"])
@pytest.mark.parametrize("login", ["", LOGIN, "so-um-token@"])
def test_a_tunnel_leads_through_the_proxy_to_a_provider_with_tls(
    trusted: None, secure: Upstream, proxy: Proxy, reply: scenarios.Scenario, login: str
) -> None:
    secure.script(reply)
    base_url = f"https://provider.test:{secure.port}/v1"  # a name that only the proxy can resolve
    assert ask(provider_for(secure, base_url=base_url, proxy=proxy.url(login))).text == "Olá"
    (head,) = proxy.heads
    assert head.startswith(f"CONNECT provider.test:{secure.port} HTTP/1.1\r\n")
    assert ("proxy-authorization: basic" in head.lower()) == bool(login)
    assert "server-key" not in head
    assert secure.requests[0].headers["authorization"] == "Bearer server-key"
    assert not any(name.startswith("proxy-") for name in secure.requests[0].headers)


def test_the_user_and_the_password_reach_the_proxy_decoded(trusted: None, secure: Upstream, proxy: Proxy) -> None:
    ask(provider_for(secure, proxy=proxy.url(LOGIN)))
    assert f"Basic {AUTHORIZED}\r\n" in proxy.heads[0]


def test_a_proxy_may_speak_tls_itself(trusted: None, secure: Upstream) -> None:
    secure.clear()
    with Proxy(server_tls()) as proxy:
        assert ask(provider_for(secure, proxy=proxy.url(LOGIN))).text == "Eco (1): Oi"
        assert f"Basic {AUTHORIZED}\r\n" in proxy.heads[0]


def test_a_proxy_that_says_nothing_is_a_time_out(secure: Upstream) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        proxy = f"http://127.0.0.1:{silent.getsockname()[1]}"
        failure = ask(provider_for(secure, proxy=proxy, connect_timeout=0.1, retries=0)).failure
    assert (failure.code, failure.may_have_been_billed, failure.connected) == ("provider_timeout", False, False)


def test_a_large_message_and_the_list_go_through_the_proxy(trusted: None, secure: Upstream, proxy: Proxy) -> None:
    assert ask(provider_for(secure, proxy=proxy.url()), "x" * 300_000).text.endswith("x")
    assert len(list_models(provider_for(secure, proxy=proxy.url()))) == 2


def test_without_tls_each_request_names_the_whole_address_and_the_login(upstream: Upstream, proxy: Proxy) -> None:
    async def run() -> list[str]:
        provider = provider_for(upstream, proxy=proxy.url(LOGIN))
        question, options = [ChatMessage("user", "Oi")], Options("")
        texts = [(await collect(provider, question, options)).text for _ in range(2)]  # both on the same connection
        await provider.aclose()
        return texts

    assert asyncio.run(run()) == ["Eco (1): Oi"] * 2
    for head in proxy.heads:
        assert head.startswith(f"POST {upstream.url}/chat/completions HTTP/1.1\r\n")
        assert f"roxy-authorization: Basic {AUTHORIZED}\r\n" in head
    assert not any(name.startswith("proxy-") for request in upstream.requests for name in request.headers)
    assert len(proxy.heads) == 2


REFUSALS = {
    "asks for a login": (b"HTTP/1.1 407 Who\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n", "407", 1),
    "forbids": (b"HTTP/1.1 403 No\r\nContent-Length: 5\r\n\r\nwords", "403", 1),
    "finds nobody": (b"HTTP/1.1 502 Bad\r\nContent-Length: 0\r\n\r\n", "502", 2),
    "is overloaded": (b"HTTP/1.0 503 Busy\r\n\r\n", "503", 2),
    "sends elsewhere": (b"HTTP/1.1 302 Found\r\nLocation: https://evil.test/\r\nContent-Length: 0\r\n\r\n", "302", 1),
    "hangs up": (b"", "proxy", 2),
    "hangs up behind the tunnel": (b"HTTP/1.1 200 OK\r\n\r\n", "proxy", 2),
    "sends a page in its place": (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwords", "proxy", 2),
    "speaks no HTTP": (b"220 mail ready\r\n\r\n", "proxy", 2),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refusal_of_the_proxy_says_so_and_is_not_billed(secure: Upstream, proxy: Proxy, name: str) -> None:
    proxy.answer, said, attempts = REFUSALS[name]
    failure = ask(provider_for(secure, base_url=PROVIDER, proxy=proxy.url(LOGIN), retries=1)).failure
    assert (failure.code, failure.may_have_been_billed, failure.connected) == ("provider_unreachable", False, False)
    assert "proxy" in failure.detail
    assert said in failure.detail
    assert "senha" not in failure.detail
    assert len(proxy.heads) == attempts
    assert secure.count == 0


def test_a_proxy_without_tls_that_asks_for_a_login(upstream: Upstream, proxy: Proxy) -> None:
    proxy.answer = REFUSALS["asks for a login"][0]
    failure = ask(provider_for(upstream, proxy=proxy.url())).failure
    assert (failure.code, failure.detail) == ("provider_unreachable", "HTTP 407 from the proxy")
    assert (failure.may_have_been_billed, failure.connected, upstream.count) == (False, False, 0)


@pytest.mark.parametrize("base_url", ["http://provider.test/v1", PROVIDER])
def test_a_proxy_that_is_not_there(upstream: Upstream, base_url: str) -> None:
    dead = f"http://{LOGIN}127.0.0.1:{free_port()}"
    failure = ask(provider_for(upstream, base_url=base_url, proxy=dead, retries=0)).failure
    assert (failure.code, failure.may_have_been_billed, failure.connected) == ("provider_unreachable", False, False)
    assert "proxy" in failure.detail


@pytest.mark.parametrize("through", [True, False])
def test_a_certificate_that_nobody_vouches_for_is_not_tried_again(
    secure: Upstream, proxy: Proxy, through: bool
) -> None:
    before = secure.connections
    failure = ask(provider_for(secure, proxy=proxy.url() if through else "", retries=2)).failure
    assert (failure.code, failure.may_have_been_billed, failure.connected) == ("provider_unreachable", False, False)
    assert "certificate" in failure.detail
    assert (secure.connections - before <= 1, secure.count) == (True, 0)


def test_a_certificate_for_another_host_is_refused(trusted: None, secure: Upstream, proxy: Proxy) -> None:
    base_url = f"https://other.test:{secure.port}/v1"
    assert "certificate" in ask(provider_for(secure, base_url=base_url, proxy=proxy.url())).failure.detail


def test_authorities_of_ones_own_are_believed(trusted: None, secure: Upstream, proxy: Proxy) -> None:
    check_authorities()
    assert ask(provider_for(secure)).text == "Eco (1): Oi"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(upstream: Upstream, proxy: Proxy, status: int) -> None:
    upstream.script(scenarios.status(status, b"", {"Location": f"{upstream.url}/elsewhere"}))
    failure = ask(provider_for(upstream, proxy=proxy.url())).failure
    assert (failure.detail, upstream.count) == (f"HTTP {status}", 1)


def test_a_folder_of_authorities_needs_their_hashed_names(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, secure: Upstream, proxy: Proxy
) -> None:
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    (tmp_path / "authority.pem").write_bytes(AUTHORITY.read_bytes())
    with pytest.raises(ImproperlyConfigured, match=r"^SSL_CERT_DIR must be a folder"):
        check_authorities()
    (tmp_path / HASHED).write_bytes(AUTHORITY.read_bytes())
    check_authorities()
    assert ask(provider_for(secure)).text == "Eco (1): Oi"
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "missing"))
    with pytest.raises(ImproperlyConfigured, match=r"^SSL_CERT_DIR must be a folder"):
        check_authorities()


@pytest.fixture(scope="module")
def behind(fronts: Services, secure: Upstream, the_proxy: Proxy) -> Service:
    """A service that knows the provider by a name that only the proxy resolves."""
    return fronts.shared(
        OPENROUTER_BASE_URL=f"https://provider.test:{secure.port}/v1",
        UPSTREAM_PROXY="environment",
        HTTPS_PROXY=the_proxy.url(LOGIN),
        NO_PROXY="127.0.0.0/8",
        SSL_CERT_FILE=str(AUTHORITY),
    )


def test_a_turn_goes_through_the_proxy_and_its_refusal_is_told_in_the_log_alone(
    behind: Service, secure: Upstream, proxy: Proxy
) -> None:
    caller = Caller(behind)
    proxy.answer = REFUSALS["asks for a login"][0]
    for streams in (False, True):
        error = problem(caller.post("/chat", message="Oi", stream=streams), 502, "provider_unreachable")
        assert error["may_have_been_billed"] is False
        assert "407" not in str(error)
    proxy.answer = None
    assert caller.chat("Oi")["response"] == "Eco (1): Oi"
    assert caller.stream("/chat", message="Oi")[-1].name == "done"
    assert all(head.startswith("CONNECT provider.test:") for head in proxy.heads)
    assert "HTTP 407 from the proxy" in behind.log()
    assert "nha-secreta" not in behind.log()

"""Proxies with the configurations of docs/deploy before real services."""

import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from testing import proxies
from testing.client import PATIENCE, Caller
from testing.proxies import Proxy
from testing.service import Service
from testing.upstream import Upstream
from tests.support.services import Services

Start = Callable[..., Proxy]
ANY_CERTIFICATE = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
ANY_CERTIFICATE.check_hostname = False
ANY_CERTIFICATE.verify_mode = ssl.CERT_NONE
PRODUCTION = {
    "ENVIRONMENT": "production",
    "ACCESS_MODE": "keys+byok",
    "ALLOWED_HOSTS": "localhost,127.0.0.1",
    "TRUSTED_PROXIES": "127.0.0.1",
}


@pytest.fixture(scope="session")
def start(_services: Services) -> Iterator[Start]:
    """Starts a proxy of a kind: `start("nginx", service, (old, new))`. It ends with the process of tests."""
    with ExitStack() as started:

        def begin(kind: str, service: Service, *changes: tuple[str, str]) -> Proxy:
            if not getattr(proxies, kind.upper()):
                pytest.skip(f"{kind} was not found")
            make: Callable[..., Proxy] = getattr(proxies, kind)
            return started.enter_context(make(_services.directory(), service.port, *changes))

        yield begin


@pytest.fixture
def service(services: Services, upstream: Upstream) -> Service:
    """As in production, and the same for all tests that want no path."""
    return services.shared(**PRODUCTION)


@pytest.fixture(scope="session")
def _fronts() -> dict[str, Proxy]:
    return {}


@pytest.fixture(params=["nginx", "caddy"])
def front(request: pytest.FixtureRequest, start: Start, service: Service, _fronts: dict[str, Proxy]) -> Proxy:
    """Each of the proxies before `service`, just as it is documented."""
    if request.param not in _fronts:
        _fronts[request.param] = start(request.param, service)
    return _fronts[request.param]


class Through(Caller):
    """A caller with a provider's key at an address of a proxy, whose certificate is of nobody."""

    def __init__(self, url: str, key: str | None = None, **options: Any) -> None:
        place: Any = SimpleNamespace(url=url)
        super().__init__(place, key)
        self.options = options

    @contextmanager
    def connection(self) -> Iterator[httpx.Client]:
        transport = httpx.HTTPTransport(verify=ANY_CERTIFICATE, **self.options)
        with httpx.Client(
            base_url=self.service.url, headers=self.headers, timeout=PATIENCE, transport=transport
        ) as client:
            yield client

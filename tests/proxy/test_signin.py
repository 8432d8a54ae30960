"""nginx and Caddy with a sign-in of their own before the service."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from testing import proxies
from testing.client import good, new_id, problem
from testing.upstream import Upstream
from tests.proxy.conftest import Start, Through
from tests.support.services import Services

Asks = Callable[[Path], tuple[str, str]]
BASIC = "Basic YW5hOnNlbmhh"  # ana and senha


def nginx_asks(directory: Path) -> tuple[str, str]:
    users = directory / "users"
    users.write_text("ana:{PLAIN}senha\n")
    return "location / {", f'auth_basic "BancoBot"; auth_basic_user_file {users}; location / {{'


def caddy_asks(directory: Path) -> tuple[str, str]:
    assert proxies.CADDY
    hashing = [proxies.CADDY, "hash-password", "--plaintext", "senha"]
    hashed = subprocess.run(hashing, capture_output=True, text=True, check=True).stdout.strip()
    return "\treverse_proxy 127", f"\tbasicauth {{\n\t\tana {hashed}\n\t}}\n\treverse_proxy 127"


@pytest.mark.parametrize(("kind", "asks"), [("nginx", nginx_asks), ("caddy", caddy_asks)])
def test_basic_lets_keys_through_in_their_own_header_and_an_empty_one_for_none(
    services: Services, upstream: Upstream, start: Start, tmp_path: Path, kind: str, asks: Asks
) -> None:
    if not getattr(proxies, kind.upper()):
        pytest.skip(f"{kind} was not found")
    caller, session = Through(start(kind, services.shared(), asks(tmp_path)).url, ""), new_id()
    for path in ("/sessions", "/"):
        outside = caller.get(path)
        assert (outside.status_code, "not_authenticated" in outside.text) == (401, False)
    caller.headers = {"Authorization": BASIC}
    problem(caller.get("/sessions"), 401, "not_authenticated")
    for key, called_with in (("", "Bearer test-key"), ("sk-da-ana", "Bearer sk-da-ana")):
        caller.headers = {"Authorization": BASIC, "X-API-Key": key}
        assert caller.chat("Oi", session_id=session)["response"] == "Eco (1): Oi"
        assert upstream.requests[-1].headers["authorization"] == called_with
        good(caller.get(f"/sessions/{session}"))

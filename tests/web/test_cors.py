"""Pages of other origins: only the configured ones may call the API, and nobody gets a cookie."""

import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from testing.client import Caller
from testing.environment import ROOT, clean_environment, free_port
from testing.service import Service
from tests.support.services import Services

MAKE_KEY = (
    "from access.models import Client; from access.keyring import new_key; "
    "print(new_key(Client.objects.create(name='pagina'))[1])"
)


SITE = free_port()


@pytest.fixture(scope="module")
def guarded(fronts: Services) -> Service:
    """A service that asks for a key and lets in the pages of two origins."""
    origins = f"http://127.0.0.1:{SITE},https://www.bank.example"
    return fronts.shared(ACCESS_MODE="keys", CORS_ALLOWED_ORIGINS=origins)


@pytest.fixture(scope="module")
def key(guarded: Service) -> str:
    """A client's key, made once: a command takes a second."""
    made = guarded.manage("shell", "-v", "0", "-c", MAKE_KEY)
    assert made.returncode == 0, made.stderr
    return made.stdout.strip()


def placed(origin: str) -> str:
    """SITE's port differs in every process, but tests' names must not."""
    return origin.format(site=SITE)


# Who may


def both_answers(service: Service, origin: str, method: str, path: str) -> list[httpx.Response]:
    """To a browser's question whether a page of this origin may ask, and to the request itself."""
    asked = {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "authorization",
    }
    caller = Caller(service, key="")
    return [caller.call("OPTIONS", path, headers=asked), caller.call(method, path, headers={"Origin": origin})]


@pytest.mark.parametrize("origin", ["http://127.0.0.1:{site}", "https://www.bank.example"])
@pytest.mark.parametrize(("method", "path"), [("GET", "/sessions"), ("POST", "/chat"), ("GET", "/turns/x/events")])
def test_a_named_origin_may(guarded: Service, origin: str, method: str, path: str) -> None:
    origin = placed(origin)
    for answer in both_answers(guarded, origin, method, path):
        assert answer.headers["access-control-allow-origin"] == origin
        assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize(
    "origin",
    [
        "http://localhost", "http://localhost:5173", "http://127.0.0.1:8080", "http://localhost:{site}",
        "http://127.0.0.1:{site}.evil.example", "http://www.bank.example", "https://www.bank.example:444",
        "https://www.bank.example.evil.example", "https://xwww.bank.example", "https://bank.example", "null", "",
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/sessions"), ("POST", "/chat"), ("GET", "/health"), ("GET", "/docs"), ("GET", "/schema")],
)
def test_every_other_origin_may_not(guarded: Service, origin: str, method: str, path: str) -> None:
    """If keys are required, pages on this machine must be named too."""
    origin = placed(origin)
    for answer in both_answers(guarded, origin, method, path):
        assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    ("mode", "open_to_this_machine"), [("open", True), ("keys", False), ("byok", False), ("keys+byok", False)]
)
def test_pages_on_this_machine_are_let_in_by_the_open_mode_alone(
    tmp_path: Path, mode: str, open_to_this_machine: bool
) -> None:
    show = "from bancobot_project import settings; print(bool(settings.CORS_ALLOWED_ORIGIN_REGEXES))"
    environment = clean_environment(DATA_DIR=str(tmp_path), ACCESS_MODE=mode)
    shown = subprocess.run(
        [sys.executable, "-c", show], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert shown.stdout.strip() == str(open_to_this_machine)


def test_no_page_elsewhere_may_load_the_static_files(guarded: Service) -> None:
    answer = Caller(guarded, key="").call("GET", "/static/admin/css/base.css", headers={"Origin": "http://localhost"})
    assert answer.status_code == 200
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/sessions"), ("POST", "/chat"), ("GET", "/models"), ("GET", "/health"), ("GET", "/docs"),
        ("GET", "/redoc"), ("GET", "/docs?script="), ("GET", "/schema"), ("GET", "/nada"), ("POST", "/sessions/x"),
        ("DELETE", "/sessions/x"), ("GET", "/static/admin/css/base.css"), ("OPTIONS", "/chat"),
        ("GET", "/sessions?q=%00"), ("GET", "/turns/x/events"),
    ],
)  # fmt: skip
def test_no_answer_sets_a_cookie(guarded: Service, key: str, method: str, path: str) -> None:
    sent = {"Cookie": "sessionid=x; csrftoken=y; messages=z", "Origin": "https://www.bank.example"}
    for caller in (Caller(guarded, key=""), Caller(guarded, key)):
        assert "set-cookie" not in caller.call(method, path, headers=sent).headers

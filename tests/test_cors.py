"""Pages of other origins: the configured ones may call the API, all others may not, and nobody gets a cookie."""

import json
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests import scenarios
from tests.browser import Page, browser, needs_browser
from tests.client import Caller, service_with
from tests.environment import ROOT, clean_environment
from tests.service import Service, free_port
from tests.upstream import Upstream

pytestmark = pytest.mark.no_database

MAKE_KEY = (
    "from access.models import Client; from access.keyring import new_key; "
    "print(new_key(Client.objects.create(name='pagina'))[1])"
)


def documented_files() -> dict[str, tuple[str, bytes]]:
    """The example of docs/front-end.md as it stands there: address → content type, content."""
    page = (ROOT / "docs/front-end.md").read_text()
    found = {kind: re.findall(rf"```{kind}\n(.*?)```", page, re.DOTALL) for kind in ("js", "html")}
    assert [len(blocks) for blocks in found.values()] == [1, 1]
    return {
        "/": ("text/html; charset=utf-8", found["html"][0].encode()),
        "/bancobot.js": ("text/javascript", found["js"][0].encode()),
    }


@contextmanager
def web_site(port: int) -> Iterator[str]:
    """Somebody's web server with the documented page; gives its origin."""
    files = documented_files()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            kind, content = files.get(self.path, ("text/plain", b""))
            self.send_response(200 if content else 404)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.shutdown()
            thread.join()


class BreakingLine:
    """A way to the service that cuts a connection as soon as `cut_after` has passed on it, once."""

    def __init__(self, service_port: int) -> None:
        self.service_port = service_port
        self.cut_after = b""
        self.cuts = 0
        self.sides: list[socket.socket] = []
        self.server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.server.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self.server.accept()
                service = socket.create_connection(("127.0.0.1", self.service_port))
                self.sides += [client, service]
                threading.Thread(target=self._pass, args=(client, service, False), daemon=True).start()
                threading.Thread(target=self._pass, args=(service, client, True), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, answer: bool) -> None:
        passed = b""
        with suppress(OSError):
            while data := source.recv(65_536):
                target.sendall(data)
                passed += data
                if answer and self.cut_after and self.cut_after in passed:
                    self.cut_after, self.cuts = b"", self.cuts + 1
                    break
        for side in (source, target):
            with suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> "BreakingLine":
        return self

    def __exit__(self, *problem: object) -> None:
        for side in (self.server, *self.sides):
            side.close()


SITE, OTHER_SITE = free_port(), free_port()


@pytest.fixture(scope="module")
def _guarded(_upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    origins = f"http://127.0.0.1:{SITE},https://www.bank.example"
    with service_with(tmp_path_factory, _upstream, ACCESS_MODE="keys", CORS_ALLOWED_ORIGINS=origins) as service:
        yield service


@pytest.fixture
def guarded(_guarded: Service, upstream: Upstream) -> Service:
    """A service that asks for a key and lets in the pages of two origins."""
    return _guarded


@pytest.fixture(scope="module")
def key(_guarded: Service) -> str:
    """A client's key, made once: a command takes a second."""
    made = _guarded.manage("shell", "-v", "0", "-c", MAKE_KEY)
    assert made.returncode == 0, made.stderr
    return made.stdout.strip()


def placed(origin: str) -> str:
    """SITE's port is another one in every process, which the tests' names must not be."""
    return origin.format(site=SITE)


# Who may


@pytest.mark.parametrize("origin", ["http://127.0.0.1:{site}", "https://www.bank.example"])
@pytest.mark.parametrize(("method", "path"), [("GET", "/sessions"), ("POST", "/chat"), ("GET", "/turns/x/events")])
def test_a_named_origin_may(guarded: Service, origin: str, method: str, path: str) -> None:
    origin = placed(origin)
    asked = {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "authorization",
    }
    for answer in (
        Caller(guarded, key="").call("OPTIONS", path, headers=asked),
        Caller(guarded, key="").call(method, path, headers={"Origin": origin}),
    ):
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
    """Pages on this machine are no exception where a key is asked for."""
    origin = placed(origin)
    asked = {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "authorization",
    }
    for answer in (
        Caller(guarded, key="").call("OPTIONS", path, headers=asked),
        Caller(guarded, key="").call(method, path, headers={"Origin": origin}),
    ):
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


# The documented page


def say(page: Page, address: str, key: str, message: str) -> None:
    fields = {"address": address, "key": key, "message": message}
    for name, value in fields.items():
        page.fill(f"[name={name}]", value)
    page.click("button")


def told(page: Page) -> str:
    """What the page says about the answer, when it is over."""
    return str(page.wait_for("!document.querySelector('form').inert && document.querySelector('#about').textContent"))


def reply(page: Page) -> str:
    return str(page.run("document.querySelector('#reply').textContent"))


@needs_browser
def test_the_documented_page_talks_to_the_service(
    guarded: Service, key: str, upstream: Upstream, tmp_path: Path
) -> None:
    gate = threading.Event()
    with BreakingLine(guarded.port) as line, web_site(SITE) as site, browser(tmp_path) as page:
        page.go(site)

        upstream.reply("Olá! <img src=x onerror=alert(1)>")
        page.click("[name=whole]")
        say(page, line.url, key, "Oi")
        assert (told(page), reply(page)) == ("15 tokens", "Olá! <img src=x onerror=alert(1)>")

        line.cut_after = json.dumps({"text": "O começo "}, ensure_ascii=False).encode()[1:-1]
        upstream.script(scenarios.gated(gate, scenarios.rest("e o fim"), after="O começo "))
        page.click("[name=whole]")
        say(page, line.url, key, "E depois?")
        page.wait_for("document.querySelector('#reply').textContent")
        upstream.wait_until(lambda: line.cuts == 1)
        gate.set()
        assert told(page).endswith("tokens")
        assert reply(page) == "O começo e o fim"
        assert len(upstream.requests[1].messages) == 3  # it went on with the session

        say(page, line.url, "bb_errada", "Oi")
        assert told(page).endswith("(invalid_api_key)")
        assert page.dialogs == []
    assert upstream.count == 2


@needs_browser
def test_the_same_page_of_another_origin_is_refused(
    guarded: Service, key: str, upstream: Upstream, tmp_path: Path
) -> None:
    with web_site(OTHER_SITE) as site, browser(tmp_path) as page:
        page.go(site)
        page.click("[name=whole]")
        say(page, guarded.url, key, "Oi")
        assert told(page).endswith("(no answer)")
        assert any("blocked by CORS policy" in complaint for complaint in page.complaints)
    assert upstream.count == 0

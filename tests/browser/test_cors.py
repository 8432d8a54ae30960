"""The page of docs/front-end.md, on another origin than the service, in a real browser."""

import json
import re
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from testing import scenarios
from testing.environment import ROOT
from testing.service import Service
from testing.upstream import Upstream
from tests.support.browser import Watch
from tests.support.browser_fixtures import SITE, SITE_PORT
from tests.support.keys import Client
from tests.support.lines import BreakingLine

pytestmark = pytest.mark.usefixtures("web_site")


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def web_site(tmp_path: Path) -> Iterator[None]:
    """A web server at SITE with the unmodified example of the documentation."""
    text = (ROOT / "docs/front-end.md").read_text()
    for name, kind in {"bancobot.js": "js", "index.html": "html"}.items():
        (content,) = re.findall(rf"```{kind}\n(.*?)```", text, re.DOTALL)
        (tmp_path / name).write_text(content)
    (tmp_path / "favicon.ico").touch()
    with ThreadingHTTPServer(("127.0.0.1", SITE_PORT), partial(Quiet, directory=tmp_path)) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield
        server.shutdown()
        thread.join()


def say(page: Page, address: str, key: str, message: str, *, whole: bool) -> None:
    for name, value in {"address": address, "key": key, "message": message}.items():
        page.locator(f"[name={name}]").fill(value)
    page.get_by_label("resposta inteira").set_checked(whole)
    page.get_by_role("button").click()


def test_the_documented_page_talks_to_the_service(keyed: Service, upstream: Upstream, page: Page, watch: Watch) -> None:
    key, gate, reply = Client(keyed).key().whole, threading.Event(), page.locator("#reply")
    with BreakingLine(keyed.port) as line:
        page.goto(SITE)

        upstream.reply("Olá! <img src=x onerror=alert(1)>")
        say(page, line.url, key, "Oi", whole=True)
        expect(page.locator("#about")).to_have_text("15 tokens")
        expect(reply).to_have_text("Olá! <img src=x onerror=alert(1)>")

        watch.expects("net::ERR_")  # the line that is cut
        line.cut_after = json.dumps({"text": "O começo "}, ensure_ascii=False).encode()[1:-1]
        upstream.script(scenarios.gated(gate, scenarios.rest("e o fim"), after="O começo "))
        say(page, line.url, key, "E depois?", whole=False)
        expect(reply).to_contain_text("O começo")
        upstream.wait_until(lambda: line.cuts == 1)
        gate.set()
        expect(page.locator("#about")).to_have_text(re.compile("^[0-9]+ tokens$"))
        expect(reply).to_have_text("O começo e o fim")
        assert len(upstream.requests[1].messages) == 3  # it continued the session

        watch.expects("status of 401")
        say(page, line.url, "bb_errada", "Oi", whole=False)
        expect(page.locator("#about")).to_contain_text("(invalid_api_key)")
    assert upstream.count == 2


def test_the_same_page_of_another_origin_is_refused(
    keyed: Service, upstream: Upstream, page: Page, watch: Watch
) -> None:
    watch.expects("blocked by CORS policy", "net::ERR_FAILED")
    page.goto(f"http://localhost:{SITE_PORT}")  # another name is another origin
    say(page, keyed.url, Client(keyed).key().whole, "Oi", whole=True)
    expect(page.locator("#about")).to_contain_text("(no answer)")
    assert any("blocked by CORS policy" in complaint for complaint in watch.complaints)
    assert upstream.count == 0

"""The headers that every answer has, and what they let a browser do: the admin works, and nothing foreign runs."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import scenarios
from tests.browser import Page, browser, needs_browser
from tests.client import Caller, service_with
from tests.environment import ROOT, clean_environment
from tests.service import Service
from tests.test_wall import HOST, on_the_wire
from tests.upstream import Upstream

pytestmark = pytest.mark.no_database

FIXED = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
NOTHING = "default-src 'none'; frame-ancestors 'none'"
STREAM = {"json": {"message": "Oi", "stream": True}}
ANSWERS: dict[str, tuple[str, str, dict[str, Any], int]] = {
    "a reply": ("POST", "/chat", {"json": {"message": "Oi"}}, 200),
    "a stream": ("POST", "/chat", STREAM, 200),
    "a list": ("GET", "/sessions", {}, 200),
    "the models": ("GET", "/models", {}, 200),
    "health": ("GET", "/health", {}, 200),
    "HEAD on the loop": ("HEAD", "/health", {}, 200),
    "HEAD elsewhere": ("HEAD", "/sessions", {}, 200),
    "the schema": ("GET", "/schema", {}, 200),
    "bad input": ("POST", "/chat", {"json": {}}, 400),
    "a bad header": ("POST", "/chat", {"json": {"message": "Oi"}, "headers": {"Authorization": "x"}}, 401),
    "a missing session": ("GET", "/sessions/nada", {}, 404),
    "a missing turn": ("GET", "/turns/nada", {}, 404),
    "nothing there": ("GET", "/nada", {}, 404),
    "a missing file": ("GET", "/static/nada.js", {}, 404),
    "a wrong method": ("GET", "/chat", {}, 405),
    "a wrong format": ("GET", "/sessions", {"headers": {"Accept": "image/png"}}, 406),
    "a large body": ("POST", "/chat", {"content": b"x" * 2_000_000}, 413),
    "a wrong type": ("POST", "/chat", {"content": b"x", "headers": {"Content-Type": "text/plain"}}, 415),
    "a wrong host": ("GET", "/sessions", {"headers": {"Host": "evil.example"}}, 400),
    "a preflight": (
        "OPTIONS", "/chat", {"headers": {"Origin": "http://localhost", "Access-Control-Request-Method": "POST"}}, 200
    ),
}  # fmt: skip
PAGES = {
    "documentation": ("GET", "/docs", 200),
    "documentation in ReDoc": ("GET", "/redoc", 200),
    "the documentation's script": ("GET", "/docs?script=", 200),
    "login": ("GET", "/admin/login/", 200),
    "a way to the login": ("GET", "/admin/", 302),
    "the admin's address": ("GET", "/admin", 302),
    "nothing in the admin": ("GET", "/admin/nada/", 302),
    "a style sheet": ("GET", "/static/admin/css/base.css", 200),
    "a script": ("GET", "/static/admin/js/core.js", 200),
}


def protected(headers: httpx.Headers) -> None:
    """Every header once, with the value that it should have."""
    assert {name: headers.get_list(name) for name in FIXED} == {name: [value] for name, value in FIXED.items()}
    assert len(headers.get_list("content-security-policy")) == 1
    assert len(headers.get_list("cache-control")) == 1
    assert len(headers.get_list("x-request-id")) == 1


@pytest.mark.parametrize("name", ANSWERS)
def test_every_answer_of_the_api_is_protected_and_kept_nowhere(service: Service, name: str) -> None:
    method, path, options, status = ANSWERS[name]
    answer = Caller(service).call(method, path, **options)
    assert answer.status_code == status
    protected(answer.headers)
    assert answer.headers["content-security-policy"] == NOTHING
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("name", PAGES)
def test_every_page_and_file_is_protected(service: Service, name: str) -> None:
    method, path, status = PAGES[name]
    answer = Caller(service, key="").call(method, path)
    assert answer.status_code == status
    protected(answer.headers)


def test_an_error_of_ours_is_protected(service: Service, upstream: Upstream) -> None:
    upstream.script(scenarios.status(500))
    answer = Caller(service).post("/chat", message="Oi")
    assert answer.status_code == 502
    protected(answer.headers)


def test_what_the_server_refuses_before_us_is_protected(service: Service) -> None:
    status, headers, _ = on_the_wire(service, b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n" + HOST + b"\r\n")
    assert status == 414
    protected(headers)


def test_files_may_be_kept_and_what_a_view_says_stays(service: Service) -> None:
    caller = Caller(service, key="")
    style = caller.get("/static/admin/css/base.css")
    assert "max-age" in style.headers["cache-control"]
    again = caller.call("GET", "/static/admin/css/base.css", headers={"If-None-Match": style.headers["etag"]})
    assert again.status_code == 304
    protected(again.headers)
    assert "private" in caller.get("/admin/login/").headers["cache-control"]


def test_without_https_nobody_is_told_to_insist_on_it(service: Service) -> None:
    for path in ("/health", "/sessions", "/admin/login/", "/static/admin/css/base.css"):
        answer = Caller(service, X_Forwarded_Proto="https").get(path)
        assert "strict-transport-security" not in answer.headers


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/admin/login/", "/chat"])
def test_no_policy_allows_what_stands_within_a_page(service: Service, path: str) -> None:
    answer = Caller(service, key="").get(path)
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert not re.search(r"https?:|\*", policy)
    if path != "/chat":
        assert "script-src 'self';" in policy
        assert "<style" not in answer.text
        assert not re.search(r'\s(style|on[a-z]+)="', answer.text)


# The admin in a real browser

PASSWORD = "Uma-senha-de-teste-7"
FOREIGN = """
    document.body.insertAdjacentHTML("beforeend", '<img src="/nada.png" onerror="window.ran = 1">');
    const script = document.createElement("script");
    script.textContent = "window.ran = 2";
    document.body.append(script);
    const link = document.createElement("a");
    link.href = "javascript:window.ran = 3";
    document.body.append(link);
    link.click();
    try { eval("window.ran = 4"); } catch (problem) { window.refused = problem.name; }
    1
"""


@pytest.fixture(scope="module")
def _with_operator(_upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with service_with(tmp_path_factory, _upstream) as service:
        command = ["createsuperuser", "--noinput", "--username", "chefe", "--email", "chefe@bank.example"]
        environment = clean_environment(DJANGO_SUPERUSER_PASSWORD=PASSWORD, **service.settings)
        subprocess.run([sys.executable, "manage.py", *command], cwd=ROOT, env=environment, check=True)
        yield service


@pytest.fixture
def admin(_with_operator: Service, upstream: Upstream, tmp_path: Path) -> Iterator[tuple[Page, str]]:
    """A browser in which an operator has logged in, and the admin's address; two sessions are there."""
    caller = Caller(_with_operator)
    for name in ("primeira", "segunda"):
        upstream.reply(f"<script>window.ran = 'resposta'</script> {name}")
        caller.chat("<img src=x onerror=\"window.ran = 'pergunta'\">", session_id=name)
    with browser(tmp_path) as page:
        page.go(f"{_with_operator.url}/admin/")
        page.fill("#id_username", "chefe")
        page.fill("#id_password", PASSWORD)
        page.click("[type=submit]", leads_on=True)
        yield page, f"{_with_operator.url}/admin"


def violations(page: Page) -> list[str]:
    """What the console said, but for answers that are errors: there is no icon, and no turn of the example's name."""
    return [complaint for complaint in page.complaints if not complaint.startswith("Failed to load resource")]


@needs_browser
def test_the_admin_works_under_its_policy(admin: tuple[Page, str]) -> None:
    page, address = admin
    assert page.run("location.pathname") == "/admin/"
    page.click(".theme-toggle")
    page.go(f"{address}/sessions_api/session/?q=primeira")
    page.run("document.querySelector('#result_list tbody th a').click()")
    page.wait_for("location.pathname.endsWith('/change/') && document.querySelector('.transcript')")
    assert "<script>window.ran = 'resposta'</script> primeira" in page.text()
    assert page.run("getComputedStyle(document.querySelector('.transcript .message')).borderLeftWidth") == "4px"
    assert page.run("window.ran") is None

    page.go(f"{address}/sessions_api/session/")
    page.click("#action-toggle")
    assert page.run("document.querySelectorAll('tr.selected').length") >= 2
    page.fill("select[name=action]", "delete_selected")
    page.click("button[name=index]", leads_on=True)
    page.click("#content form [type=submit]", leads_on=True)
    assert page.run("document.querySelectorAll('#result_list tbody tr').length") == 0
    assert violations(page) == []


@needs_browser
def test_the_admins_widgets_work_under_its_policy(admin: tuple[Page, str]) -> None:
    page, address = admin
    page.go(f"{address}/auth/user/1/change/")
    for opener, box in (("calendarlink0", "calendarbox0"), ("clocklink0", "clockbox0")):
        page.click(f"#{opener}")
        page.wait_for(f"getComputedStyle(document.getElementById('{box}')).display == 'block'")
    page.click("#calendarbox0 td:not(.nonday) a")
    assert re.search(r"\d", page.run("document.querySelector('#id_last_login_0').value"))
    assert page.run("document.querySelectorAll('.selector-chosen').length") == 2
    page.go(f"{address}/auth/user/add/")
    page.go(f"{address}/password_change/")
    assert violations(page) == []


@needs_browser
@pytest.mark.parametrize("path", ["/", "/sessions_api/session/", "/auth/user/1/change/"])
def test_a_script_that_gets_into_an_admin_page_is_not_run(admin: tuple[Page, str], path: str) -> None:
    page, address = admin
    page.go(address + path)
    page.run(FOREIGN)
    page.wait_for("window.refused")
    page.wait_for("document.querySelector('img[src=\"/nada.png\"]').complete")
    assert page.run("window.ran") is None
    assert page.run("window.refused") == "EvalError"
    assert len([text for text in page.complaints if "Content Security Policy" in text]) >= 3


# The documentation in a real browser


@needs_browser
def test_the_documentation_works_under_its_policy(service: Service, tmp_path: Path) -> None:
    with browser(tmp_path) as page:
        page.go(f"{service.url}/docs")
        page.wait_for("document.querySelectorAll('.opblock-summary-control').length > 5")
        page.click(".opblock-get .opblock-summary-control")
        page.wait_for("document.querySelector('.try-out__btn')")
        page.click(".try-out__btn")
        page.wait_for("document.querySelector('.execute')")
        page.click(".execute")
        page.wait_for("document.querySelector('.live-responses-table .response-col_status')")
        assert violations(page) == []


@needs_browser
def test_redoc_misses_nothing_but_its_makers_logo(service: Service, tmp_path: Path) -> None:
    with browser(tmp_path) as page:
        page.go(f"{service.url}/redoc")
        page.wait_for("document.body.innerText.includes('Say something to a model')")
        page.run("document.querySelector('.search-input').focus()")
        page.order("Input.insertText", text="cancel")
        page.wait_for("document.querySelector('[data-role=\"search:results\"] li')")
        assert [text for text in violations(page) if "redoc.ly" not in text] == []


@needs_browser
def test_an_answer_of_the_api_runs_nothing_when_it_is_opened(service: Service, tmp_path: Path) -> None:
    with browser(tmp_path) as page:
        page.go(f"{service.url}/schema")
        page.run(FOREIGN)
        page.wait_for("window.refused")
        assert page.run("window.ran") is None
    assert json.loads(Caller(service).get("/schema").text)["openapi"]

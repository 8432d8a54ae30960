"""The headers of every answer: the admin works under them, and nothing foreign runs."""

import ast
import re
import subprocess
import sys
from pathlib import Path
from secrets import token_hex
from typing import Any

import httpx
import pytest
from django.http import HttpResponse
from django.middleware.security import SecurityMiddleware
from django.test import RequestFactory

from bancobot_project.server.headers import strict_transport
from testing import scenarios
from testing.client import Caller
from testing.environment import ROOT, clean_environment
from testing.service import Service
from testing.upstream import Upstream
from tests.project.test_wall import HOST, on_the_wire

SETTINGS = "bancobot_project.settings"
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
MADE_ONCE = {"the models", "the schema"}  # nobody's own: who has them asks whether they are the same
PAGES = {
    "the chat page": ("GET", "/", 200),
    "documentation": ("GET", "/docs", 200),
    "documentation in ReDoc": ("GET", "/redoc", 200),
    "the documentation's script": ("GET", "/docs?script=", 200),
    "login": ("GET", "/admin/login/", 200),
    "a way to the login": ("GET", "/admin/", 302),
    "the admin's address": ("GET", "/admin", 302),
    "nothing in the admin": ("GET", "/admin/nada/", 302),
    "a picture": ("GET", "/static/bancobot.svg", 200),
}
LOADED_BY_PAGES = {
    "/static/admin/css/base.css": "text/css", "/static/admin/js/core.js": "text/javascript",
    "/static/chat/main.js": "text/javascript",
}  # fmt: skip
HEEDED_IN_PAGES = {
    "content-security-policy", "x-frame-options", "referrer-policy", "cross-origin-opener-policy", "permissions-policy"
}  # fmt: skip


@pytest.fixture
def service(front: Service) -> Service:
    """No database changes what these tests show."""
    return front


def protected(headers: httpx.Headers) -> None:
    """Every header once, with its expected value."""
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
    assert answer.headers["cache-control"] == ("private, no-cache" if name in MADE_ONCE else "no-store")


@pytest.mark.parametrize("name", PAGES)
def test_every_page_and_file_is_protected(service: Service, name: str) -> None:
    method, path, status = PAGES[name]
    answer = Caller(service, key="").call(method, path)
    assert answer.status_code == status
    protected(answer.headers)


def test_scripts_and_styles_go_without_what_browsers_heed_in_pages_alone(service: Service) -> None:
    for path, kind in LOADED_BY_PAGES.items():
        headers = Caller(service, key="").get(path).headers
        assert headers["content-type"].startswith(kind)
        assert HEEDED_IN_PAGES.isdisjoint(headers)
        assert (headers["x-content-type-options"], headers["cross-origin-resource-policy"]) == (
            "nosniff",
            "same-origin",
        )
        assert {"x-request-id", "cache-control"} <= headers.keys()


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


@pytest.mark.parametrize("seconds", [0, 300])
@pytest.mark.parametrize("subdomains", [True, False])
@pytest.mark.parametrize("preload", [True, False])
def test_https_is_insisted_on_as_django_does(settings: Any, seconds: int, subdomains: bool, preload: bool) -> None:
    settings.SECURE_HSTS_SECONDS, settings.SECURE_HSTS_PRELOAD = seconds, preload
    settings.SECURE_HSTS_INCLUDE_SUBDOMAINS = subdomains
    by_django: Any = SecurityMiddleware(lambda _: HttpResponse())(RequestFactory().get("/", secure=True))
    ours = {name.decode(): value.decode() for name, value in strict_transport()}
    assert ours.get("strict-transport-security") == by_django.headers.get("Strict-Transport-Security")
    assert ("includeSubDomains" in str(ours), "preload" in str(ours)) == (
        subdomains and seconds > 0,
        preload and seconds > 0,
    )


@pytest.mark.parametrize(
    ("wishes", "expected"),
    [
        ({}, "max-age=31536000"),
        ({"HSTS_INCLUDE_SUBDOMAINS": "true", "HSTS_SECONDS": "300"}, "max-age=300; includeSubDomains"),
        (
            {"HSTS_INCLUDE_SUBDOMAINS": "true", "HSTS_PRELOAD": "true"},
            "max-age=31536000; includeSubDomains; preload",
        ),
    ],
)
def test_the_whole_domain_is_bound_by_wish_alone(tmp_path: Path, wishes: dict[str, str], expected: str) -> None:
    show = (
        "import django; django.setup(); from bancobot_project.server.headers import strict_transport as s; print(s())"
    )
    production = {"ENVIRONMENT": "production", "SECRET_KEY": token_hex(32), "DJANGO_SETTINGS_MODULE": SETTINGS}
    environment = clean_environment(DATA_DIR=str(tmp_path), **production, **wishes)
    shown = subprocess.run([sys.executable, "-c", show], cwd=ROOT, env=environment, capture_output=True, check=True)
    assert ast.literal_eval(shown.stdout.decode()) == ((b"strict-transport-security", expected.encode()),)


@pytest.mark.parametrize("path", ["/", "/docs", "/redoc", "/admin/login/", "/chat"])
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


def test_a_request_that_no_view_sees_is_refused_with_a_page_in_the_admin(front: Service) -> None:
    foreign = {"Host": "outro.example", "Accept": "text/html"}
    page = httpx.get(f"{front.url}/admin/", headers=foreign)
    assert (page.status_code, page.headers["Content-Type"]) == (400, "text/html; charset=utf-8")
    assert "Código invalid_request" in page.text
    assert httpx.get(f"{front.url}/chat", headers=foreign).json()["code"] == "invalid_request"

"""The chat page as served: parts, policy, languages, size. tests/browser/ tests its behaviour."""

import gzip
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
import requests

from chat.page_texts import TEXTS
from testing.environment import ROOT
from testing.service import Service

SCRIPTS = ROOT / "static" / "chat"
VENDOR = ROOT / "static" / "vendor"
TEMPLATE = ROOT / "templates" / "chat" / "page.html"
MAX_BYTES = 120_000  # of all that the page loads, gzipped


@pytest.fixture
def service(front: Service) -> Service:
    """No database changes what these tests show."""
    return front


def get(service: Service, path: str = "/", method: str = "GET", **headers: str) -> requests.Response:
    return requests.request(method, service.url + path, headers=headers, timeout=30, allow_redirects=False)


def said(service: Service, **headers: str) -> dict[str, Any]:
    """The server's data for the page's script."""
    found = re.search(r'<script id="page-data" type="application/json">(.*?)</script>', get(service, **headers).text)
    assert found
    return dict(json.loads(found[1]))


def script() -> str:
    return "\n".join(path.read_text() for path in sorted(SCRIPTS.glob("*.js")))


def imports(path: Path) -> set[Path]:
    """A module's imports, and theirs."""
    direct = {(path.parent / name).resolve() for name in re.findall(r'(?m)^import .*?"(\..*?)";$', path.read_text())}
    if VENDOR in path.parents:
        return set()
    return direct.union(*(imports(module) for module in direct))


@pytest.mark.parametrize("authorization", ["", "Bearer bb_wrong", "Basic eA=="])
def test_the_page_is_shown_to_everybody_and_sets_no_cookie(service: Service, authorization: str) -> None:
    answer = get(service, Authorization=authorization)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert answer.headers["Cache-Control"] == "no-cache"
    assert "Set-Cookie" not in answer.headers


def test_the_page_is_for_reading_only(service: Service) -> None:
    head = get(service, method="HEAD")
    assert (head.status_code, head.content) == (200, b"")
    refused = requests.post(service.url + "/", timeout=30)
    assert (refused.status_code, refused.json()["code"]) == (405, "method_not_allowed")
    assert refused.headers["Allow"] == "GET, HEAD"


def test_nothing_runs_and_nothing_is_loaded_but_its_own_files(service: Service) -> None:
    answer = get(service)
    policy = dict(rule.strip().split(" ", 1) for rule in answer.headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == policy["frame-ancestors"] == "'none'"
    assert {policy[f"{kind}-src"] for kind in ("script", "style", "connect", "font")} == {"'self'"}
    assert policy["img-src"] == "'self' data:"
    assert (policy["require-trusted-types-for"], policy["trusted-types"]) == ("'script'", "dompurify")
    assert (
        re.findall(r'<script(?! src=| type="module" src=| id="page-data" type="application/json")', answer.text) == []
    )
    assert not re.search(r"<style|\s(style|on[a-z]+)=", answer.text)


def test_no_part_of_it_names_another_host(service: Service) -> None:
    parts = [get(service).text, script(), *(path.read_text() for path in SCRIPTS.glob("*.css"))]
    assert [address for part in parts for address in re.findall(r"(?:https?:)?//\w[\w.]+\.\w+", part)] == [
        "http://www.w3.org"  # the name of SVG
    ]


def test_it_speaks_portuguese_and_english_to_who_asks_for_it(service: Service) -> None:
    portuguese, english = get(service), get(service, **{"Accept-Language": "en-GB,en;q=0.9"})
    assert ('<html lang="pt-br"' in portuguese.text, '<html lang="en"' in english.text) == (True, True)
    assert (portuguese.headers["Content-Language"], english.headers["Content-Language"]) == ("pt-br", "en")
    assert "Accept-Language" in english.headers["Vary"]
    assert said(service)["language"] == "pt-br"
    assert said(service, **{"Accept-Language": "en"})["texts"]["try_again"] == "Try again"


def test_its_script_is_told_who_may_call_and_which_model_answers(service: Service) -> None:
    facts = said(service)
    assert (facts["access"], facts["default_model"]) == ("open", "test/model")


def test_every_text_that_the_script_says_is_there_and_no_other() -> None:
    code = script()
    assert set(re.findall(r'\bt\("(\w+)"', code)) <= TEXTS.keys()
    spoken = set(re.findall(r'"(\w+)"', code)) | {"rate_up", "rate_down"}
    assert TEXTS.keys() - spoken == set()


def test_every_place_that_the_script_looks_for_is_in_the_page() -> None:
    places = set(re.findall(r'data-testid="([\w-]+)"', TEMPLATE.read_text()))
    assert set(re.findall(r'\bfind\("([\w-]+)"', script())) <= places


def test_the_script_makes_no_html_out_of_text() -> None:
    dangerous = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|createContextualFragment"
    assert re.findall(dangerous, script()) == []


def test_the_page_asks_for_every_module_at_once(service: Service) -> None:
    named = re.findall(r'<link rel="modulepreload" href="(/static/[^"]+)"', get(service).text)
    main = SCRIPTS / "main.js"
    wanted = {f"/{path.relative_to(ROOT).as_posix()}" for path in {main, *imports(main)}}
    assert sorted(named) == sorted(wanted)


def test_all_that_the_page_loads_is_served_and_small(service: Service) -> None:
    page = get(service)
    icons = "/static/chat/icons.svg"
    addresses = {*re.findall(r'(?:src|href)="(/[^"#]+)', page.text), icons, "/favicon.ico"}
    files = {address: get(service, address) for address in addresses}
    assert {address for address, file in files.items() if file.status_code != 200} == set()
    assert files["/favicon.ico"].content[:4] == b"\0\0\1\0"
    total = sum(len(gzip.compress(file.content)) for file in [page, *files.values()])
    assert 30_000 < total < MAX_BYTES


def test_the_vendored_files_are_those_that_their_makers_published() -> None:
    rows = [line.split("|")[1:-1] for line in (VENDOR / "README.md").read_text().splitlines() if "SHA" not in line]
    stated = {row[4].strip(" `"): row[5].strip(" `") for row in rows if len(row) == 6 and "---" not in row[0]}
    files = {path.relative_to(VENDOR).as_posix(): path for path in VENDOR.glob("*/*") if path.suffix in (".js", ".css")}
    assert stated == {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}
    assert [path.parent.name for path in files.values() if not (path.parent / "LICENSE").exists()] == []

"""/docs, /redoc and /schema for browsers and programs."""

import json
import re
from typing import Any

import pytest
import requests
import yaml

from testing.service import Service
from testing.upstream import Upstream
from tests.support.services import Services

FIREFOX = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"


@pytest.fixture
def service(front: Service) -> Service:
    """No database changes what these tests show."""
    return front


def get(service: Service, path: str, **headers: str) -> requests.Response:
    return requests.get(service.url + path, headers=headers, timeout=30, allow_redirects=False)


@pytest.mark.parametrize("path", ["/docs", "/docs/", "/redoc", "/redoc/", "/schema", "/schema/"])
@pytest.mark.parametrize("authorization", ["", "Bearer bb_wrong", "Basic eA=="])
def test_it_is_shown_to_everybody_with_and_without_a_slash(service: Service, path: str, authorization: str) -> None:
    answer = get(service, path, Authorization=authorization)
    assert answer.status_code == 200
    assert "Set-Cookie" not in answer.headers


@pytest.mark.parametrize(
    ("path", "accept", "content_type"),
    [
        ("/schema", "*/*", "application/json"),
        ("/schema", "application/json", "application/json"),
        ("/schema", "application/json, */*", "application/json"),
        ("/schema", "application/vnd.oai.openapi+json", "application/vnd.oai.openapi+json"),
        ("/schema", "application/yaml", "application/yaml; charset=utf-8"),
        ("/schema", "application/vnd.oai.openapi", "application/vnd.oai.openapi; charset=utf-8"),
        ("/schema", FIREFOX, "text/plain; charset=utf-8"),
        ("/schema?format=json", FIREFOX, "application/json"),
        ("/schema?format=yaml", "*/*", "application/yaml; charset=utf-8"),
    ],
)
def test_the_schema_comes_in_the_format_asked_for(service: Service, path: str, accept: str, content_type: str) -> None:
    answer = get(service, path, Accept=accept)
    assert answer.headers["Content-Type"] == content_type
    read: Any = json.loads if "json" in content_type else yaml.safe_load
    assert read(answer.content) == get(service, "/schema?format=json").json()


@pytest.mark.parametrize(
    ("path", "accept", "status"), [("/schema", "image/png", 406), ("/schema?format=xml", "*/*", 404)]
)
def test_an_unknown_format_is_refused_in_json(service: Service, path: str, accept: str, status: int) -> None:
    answer = get(service, path, Accept=accept)
    assert answer.status_code == status
    assert set(answer.json()) == {"detail", "code", "request_id"}


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_its_pages_name_no_other_host_and_their_files_are_served(service: Service, path: str) -> None:
    page = get(service, path)
    addresses = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(addresses) > 1
    for address in addresses:
        assert re.match(r"/[^/]", address)
        file = get(service, address)
        assert file.status_code == 200
        kind = {"js": "text/javascript", "css": "text/css", "png": "image/png"}.get(address.rpartition(".")[2], "")
        assert file.headers["Content-Type"].startswith(kind)
        if kind:
            assert "max-age" in file.headers["Cache-Control"]
            assert get(service, address, **{"If-None-Match": file.headers["ETag"]}).status_code == 304


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_its_pages_forbid_the_browser_other_hosts_and_scripts_within_the_page(service: Service, path: str) -> None:
    page = get(service, path)
    policy = dict(rule.strip().split(" ", 1) for rule in page.headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == "'self'"
    assert not [sources for sources in policy.values() if "http" in sources or "*" in sources]
    assert re.findall(r"<script(?![^>]*src=)", page.text) == []


# Made once


@pytest.mark.parametrize("path", ["/schema", "/schema?format=yaml", "/models"])
def test_who_has_the_answer_gets_304(service: Service, upstream: Upstream, path: str) -> None:
    first = get(service, path)
    tag = first.headers["ETag"]
    assert re.fullmatch('"[0-9a-f]{32}"', tag)
    assert first.headers["Cache-Control"] == "private, no-cache"
    for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = get(service, path, **{"If-None-Match": known})
        assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", tag), known
    for other in ('"other"', tag.strip('"'), ""):
        again = get(service, path, **{"If-None-Match": other})
        assert (again.status_code, again.content) == (200, first.content), other


def test_each_format_has_a_tag_of_its_own(service: Service) -> None:
    formats = ("application/json", "application/yaml")
    assert len({get(service, "/schema", Accept=accept).headers["ETag"] for accept in formats}) == 2


def test_pages_for_everybody_count_for_their_address(fronts: Services) -> None:
    counting = fronts.own(ADDRESS_REQUESTS_PER_MINUTE="5", ACCESS_MODE="keys")
    with counting as service:
        pages = ["/", "/docs", "/redoc/", "/schema", "/admin/login/"]
        assert [get(service, path).status_code for path in pages] == [200] * 5
        for path in pages:
            refused = get(service, path)
            assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
            assert int(refused.headers["Retry-After"]) > 0
        assert [get(service, path).status_code for path in ("/health", "/static/chat/main.js")] == [200, 200]

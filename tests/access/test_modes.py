"""ACCESS_MODE: which callers each mode accepts, and where their keys go."""

import re
from collections.abc import Iterator

import pytest
from django.core.exceptions import ImproperlyConfigured
from pytest_django.fixtures import Settings

from bancobot_project.server.http.listening import check_open_access
from testing import scenarios
from testing.client import Caller, events, good, new_id, problem
from testing.service import Service
from testing.upstream import Upstream
from tests.conftest import MakeService
from tests.support.keys import Client, made_up_key
from tests.support.services import Services

TAKEN = {  # callers that a mode accepts
    "open": {"nobody", "provider", "client"},
    "keys": {"client"},
    "byok": {"provider"},
    "keys+byok": {"provider", "client"},
}
REFUSED = {"nobody": "not_authenticated", "provider": "invalid_api_key", "client": "invalid_api_key"}
KINDS = sorted(REFUSED)
SERVER_KEY = "Bearer test-key"
HERE = ["127.0.0.1", "::1", "[::1]", "localhost"]


@pytest.fixture(scope="module")
def _house(fronts: Services) -> Iterator[Service]:
    with fronts.own() as service:
        yield service


@pytest.fixture(scope="module", params=TAKEN)
def house(_house: Service, request: pytest.FixtureRequest) -> Service:
    """One installation that starts in one mode after the other."""
    _house.settings["ACCESS_MODE"] = request.param
    _house.kill()
    return _house.start()


def mode_of(house: Service) -> str:
    return house.settings["ACCESS_MODE"]


def caller_of(house: Service, kind: str) -> Caller:
    if kind == "client":
        return Client(house).caller()
    return Caller(house, "" if kind == "nobody" else None)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("path", ["/chat", "/api/message"])
def test_each_mode_takes_its_callers_and_refuses_the_others(
    house: Service, upstream: Upstream, kind: str, path: str
) -> None:
    caller, session = caller_of(house, kind), new_id()
    answers = [caller.post(path, message="Oi", session_id=session), caller.get(f"/sessions/{session}/messages")]
    answers.append(caller.post(path, message="Oi", session_id=session, stream=True))
    if kind in TAKEN[mode_of(house)]:
        assert [answer.status_code for answer in answers] == [200] * 3
        assert events(answers[2].text)[-1].name == "done"
        sent = {request.headers["authorization"] for request in upstream.requests}
        assert sent == {f"Bearer {caller.key}" if kind == "provider" else SERVER_KEY}
    else:
        for answer in answers:
            problem(answer, 401, REFUSED[kind])
            assert answer.headers["www-authenticate"] == "Bearer"
        assert upstream.count == 0
        assert house.sql("SELECT id FROM sessions_api_session WHERE session_id = %s", session) == []


def test_the_refusal_says_which_keys_are_taken(house: Service) -> None:
    mode = mode_of(house)
    english = {"Accept-Language": "en"}
    for kind, said in (("provider", "BancoBot keys"), ("client", "provider's keys")):
        if kind not in TAKEN[mode]:
            answer = caller_of(house, kind).call("GET", "/sessions", headers=english)
            assert said in problem(answer, 401, "invalid_api_key")["detail"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_owner_says_what_kind_of_caller_it_was(house: Service, kind: str) -> None:
    if kind in TAKEN[mode_of(house)]:
        session = new_id()
        caller_of(house, kind).chat("Oi", session_id=session)
        owner = house.sql("SELECT owner FROM sessions_api_session WHERE session_id = %s", session)[0][0]
        forms = {"nobody": "open", "provider": "byok:[0-9a-f]{40}", "client": "client:[a-z0-9]{12}"}
        assert re.fullmatch(forms[kind], owner)


@pytest.mark.parametrize("path", ["/health", "/models", "/docs", "/redoc", "/schema"])
def test_no_mode_asks_for_a_key_here(house: Service, upstream: Upstream, path: str) -> None:
    assert Caller(house, "").get(path).status_code == 200
    assert {request.headers["authorization"] for request in upstream.model_requests} <= {SERVER_KEY}


def test_what_the_documentation_pages_load_needs_no_key(house: Service) -> None:
    caller = Caller(house, "")
    for page in ("/docs", "/redoc"):
        scripts = re.findall(r'<script[^>]+src="([^"]+)"', caller.get(page).text)
        assert scripts
        assert {caller.get(script).status_code for script in scripts} == {200}


def test_a_bad_key_is_refused_where_none_is_needed(house: Service) -> None:
    problem(Caller(house, made_up_key()).get("/models"), 401, "invalid_api_key")
    good(Caller(house, made_up_key()).get("/health"))  # /health ignores it


def test_health_and_the_document_say_which_mode_it_is(house: Service) -> None:
    caller, mode = Caller(house, ""), mode_of(house)
    assert good(caller.get("/health"))["access"] == mode
    document = caller.call("GET", "/schema", headers={"Accept": "application/json"}).json()
    assert ({} in document["paths"]["/chat"]["post"]["security"]) == (mode == "open")
    assert ("bb_" in str(document["components"]["securitySchemes"])) == ("client" in TAKEN[mode])


def test_a_brought_key_goes_upstream_with_its_own_messages_alone(house: Service, upstream: Upstream) -> None:
    if "provider" in TAKEN[mode_of(house)]:
        callers = [Caller(house), Caller(house)]
        for caller in [*callers, *callers]:
            caller.chat(f"De {caller.key[-4:]}")
            good(caller.get("/models"))
        assert len(upstream.requests) == 4
        for request in upstream.requests:
            assert request.headers["authorization"][-4:] == request.messages[-1]["content"][-4:]
        assert {request.headers["authorization"] for request in upstream.model_requests} <= {SERVER_KEY}


@pytest.mark.parametrize("kind", KINDS)
def test_behind_a_proxy_that_needs_authorization_a_key_comes_in_its_own_header(
    house: Service, upstream: Upstream, kind: str
) -> None:
    known, session = caller_of(house, kind), new_id()
    behind = {"Authorization": "Basic dXN1OnNlbmhh", "X-API-Key": known.key}  # the proxy's, and ours: empty for nobody
    caller, bare = Caller(house, "", **behind), Caller(house, "", Authorization="Basic dXN1OnNlbmhh")
    answers = [caller.post("/chat", message="Oi", session_id=session), caller.get(f"/sessions/{session}")]
    if kind in TAKEN[mode_of(house)]:
        assert [answer.status_code for answer in [*answers, known.get(f"/sessions/{session}")]] == [200] * 3
        [request] = upstream.requests
        assert request.headers["authorization"] == (f"Bearer {known.key}" if kind == "provider" else SERVER_KEY)
        assert "x-api-key" not in request.headers
        problem(bare.get(f"/sessions/{session}"), 401, "not_authenticated")
    else:
        for answer in answers:
            problem(answer, 401, REFUSED[kind])
    listing = caller.get("/models")
    if kind == "nobody" or kind in TAKEN[mode_of(house)]:
        good(listing)
    assert "X-API-Key" in listing.headers.get("vary", "") or listing.status_code == 401


def test_a_key_of_ours_is_in_no_request_upstream_no_row_and_no_log(
    make_service: MakeService, upstream: Upstream
) -> None:
    service = make_service(ACCESS_MODE="keys+byok", LOG_LEVEL="DEBUG", LOG_FORMAT="json")
    key = Client(service).key()
    secret, before = key.whole[-43:], len(upstream.requests)
    caller = Caller(service, key.whole)
    caller.chat("Oi", session_id="s")
    upstream.script(scenarios.status(401), scenarios.status(500), scenarios.error_mid_stream())
    for status in (401, 502, 502):
        assert caller.post("/chat", message="Oi").status_code == status
    for status, own in ((200, key.whole), (401, f"x{key.whole}"), (401, f"{key.whole}."), (400, f"Bearer {key.whole}")):
        proxied = Caller(service, "", Authorization="Bearer a.proxys.token", X_API_Key=own)
        assert proxied.post("/chat", message="Oi").status_code == status
    for header in (
        key.whole,
        f'Bearer "{key.whole}"',
        f"Bearer {key.whole}.",
        f"Bearer x{key.whole}",
        f"Basic {key.whole}",
    ):
        assert Caller(service, "", Authorization=header).post("/chat", message="Oi").status_code in (400, 401)
    good(caller.get("/models"))
    sent = [*upstream.requests[before:], *upstream.model_requests]
    assert {request.headers["authorization"] for request in sent} == {SERVER_KEY}
    assert secret not in service.log()
    for table in ("access_key", "access_client", "access_auditentry", "sessions_api_session", "sessions_api_message"):
        assert secret not in str(service.sql(f"SELECT * FROM {table}"))


def test_production_asks_for_keys_unless_told_otherwise(make_service: MakeService) -> None:
    service = make_service(ENVIRONMENT="production", HTTPS="false")
    assert good(Caller(service, "").get("/health"))["access"] == "keys"
    problem(Caller(service, "").post("/chat", message="Oi"), 401, "not_authenticated")
    problem(Caller(service).get("/sessions"), 401, "invalid_api_key")
    Client(service).caller().chat("Oi")


@pytest.mark.parametrize("host", [*HERE, "0.0.0.0", "::", "192.0.2.7", "example.org"])  # noqa: S104 - names
@pytest.mark.parametrize("mode", TAKEN)
def test_only_the_open_mode_is_kept_on_this_machine(settings: Settings, mode: str, host: str) -> None:
    settings.ACCESS_MODE, settings.ALLOW_OPEN_ACCESS = mode, False
    if mode == "open" and host not in HERE:
        with pytest.raises(ImproperlyConfigured, match="ALLOW_OPEN_ACCESS=true"):
            check_open_access(host)
        settings.ALLOW_OPEN_ACCESS = True
    check_open_access(host)

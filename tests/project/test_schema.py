"""The published OpenAPI document against the real service's requests and answers."""

import json
import re
from functools import cache
from typing import Any

import pytest
import requests
from jsonschema import Draft202012Validator  # type: ignore[import-untyped] # comes without hints

from testing import scenarios
from testing.scenarios import Scenario
from testing.service import Service
from testing.upstream import Upstream
from tests.conftest import MakeService
from tests.support.endpoints import ENDPOINTS
from web.errors import CODES, ApiError, error_object

NAMES = {  # clients are generated from them: none is ever changed
    "POST /api/message": "createMessage",
    "POST /chat": "createChatTurn",
    "GET /turns/{turn_id}": "getTurn",
    "GET /turns/{turn_id}/events": "followTurn",
    "POST /turns/{turn_id}/cancel": "cancelTurn",
    "GET /models": "listModels",
    "GET /sessions": "listSessions",
    "GET /sessions/{session_id}": "getSession",
    "POST /sessions/{session_id}/fork": "forkSession",
    "POST /messages/{message_id}/feedback": "giveFeedback",
    "PATCH /sessions/{session_id}": "updateSession",
    "DELETE /sessions/{session_id}": "deleteSession",
    "GET /sessions/{session_id}/messages": "listMessages",
    "GET /sessions/{session_id}/export": "exportSession",
    "GET /api/sessions": "listSessionIds",
    "DELETE /api/sessions/{session_id}": "deleteSessionById",
    "GET /health": "getHealth",
}
LATER = {"method_not_allowed"}  # codes that no described operation answers with
ANSWERED_HEADERS = {
    "RateLimit-Limit",
    "RateLimit-Remaining",
    "RateLimit-Reset",
    "X-Request-ID",
    "X-History-Omitted",
    "Idempotent-Replayed",
    "Retry-After",
    "WWW-Authenticate",
}


class Published:
    """The document as a client gets it."""

    def __init__(self, service: Service) -> None:
        self.url = service.url
        self.document = requests.get(f"{service.url}/schema", headers={"Accept": "application/json"}, timeout=30).json()
        schemas = self.document["components"]["schemas"]
        self._open = {"components": {"schemas": schemas}}
        # An answer has only keys of the document, except for a provider's data about its models.
        closed = {
            name: schema | {"additionalProperties": False} if "properties" in schema and name != "Model" else schema
            for name, schema in schemas.items()
        }
        self._closed = {"components": {"schemas": closed}}

    def operation(self, method: str, path: str) -> dict[str, Any]:
        for template, operations in self.document["paths"].items():
            if re.fullmatch(re.sub(r"{\w+}", "[^/]+", template), path) and method.lower() in operations:
                return dict(operations[method.lower()])
        raise AssertionError(f"{method} {path} is not described")

    def check(self, answer: requests.Response) -> None:
        """Assert that the document names this answer for its operation."""
        path = answer.url.removeprefix(self.url).partition("?")[0]
        described = self.operation(str(answer.request.method), path)["responses"][str(answer.status_code)]
        media_type = answer.headers["Content-Type"].partition(";")[0]
        body = answer.json() if media_type == "application/json" else answer.text
        self.validate(described["content"][media_type]["schema"], body)
        headers = {name for name in ANSWERED_HEADERS if name in answer.headers}
        assert headers <= set(described["headers"])
        assert "X-Request-ID" in headers

    def validate(self, schema: dict[str, Any], value: Any) -> None:
        Draft202012Validator(schema | self._closed).validate(value)

    def accepts(self, schema: dict[str, Any], value: Any) -> bool:
        return bool(Draft202012Validator(schema | self._open).is_valid(value))


@pytest.fixture
def service(front: Service) -> Service:
    """What is refused is the same on every database; the tests of answers are marked to run on each."""
    return front


@pytest.fixture
def published(service: Service) -> Published:
    return fetched(service)


@cache
def fetched(service: Service) -> Published:
    """The document of the service that tests share, which they fetch once."""
    return Published(service)


@pytest.fixture
def caller(request: pytest.FixtureRequest) -> dict[str, str]:
    """The headers of a new caller."""
    return {"Authorization": f"Bearer sk-{abs(hash(request.node.nodeid))}"}


def test_it_is_generated_without_a_warning_and_is_valid(service: Service, published: Published) -> None:
    done = service.manage("spectacular", "--validate", "--fail-on-warn", "--format", "openapi-json")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert json.loads(done.stdout) == published.document


def test_it_describes_every_endpoint_under_a_stable_name(published: Published) -> None:
    found = {
        f"{method.upper()} {path}": operation["operationId"]
        for path, operations in published.document["paths"].items()
        for method, operation in operations.items()
    }
    assert found.keys() == {endpoint.name for endpoint in ENDPOINTS}
    assert found | NAMES == found
    assert len(set(found.values())) == len(found)


def test_it_is_the_same_in_every_language(service: Service) -> None:
    texts = {
        requests.get(f"{service.url}/schema?format=json", headers={"Accept-Language": language}, timeout=30).text
        for language in ("pt-BR", "en", "de")
    }
    assert len(texts) == 1


def test_it_names_the_version_that_health_names(service: Service, published: Published) -> None:
    assert published.document["info"]["version"] == requests.get(f"{service.url}/health", timeout=30).json()["version"]


def test_its_examples_fit_their_schemas(published: Published) -> None:
    checked = 0
    for operation in (operation for path in published.document["paths"].values() for operation in path.values()):
        contents = [operation.get("requestBody", {"content": {}})["content"]]
        contents += [response["content"] for response in operation["responses"].values()]
        for media in (media for content in contents for media in content.values()):
            for example in media["examples"].values():
                published.validate(media["schema"], example["value"])
                checked += 1
    assert checked > 100


def test_every_error_code_is_described(published: Published) -> None:
    assert published.document["components"]["schemas"]["ErrorCode"]["enum"] == list(CODES)
    named = re.findall(r"`(\w+)`", json.dumps(published.document["paths"]))
    assert set(CODES) - set(named) == LATER


@pytest.mark.parametrize("code", CODES)
def test_every_error_object_fits(published: Published, code: str) -> None:
    error = ApiError(code, retry_after=1.5, turn_id="a", may_have_been_billed=True, errors={"field": ["wrong"]})
    published.validate({"$ref": "#/components/schemas/Error"}, json.loads(json.dumps(error_object(error))))


@pytest.mark.database
def test_the_answers_of_a_conversation_fit(service: Service, published: Published, caller: dict[str, str]) -> None:
    def call(method: str, path: str, body: Any = None) -> Any:
        answer = requests.request(method, service.url + path, json=body, headers=caller, timeout=30)
        assert answer.status_code in (200, 201), answer.text
        published.check(answer)
        return answer.json()

    call("POST", "/api/message", {"message": "Olá", "persona_id": "ana", "timing_metadata": {"ms": 3}})
    chat = call("POST", "/chat", {"message": "Olá", "model": "test/model", "temperature": 0.5, "max_tokens": 9})
    one = f"/sessions/{chat['session_id']}"
    call("PATCH", one, {"title": "Conversa", "metadata": {"canal": "web"}})
    call("POST", "/chat", {"message": "Olá!", "session_id": chat["session_id"], "after_turn": None})
    call("GET", f"{one}?include=superseded")
    reply = call("GET", f"{one}/messages")["data"][1]["id"]
    call("POST", f"/messages/{reply}/feedback", {"rating": "down", "comment": "Vaga."})
    assert call("GET", f"{one}/messages")["data"][1]["feedback"]["rating"] == "down"
    call("POST", f"/messages/{reply}/feedback", {"rating": None})
    call("POST", f"{one}/fork", {})
    assert call("GET", f"{one}/messages?limit=1&order=desc")["next"]
    call("GET", f"/turns/{chat['turn_id']}")
    call("GET", "/sessions")
    assert call("GET", "/sessions?limit=1")["next"]
    call("GET", "/api/sessions?limit=1")
    call("GET", "/models")
    call("GET", "/health")
    call("DELETE", f"/api{one}")


@pytest.mark.database
def test_a_stream_and_its_answer_fit(service: Service, published: Published, caller: dict[str, str]) -> None:
    for path, name in (("/chat", "ChatAnswer"), ("/api/message", "MessageAnswer")):
        answer = requests.post(service.url + path, json={"message": "Olá", "stream": True}, headers=caller, timeout=30)
        assert answer.headers["Content-Type"] == "text/event-stream"
        published.check(answer)
        done = answer.content.decode().partition("event: done\n")[2].partition("data: ")[2]
        published.validate({"$ref": f"#/components/schemas/{name}"}, json.loads(done))


def test_an_answer_whose_history_was_cut_fits(
    make_service: MakeService, upstream: Upstream, caller: dict[str, str]
) -> None:
    service = make_service(HISTORY_MAX_MESSAGES="2")
    published = Published(service)
    for _ in range(3):
        answer = requests.post(
            f"{service.url}/chat", json={"message": "Olá", "session_id": "cortada"}, headers=caller, timeout=30
        )
        published.check(answer)
    assert answer.headers["X-History-Omitted"] == "2"


def test_a_failed_turn_fits_wherever_it_is_shown(
    service: Service, published: Published, upstream: Upstream, caller: dict[str, str]
) -> None:
    upstream.script(scenarios.error_mid_stream())
    body = {"message": "Olá", "session_id": "falha"}
    failed = requests.post(f"{service.url}/chat", json=body, headers=caller, timeout=30)
    published.check(failed)
    assert failed.json()["turn_id"]
    for path in (f"/turns/{failed.json()['turn_id']}", "/sessions/falha", "/sessions/falha/messages"):
        shown = requests.get(service.url + path, headers=caller, timeout=30)
        published.check(shown)
        assert failed.json()["code"] in shown.text


@pytest.mark.parametrize(
    ("scenario", "status"),
    [
        (scenarios.status(400), 400),
        (scenarios.status(401), 401),
        (scenarios.status(402), 402),
        (scenarios.status(403), 403),
        (scenarios.status(404), 502),
        (scenarios.status(404, {"error": "the model was not found"}), 400),
        (scenarios.status(408), 504),
        (scenarios.status(429, headers={"Retry-After": "7"}), 429),
        (scenarios.status(500), 502),
        (scenarios.status(503, headers={"Retry-After": "7"}), 503),
        (scenarios.html(), 502),
        (scenarios.truncated(), 502),
        (scenarios.reset(), 502),
    ],
)
def test_the_provider_s_faults_fit(
    service: Service, published: Published, upstream: Upstream, scenario: Scenario, status: int
) -> None:
    for path in ("/chat", "/api/message"):
        upstream.script(scenario)
        answer = requests.post(service.url + path, json={"message": "Olá"}, timeout=30)
        good = requests.post(service.url + path, json={"message": "Olá"}, timeout=30)  # or the circuit would open
        assert (answer.status_code, good.status_code) == (status, 200)
        published.check(answer)


def test_a_busy_session_s_answer_fits(make_service: MakeService, upstream: Upstream, caller: dict[str, str]) -> None:
    service = make_service(SESSION_BUSY_WAIT_SECONDS="0")
    upstream.script(scenarios.hang(after="Um "))
    url = f"{service.url}/chat"
    body: dict[str, Any] = {"message": "Olá", "session_id": "ocupada", "stream": True}
    with requests.post(url, json=body, headers=caller, stream=True, timeout=30):
        busy = requests.post(url, json=body, headers=caller, timeout=30)
    assert (busy.status_code, busy.headers["Retry-After"]) == (409, "1")
    Published(service).check(busy)


JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status"),
    [
        ("POST", "/chat", b"{", JSON, 400),
        ("POST", "/chat", b"{}", JSON, 400),
        ("POST", "/api/message", b"[]", JSON, 400),
        ("POST", "/chat", b"{}", {"Content-Type": "text/plain"}, 415),
        ("POST", "/chat", b"{}", JSON | {"Accept": "image/png"}, 406),
        ("POST", "/chat", b" " * 2_000_000, JSON, 413),
        ("POST", "/chat", b"{}", JSON | {"Authorization": "Basic eA=="}, 401),
        ("POST", "/api/message", b"{}", JSON | {"Authorization": "Bearer bb_x"}, 401),
        ("PATCH", "/sessions/nenhuma", b"{}", JSON, 404),
        ("PATCH", "/sessions/nenhuma", b'{"title": 1}', JSON, 400),
        ("PATCH", "/sessions/nenhuma", b"{}", {"Content-Type": "text/plain"}, 415),
        ("POST", "/sessions/nenhuma/fork", b"{}", JSON, 404),
        ("POST", "/sessions/nenhuma/fork", b'{"session_id": "a b"}', JSON, 400),
        ("POST", "/messages/nenhuma.1/feedback", b'{"rating": "up"}', JSON, 404),
        ("POST", "/messages/nenhuma/feedback", b'{"rating": "up"}', JSON, 404),
        ("POST", "/messages/nenhuma.1/feedback", b'{"rating": "great"}', JSON, 400),
        ("POST", "/messages/nenhuma.1/feedback", b'{"rating": ["up"]}', JSON, 400),
        ("POST", "/messages/nenhuma.1/feedback", b"{}", JSON, 400),
        ("POST", "/chat", b'{"message": "Oi", "after_turn": "nenhum"}', JSON, 404),
        ("GET", "/sessions/nenhuma/messages?include=all", b"", {}, 404),
        ("DELETE", "/sessions/nenhuma", b"", {}, 404),
        ("DELETE", "/sessions/nenhuma?erase=talvez", b"", {}, 400),
        ("DELETE", "/api/sessions/nenhuma", b"", {}, 404),
        ("GET", "/sessions/nenhuma", b"", {}, 404),
        ("GET", "/sessions/nenhuma/messages", b"", {}, 404),
        ("GET", "/sessions?cursor=x", b"", {}, 400),
        ("GET", "/sessions", b"", {"Accept": "image/png"}, 406),
        ("GET", "/sessions", b"", {"Authorization": "Bearer bb_x"}, 401),
        ("GET", "/sessions?q=%00", b"", {}, 400),
        ("GET", "/sessions", b" " * 2_000_000, {}, 413),
        ("GET", "/api/sessions?limit=0", b"", {}, 400),
        ("GET", "/turns/nenhum", b"", {}, 404),
        ("GET", "/turns/nenhum.", b"", {}, 404),
        ("GET", "/turns/nenhum/events", b"", {}, 404),
        ("GET", "/turns/nenhum/events", b"", {"Last-Event-ID": "x"}, 404),
        ("POST", "/turns/nenhum/cancel", b"", {}, 404),
        ("POST", "/chat", b'{"message": "Oi"}', JSON | {"Idempotency-Key": "x" * 256}, 400),
        ("GET", "/models", b"", {"Authorization": "Bearer bb_x"}, 401),
    ],
)
def test_refusals_fit(
    service: Service,
    published: Published,
    method: str,
    path: str,
    body: bytes,
    headers: dict[str, str],
    status: int,
) -> None:
    answer = requests.request(method, service.url + path, data=body, headers=headers, timeout=30)
    assert answer.status_code == status
    published.check(answer)


BODIES: list[dict[str, Any]] = [
    {"message": "Olá", "unknown": [1]},
    {"message": ""},
    {"message": " \n"},
    {"message": None},
    {"message": 1},
    {"message": ["Olá"]},
    {"message": "a" * 100_000},
    {"message": "a" * 100_001},
    {"session_id": None},
    {"session_id": ""},
    {"session_id": "a.B_1:-"},
    {"session_id": "a b"},
    {"session_id": "a" * 128},
    {"session_id": "a" * 129},
    {"session_id": 5},
    {"after_turn": None},
    {"after_turn": ""},
    {"after_turn": 5},
    {"after_turn": "a" * 65},
    {"stream": False},
    {"stream": None},
    {"stream": "true"},
    {"on_busy": "wait"},
    {"on_busy": "reject"},
    {"on_busy": "other"},
    {"on_busy": None},
    {"on_busy": ["wait"]},
    {"stream": 0},
    {"model": None},
    {"model": ""},
    {"model": "m" * 200},
    {"model": "m" * 201},
    {"model": 3},
    {"temperature": None},
    {"temperature": 2},
    {"temperature": 2.1},
    {"temperature": -0.1},
    {"temperature": "1"},
    {"temperature": True},
    {"max_tokens": None},
    {"max_tokens": 5.0},
    {"max_tokens": 5.5},
    {"max_tokens": 0},
    {"max_tokens": "5"},
    {"system_prompt": None},
    {"system_prompt": "Seja breve."},
    {"system_prompt": 1},
    {"persona_id": None},
    {"persona_id": ""},
    {"persona_id": "p" * 200},
    {"persona_id": "p" * 201},
    {"persona_id": 1},
    {"timing_metadata": None},
    {"timing_metadata": {"a": [1, None, {"b": "c"}]}},
    {"timing_metadata": [1]},
    {"timing_metadata": "now"},
]


@pytest.mark.parametrize("path", ["/chat", "/api/message"])
@pytest.mark.parametrize("body", BODIES, ids=lambda body: json.dumps(body, ensure_ascii=False)[:40])
def test_a_body_is_accepted_exactly_if_its_schema_allows_it(
    service: Service, published: Published, path: str, body: dict[str, Any]
) -> None:
    schema = published.operation("POST", path)["requestBody"]["content"]["application/json"]["schema"]
    whole = {"message": "Olá"} | body
    answer = requests.post(service.url + path, json=whole, timeout=30)
    published.check(answer)
    assert (answer.status_code == 200) == published.accepts(schema, whole), answer.text


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"unknown": 1},
        {"title": ""},
        {"title": "t" * 200},
        {"title": "t" * 201},
        {"title": None},
        {"title": 1},
        {"system_prompt": None},
        {"system_prompt": ["x"]},
        {"metadata": {}},
        {"metadata": None},
        {"metadata": []},
    ],
    ids=lambda change: json.dumps(change)[:40],
)
def test_a_change_is_accepted_exactly_if_its_schema_allows_it(
    service: Service, published: Published, caller: dict[str, str], change: dict[str, Any]
) -> None:
    body = {"message": "Olá", "session_id": "mudada"}
    requests.post(f"{service.url}/chat", json=body, headers=caller, timeout=30).raise_for_status()
    schema = published.operation("PATCH", "/sessions/mudada")["requestBody"]["content"]["application/json"]["schema"]
    answer = requests.patch(f"{service.url}/sessions/mudada", json=change, headers=caller, timeout=30)
    published.check(answer)
    assert (answer.status_code == 200) == published.accepts(schema, change), answer.text


@pytest.mark.parametrize(
    ("path", "name", "value"),
    [
        ("/sessions", "limit", 1),
        ("/sessions", "limit", 100),
        ("/sessions", "limit", 101),
        ("/sessions", "limit", 0),
        ("/sessions", "limit", -1),
        ("/sessions", "limit", "ten"),
        ("/sessions", "cursor", "1749810600000000.7"),
        ("/sessions", "cursor", "abc"),
        ("/sessions", "q", "cartão"),
        ("/sessions", "persona_id", "ana"),
        ("/api/sessions", "limit", 1000),
        ("/api/sessions", "limit", 1001),
        ("/api/sessions", "cursor", "1.x"),
        ("/sessions/lida/messages", "limit", 101),
        ("/sessions/lida/messages", "order", "asc"),
        ("/sessions/lida/messages", "order", "desc"),
        ("/sessions/lida/messages", "order", "DESC"),
        ("/sessions/lida/messages", "after", "Zk3rV0p9Qm2bXc8TtYw1Aa.1"),
        ("/sessions/lida/messages", "before", "Zk3rV0p9Qm2bXc8TtYw1Aa"),
        ("/sessions/lida/messages", "before", "x.y"),
    ],
)
def test_a_parameter_is_accepted_exactly_if_its_schema_allows_it(
    service: Service, published: Published, caller: dict[str, str], path: str, name: str, value: Any
) -> None:
    body = {"message": "Olá", "session_id": "lida"}
    requests.post(f"{service.url}/chat", json=body, headers=caller, timeout=30).raise_for_status()
    described = {parameter.get("name"): parameter for parameter in published.operation("GET", path)["parameters"]}
    answer = requests.get(service.url + path, {name: value}, headers=caller, timeout=30)
    published.check(answer)
    assert (answer.status_code == 200) == published.accepts(described[name]["schema"], value), answer.text


@pytest.mark.parametrize("value", [0, 3, 999_999_999, 1_000_000_000, -1, "x"])
@pytest.mark.parametrize("name", ["after", "Last-Event-ID"])
def test_a_place_in_a_stream_is_accepted_exactly_if_its_schema_allows_it(
    service: Service, published: Published, caller: dict[str, str], name: str, value: Any
) -> None:
    turn = requests.post(f"{service.url}/chat", json={"message": "Olá"}, headers=caller, timeout=30).json()["turn_id"]
    described = {part.get("name"): part for part in published.operation("GET", f"/turns/{turn}/events")["parameters"]}
    sent = {name: str(value)}
    where: dict[str, Any] = {"params": sent} if name == "after" else {}
    headers = caller if name == "after" else caller | sent
    answer = requests.get(f"{service.url}/turns/{turn}/events", headers=headers, timeout=30, **where)
    published.check(answer)
    assert (answer.status_code == 200) == published.accepts(described[name]["schema"], value), answer.text


@pytest.mark.database
def test_a_replay_and_a_mismatch_fit(service: Service, published: Published, caller: dict[str, str]) -> None:
    headers = caller | {"Idempotency-Key": "k"}
    answers = [
        requests.post(f"{service.url}/chat", json={"message": text}, headers=headers, timeout=30)
        for text in ("Olá", "Olá", "Outra")
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 422]
    for answer in answers:
        published.check(answer)
    turn = answers[0].json()["turn_id"]
    published.check(requests.post(f"{service.url}/turns/{turn}/cancel", headers=caller, timeout=30))


@pytest.mark.parametrize(
    "value", ["2025-06-13", "2025-06-13T10:30:00", "2025-06-13T10:30:00Z", "2025-06-13T10:30:00-03:00"]
)
def test_a_moment_may_be_written_in_the_ways_that_the_document_names(service: Service, value: str) -> None:
    assert requests.get(f"{service.url}/sessions", {"since": value, "until": value}, timeout=30).status_code == 200

"""Every session belongs to its caller; for all others it does not exist."""

import hashlib
import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from testing import scenarios
from testing.client import Caller, good, new_id, problem
from testing.service import Service
from testing.upstream import Upstream
from tests.conftest import MakeService

CALLERS = ["open", "a", "b"]


@pytest.fixture
def callers(service: Service) -> dict[str, Caller]:
    return {"open": Caller(service, key=""), "a": Caller(service), "b": Caller(service)}


def requests_about(session: str, turn: str) -> list[tuple[str, str, dict[str, Any]]]:
    """Every endpoint that names a session or a turn and does not start one."""
    return [
        ("GET", f"/sessions/{session}", {}),
        ("GET", f"/sessions/{session}/", {}),
        ("PATCH", f"/sessions/{session}", {"json": {"title": "tomada"}}),
        ("GET", f"/sessions/{session}/messages", {}),
        ("GET", f"/sessions/{session}/messages?order=desc&limit=1", {}),
        ("GET", f"/sessions/{session}/export", {}),
        ("GET", f"/turns/{turn}", {}),
        ("GET", f"/turns/{turn}/", {}),
        ("GET", f"/turns/{turn}/events", {}),
        ("POST", f"/turns/{turn}/cancel", {"json": {}}),
        ("POST", f"/sessions/{session}/fork", {"json": {}}),
        ("POST", f"/messages/{turn}.1/feedback", {"json": {"rating": "up"}}),
        ("DELETE", f"/sessions/{session}", {}),
        ("DELETE", f"/api/sessions/{session}", {}),
        ("DELETE", f"/sessions/{session}?erase=true", {}),
    ]


def seen(caller: Caller, method: str, path: str, options: dict[str, Any], session: str, turn: str) -> tuple[Any, ...]:
    """All of an answer that could distinguish cases, without the requested ids."""
    response = caller.call(method, path, **options)
    body = response.text.replace(response.headers["x-request-id"], "REQUEST")
    headers = {name: value for name, value in response.headers.items() if name not in ("x-request-id", "date")}
    return response.status_code, body.replace(session, "SESSION").replace(turn, "TURN"), headers


@pytest.mark.parametrize("owner, stranger", list(itertools.permutations(CALLERS, 2)))
def test_another_s_session_looks_like_a_missing_one(callers: dict[str, Caller], owner: str, stranger: str) -> None:
    session = new_id()
    turn = callers[owner].chat("Meu segredo", session_id=session)["turn_id"]
    missing, missing_turn = new_id(), "x" * len(turn)
    for theirs, nobodys in zip(requests_about(session, turn), requests_about(missing, missing_turn), strict=True):
        found = seen(callers[stranger], *theirs, session, turn)
        assert found == seen(callers[stranger], *nobodys, missing, missing_turn), theirs
        assert found[0] == 404
        assert "segredo" not in found[1]
    assert callers[owner].texts(session)[0] == "Meu segredo"
    assert callers[owner].session(session)["title"] == "Meu segredo"


def test_the_provider_learns_no_session_s_id(callers: dict[str, Caller], upstream: Upstream) -> None:
    """The provider recognises a conversation, so its prompt cache works."""
    session = f"cpf-123.456.789-09-{new_id()}"
    for name in ("a", "a", "b"):
        callers[name].chat("Oi", session_id=session)
    told = [request.body["session_id"] for request in upstream.requests]
    assert told[0] == told[1] != told[2]
    assert not any("cpf" in str(request.body) or "cpf" in str(request.headers) for request in upstream.requests)


def test_a_running_turn_is_nobody_else_s_business(callers: dict[str, Caller], upstream: Upstream) -> None:
    gate, session = threading.Event(), new_id()
    upstream.script(scenarios.gated(gate, scenarios.rest("fim"), after="Segredo "))
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(callers["a"].chat, "Oi", session_id=session)
        upstream.wait_until(lambda: upstream.count == 1)
        turn = callers["a"].messages(session)[1]["turn_id"]
        for stranger in ("b", "open"):
            problem(callers[stranger].get(f"/turns/{turn}"), 404, "turn_not_found")
            problem(callers[stranger].get(f"/sessions/{session}"), 404, "session_not_found")
        gate.set()
        asking.result()


def test_lists_show_the_caller_s_own_sessions_alone(callers: dict[str, Caller]) -> None:
    mark = new_id()
    for name, caller in callers.items():
        caller.chat(f"{mark} de {name}", session_id=f"{mark}-{name}")
    for name, caller in callers.items():
        found = good(caller.get("/sessions", q=mark))["data"]
        assert [session["session_id"] for session in found] == [f"{mark}-{name}"]
        listed = [session for session in good(caller.get("/api/sessions"))["sessions"] if session.startswith(mark)]
        assert listed == [f"{mark}-{name}"]
        assert good(caller.get("/api/sessions"))["count"] == len(good(caller.get("/api/sessions"))["sessions"])


def test_one_id_of_two_owners_is_two_sessions(callers: dict[str, Caller], upstream: Upstream) -> None:
    session = new_id()
    for name, caller in callers.items():
        caller.chat(f"Sou {name}", session_id=session, system_prompt=f"Atende {name}", model=f"modelo/{name}")
    for name, caller in callers.items():
        caller.chat("De novo", session_id=session)
        sent = upstream.requests[-1]
        assert [message["content"] for message in sent.messages] == [
            f"Atende {name}", f"Sou {name}", f"Eco (2): Sou {name}", "De novo",
        ]  # fmt: skip
        assert sent.body["model"] == f"modelo/{name}"
    good(callers["a"].call("DELETE", f"/sessions/{session}"))
    assert len(callers["b"].texts(session)) == len(callers["open"].texts(session)) == 4


def test_one_id_of_two_owners_at_once_is_answered_to_each(callers: dict[str, Caller]) -> None:
    session = new_id()

    def say(number: int) -> tuple[str, str]:
        name = CALLERS[number % 3]
        return name, callers[name].chat(f"Sou {name}", session_id=session)["response"]

    with ThreadPoolExecutor(9) as pool:
        for name, response in pool.map(say, range(18)):
            assert response.endswith(f": Sou {name}")
    for name, caller in callers.items():
        assert {text.rpartition(": ")[2] for text in caller.texts(session)} == {f"Sou {name}"}


def test_the_cursor_of_another_shows_one_s_own_sessions(callers: dict[str, Caller]) -> None:
    for caller in (callers["a"], callers["b"]):
        for number in range(3):
            caller.chat("Oi", session_id=f"s{number}-{caller.key[-4:]}")
    following = good(callers["a"].get("/sessions", limit=1))["next"]
    found = good(callers["b"].get(following))["data"]
    assert {session["session_id"][3:] for session in found} <= {callers["b"].key[-4:]}


# The Authorization header


@pytest.mark.parametrize("path", ["/chat", "/api/message"])
@pytest.mark.parametrize("key", ["bb_abc", "bb_", "bb_" + "x" * 400])
def test_a_key_that_looks_like_ours_never_goes_upstream(
    service: Service, upstream: Upstream, path: str, key: str
) -> None:
    response = Caller(service, key=key).post(path, message="Oi")
    problem(response, 401, "invalid_api_key")
    assert response.headers["www-authenticate"] == "Bearer"
    assert upstream.count == 0


def test_a_key_that_looks_like_ours_is_refused_everywhere(service: Service, upstream: Upstream) -> None:
    caller = Caller(service, key="bb_abc")
    for method, path, options in [*requests_about("s", "t"), ("GET", "/sessions", {}), ("GET", "/api/sessions", {})]:
        response = caller.call(method, path, **options)
        if response.json()["code"] != "not_found":  # this address exists for nobody
            problem(response, 401, "invalid_api_key")
    assert upstream.count == 0
    assert upstream.model_requests == []


@pytest.mark.parametrize(
    "header, status",
    [
        (b"Basic dXNlcjpwYXNz", 401), (b"Bearer", 401), (b"sk-sem-esquema", 401), (b"Token x", 401),
        (b"Bearer\tsk-x", 401), ("Bearer sk-çã".encode(), 400), (b"Bearer sk-\xff", 400), (b"Bearer a b", 400),
        (b"Bearer a,Bearer b", 400), (b"Bearer " + b"x" * 513, 400),
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/chat", "/sessions"])
def test_a_malformed_authorization_header_is_refused(
    service: Service, upstream: Upstream, header: bytes, status: int, path: str
) -> None:
    method = "POST" if path == "/chat" else "GET"
    options: dict[str, Any] = {"json": {"message": "Oi"}} if path == "/chat" else {}
    response = Caller(service, key="").call(method, path, headers={b"Authorization": header}, **options)
    problem(response, status, "not_authenticated" if status == 401 else "invalid_request")
    assert upstream.count == 0


@pytest.mark.parametrize("header", ["bearer {}", "BEARER {}", "Bearer  {}"])
def test_the_scheme_s_case_and_spaces_make_no_other_caller(service: Service, upstream: Upstream, header: str) -> None:
    caller, session = Caller(service), new_id()
    caller.chat("Oi", session_id=session)
    same = Caller(service, key="", Authorization=header.format(caller.key))
    assert same.texts(session)[0] == "Oi"
    same.chat("De novo", session_id=session)
    assert upstream.requests[-1].headers["authorization"] == f"Bearer {caller.key}"


def test_two_authorization_headers_are_refused(service: Service, upstream: Upstream) -> None:
    headers = [("Authorization", "Bearer sk-um"), ("Authorization", "Bearer sk-dois")]
    response = Caller(service, key="").call("POST", "/chat", json={"message": "Oi"}, headers=headers)
    assert 400 <= response.status_code < 500
    assert upstream.count == 0


def test_an_empty_authorization_header_is_the_open_caller(service: Service) -> None:
    session = new_id()
    Caller(service, key="", Authorization="").chat("Oi", session_id=session)
    assert Caller(service, key="").texts(session)[0] == "Oi"


# Places without keys


def test_a_key_is_in_no_row_and_no_log(make_service: MakeService, upstream: Upstream) -> None:
    service = make_service(LOG_LEVEL="DEBUG", LOG_FORMAT="json")
    key = "sk-CHAVE-QUE-NAO-FICA-0123456789"
    caller = Caller(service, key=key)
    caller.chat("Oi", session_id="s")
    upstream.script(scenarios.status(401, {"error": {"code": 401, "message": f"bad key {key}"}}))
    assert key not in caller.post("/chat", message="Oi", session_id="s").text
    assert key not in caller.post("/chat", message="").text
    good(caller.get("/models"))
    Caller(service, key=f"{key} x").post("/chat", message="Oi")
    Caller(service, key=f"bb_{key}").post("/chat", message="Oi")
    assert key not in service.log()
    assert key not in everything_stored(service)


def test_an_owner_is_no_plain_hash_of_the_key(service: Service) -> None:
    """A keyed hash: somebody with the rows cannot find the key by trying keys."""
    caller, session = Caller(service), new_id()
    caller.chat("Oi", session_id=session)
    owner = service.sql("SELECT owner FROM sessions_api_session WHERE session_id = %s", session)[0][0]
    for algorithm in ("md5", "sha1", "sha256", "sha512", "blake2b"):
        assert hashlib.new(algorithm, caller.key.encode()).hexdigest()[:20] not in owner


def everything_stored(service: Service) -> str:
    if service.database_url.startswith("sqlite"):
        # The search index can't be read as a table, but its own tables can.
        tables = "SELECT name FROM sqlite_master WHERE type = 'table' AND sql NOT LIKE %s"
        names = [name for (name,) in service.sql(tables, "CREATE VIRTUAL TABLE%")]
    else:
        names = [name for (name,) in service.sql("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")]
    assert "sessions_api_message" in names
    return "".join(str(service.sql(f'SELECT * FROM "{name}"')) for name in names)

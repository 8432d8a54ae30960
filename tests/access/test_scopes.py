"""Scopes: what a client's key may do; and admin:read, which sees all sessions and changes none."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from access.models import usual_scopes
from chat.turns import ModelsViewSet, TurnsViewSet
from chat.views import ChatViewSet
from testing.client import Caller, good, new_id, problem
from testing.service import Service
from testing.upstream import Upstream
from tests.support.endpoints import ENDPOINTS, Endpoint
from tests.support.keys import ALL_SCOPES, Client, made_up_key
from tests.support.services import Services

ADMIN = "admin:read"
ERASING = "?erase=true"
BY_NAME = {endpoint.name: endpoint for endpoint in ENDPOINTS}
NEEDED = {name: endpoint.scopes or set(ALL_SCOPES) for name, endpoint in BY_NAME.items()}  # one of these is enough
for _name in [name for name, endpoint in BY_NAME.items() if endpoint.action == "destroy"]:  # it depends on the address
    NEEDED |= {_name: {"sessions:write"}, _name + ERASING: {"sessions:erase"}}
READING = [name for name, scopes in NEEDED.items() if ADMIN in scopes and "session" in name]


@pytest.fixture(scope="module")
def house(fronts: Services) -> Iterator[Service]:
    with fronts.own(ACCESS_MODE="keys+byok") as service:
        yield service


def ask(caller: Caller, name: str, session: str, turn: str = "", **parameters: str) -> httpx.Response:
    endpoint = BY_NAME[name.removesuffix(ERASING)]
    url = httpx.URL(endpoint.address(session, turn)).copy_merge_params(parameters)
    if name.endswith(ERASING):
        url = url.copy_merge_params({"erase": "true"})
    return caller.call(endpoint.method, str(url), json=endpoint.body(session, turn))


def talked(client: Client, text: str = "Oi") -> tuple[str, str]:
    """A session of the client's, and its turn."""
    answer = client.caller().chat(text, session_id=new_id())
    return answer["session_id"], answer["turn_id"]


def rows(service: Service, owner: str) -> list[Any]:
    sessions = service.sql("SELECT * FROM sessions_api_session WHERE owner = %s ORDER BY id", owner)
    return sessions + [
        row
        for session in sessions
        for row in service.sql("SELECT * FROM sessions_api_message WHERE session_id = %s ORDER BY position", session[0])
    ]


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.name)
def test_every_endpoint_names_the_scopes_of_its_kind(endpoint: Endpoint) -> None:
    """Reading sessions, changing sessions, and talking: whatever is new is one of them."""
    scopes = endpoint.scopes  # a view set that names none for an action fails here, and answers nobody
    if getattr(endpoint.view, "keyless", False):
        assert scopes == set()
    elif "/sessions" in endpoint.path:
        reading, changing = {"sessions:read", ADMIN}, {"sessions:write", "sessions:erase"}
        assert scopes and scopes <= (reading if endpoint.method == "GET" else changing)
    else:
        assert "chat" in scopes
        assert scopes <= {"chat", "sessions:read" if endpoint.method == "GET" else "sessions:write"}


@pytest.mark.parametrize("name", [name for name in NEEDED if NEEDED[name] != set(ALL_SCOPES)])
def test_a_key_without_the_scope_is_refused_and_nothing_happens(house: Service, upstream: Upstream, name: str) -> None:
    client = Client(house)
    session, turn = talked(client)
    before, asked = rows(house, client.owner), upstream.count
    client.set(scopes=[scope for scope in ALL_SCOPES if scope not in NEEDED[name]])
    said = ask(client.caller(), name, session, turn)
    assert problem(said, 403, "permission_denied")["scope"] in NEEDED[name]
    assert rows(house, client.owner) == before
    assert upstream.count == asked


@pytest.mark.parametrize("name, scope", [(name, scope) for name in NEEDED for scope in sorted(NEEDED[name])])
def test_one_scope_of_those_needed_is_enough(house: Service, name: str, scope: str) -> None:
    client = Client(house)
    session, turn = talked(client)
    client.set(scopes=[scope])
    assert ask(client.caller(), name, session, turn).is_success


def test_a_refusal_does_not_say_whether_the_session_exists(house: Service) -> None:
    owner, other = Client(house), Client(house, scopes=["chat"])
    session, _ = talked(owner)
    caller = other.caller()
    for name in READING:
        answers = [ask(caller, name, one) for one in (session, new_id())]
        texts = {answer.text.replace(answer.headers["x-request-id"], "") for answer in answers}
        assert len(texts) == 1
        assert {answer.status_code for answer in answers} == {403}


def test_who_brings_a_key_has_all_rights_but_the_admin_s(house: Service) -> None:
    for name, scopes in NEEDED.items():
        caller, session = Caller(house), new_id()
        turn = caller.chat("Oi", session_id=session)["turn_id"]
        assert ask(caller, name, session, turn).is_success
        if ADMIN in scopes and name in READING:
            problem(ask(caller, name, session, turn, owner="*"), 403, "permission_denied")


# ?owner=


@pytest.mark.parametrize("name", READING)
def test_nobody_without_admin_read_can_name_another_owner(house: Service, name: str) -> None:
    """The same words for every owner and every address."""
    owner = Client(house)
    session, _ = talked(owner, "SEGREDO")
    texts = set()
    for caller in (Client(house).caller(), Caller(house)):
        for named in (owner.owner, "*", "open", "client:naoexiste000", "byok:x", "%", "' OR 1=1"):
            answer = ask(caller, name, session, owner=named)
            problem(answer, 403, "permission_denied")
            texts.add(answer.text.replace(answer.headers["x-request-id"], ""))
    assert len(texts) == 1


@pytest.mark.parametrize("name", READING)
@pytest.mark.parametrize("named", ["*", "its"])
def test_admin_read_reads_the_sessions_of_others(house: Service, name: str, named: str) -> None:
    owners = [Client(house), Client(house)]
    sessions = [talked(owner, f"SEGREDO {owner.client_id}")[0] for owner in owners]
    reader = Client(house, scopes=[ADMIN]).caller()
    answer = ask(reader, name, sessions[0], owner=owners[0].owner if named == "its" else "*")
    assert answer.status_code == 200
    assert sessions[0] in answer.text or "SEGREDO" in answer.text
    if "{session_id}" not in name:
        assert (sessions[1] in answer.text) == (named == "*")


def test_admin_read_sees_only_its_own_unless_it_says_so(house: Service) -> None:
    session, _ = talked(Client(house))
    reader = Client(house, scopes=ALL_SCOPES).caller()
    problem(reader.get(f"/sessions/{session}"), 404, "session_not_found")
    assert good(reader.get("/sessions"))["data"] == []
    assert good(reader.get("/api/sessions"))["count"] == 0


def test_pages_of_all_owners_go_on_with_all_owners(house: Service) -> None:
    wanted = {talked(Client(house), f"marca {number}")[0] for number in range(3)}
    reader, found, url = Client(house, scopes=[ADMIN]).caller(), set(), "/sessions?owner=*&limit=1&q=marca"
    while url:
        page = good(reader.call("GET", url))
        found |= {session["session_id"] for session in page["data"]}
        url = page["next"]
    assert found >= wanted


def test_the_next_page_of_an_admin_is_of_no_use_to_others(house: Service) -> None:
    for _ in range(3):
        talked(Client(house))
    following = good(Client(house, scopes=[ADMIN]).caller().get("/sessions", owner="*", limit="1"))["next"]
    problem(Client(house).caller().call("GET", following), 403, "permission_denied")
    without = following.replace(f"owner={quote('*')}", "").replace("owner=*", "")
    assert good(Client(house).caller().call("GET", without)) == {"data": [], "next": None}


@pytest.mark.parametrize("name", [name for name in NEEDED if name.split()[0] in ("PATCH", "DELETE")])
@pytest.mark.parametrize("named", ["*", "its", ""])
def test_admin_read_changes_nothing_of_others(house: Service, name: str, named: str) -> None:
    owner = Client(house)
    session, _ = talked(owner)
    before = rows(house, owner.owner)
    admin = Client(house, scopes=ALL_SCOPES).caller()
    answer = ask(admin, name, session, **({"owner": owner.owner if named == "its" else named} if named else {}))
    problem(answer, 403 if named else 404, "permission_denied" if named else "session_not_found")
    assert rows(house, owner.owner) == before


def test_admin_read_does_not_talk_in_others_sessions(house: Service, upstream: Upstream) -> None:
    owner = Client(house)
    session, turn = talked(owner, "SEGREDO")
    before, asked = rows(house, owner.owner), upstream.count
    admin = Client(house, scopes=ALL_SCOPES)
    for path in ("/chat", "/api/message"):
        good(admin.caller().call("POST", f"{path}?owner={owner.owner}", json={"message": "Oi", "session_id": session}))
    assert "SEGREDO" not in str([request.body for request in upstream.requests[asked:]])
    for name in ("GET /turns/{turn_id}", "GET /turns/{turn_id}/events", "POST /turns/{turn_id}/cancel"):
        problem(ask(admin.caller(), name, session, turn, owner=owner.owner), 404, "turn_not_found")
    assert rows(house, owner.owner) == before


def test_each_read_of_an_admin_is_in_the_audit_log(house: Service) -> None:
    owner, reader = Client(house), Client(house, scopes=[ADMIN])
    session, _ = talked(owner, "SEGREDO")
    key = reader.key()
    caller = Caller(house, key.whole, X_Request_ID=f"pedido-{new_id()}")
    for name in READING:
        for named in (owner.owner, "*"):
            assert ask(caller, name, session, owner=named).status_code == 200
    query = "SELECT action, actor, target, owner, address, request_id, details FROM access_auditentry WHERE actor = %s"
    entries = house.sql(f"{query} ORDER BY id", f"{reader.owner}/{key.identifier}")
    about = [(action, target, owner) for action, _, target, owner, *_ in entries]
    one, lists = ("session.read", session, owner.owner), "sessions.listed"
    expected = {"GET /sessions": lists, "GET /api/sessions": lists}
    exported = {"GET /sessions/{session_id}/export": ("sessions.exported", session, owner.owner)}
    assert about == [
        (expected[name], "", named) if name in expected else exported.get(name, one)
        for name in READING
        for named in (owner.owner, "*")
    ]
    assert {entry[4] for entry in entries} == {"127.0.0.1"}
    assert {entry[5] for entry in entries} == {caller.headers["X-Request-ID"]}
    assert "SEGREDO" not in str(entries)


# Other things of an owner


def test_another_s_idempotency_key_is_just_a_name(house: Service, upstream: Upstream) -> None:
    named, body = {"Idempotency-Key": new_id()}, {"message": "SEGREDO do primeiro", "session_id": new_id()}
    first = Client(house).caller().call("POST", "/chat", json=body, headers=named)
    for caller in (Client(house).caller(), Caller(house)):
        asked = upstream.count
        for sent in ({"message": "Oi"}, body | {"stream": True}):
            answer = caller.call("POST", "/chat", json=sent, headers=named if sent == {"message": "Oi"} else None)
            assert answer.status_code == 200
            assert "idempotent-replayed" not in answer.headers
            assert good(first)["turn_id"] not in answer.text
        assert upstream.count == asked + 2


def test_keys_of_one_client_are_one_owner_and_keys_of_two_are_two(house: Service) -> None:
    client = Client(house)
    session, _ = talked(client)
    assert client.caller().texts(session)[0] == "Oi"
    problem(Client(house).caller().get(f"/sessions/{session}"), 404, "session_not_found")
    problem(Caller(house, made_up_key()).get(f"/sessions/{session}"), 401, "invalid_api_key")


def test_the_usual_scopes_do_not_erase(house: Service) -> None:
    client = Client(house, scopes=usual_scopes())
    session, _ = talked(client)
    problem(client.caller().call("DELETE", f"/sessions/{session}?erase=1"), 403, "permission_denied")
    good(client.caller().call("DELETE", f"/sessions/{session}?erase=0"))


@pytest.mark.parametrize("path", ["/chat", "/api/message", "/models", "/turns/t", "/turns/t/events", "/turns/t/cancel"])
def test_a_method_that_is_the_name_of_something_else_is_none(house: Service, upstream: Upstream, path: str) -> None:
    """A method may be any word, also the name of a view's attribute."""
    names = {name for view in (ChatViewSet, ModelsViewSet, TurnsViewSet) for name in dir(view) if name.isascii()}
    caller = Client(house, scopes=[]).caller()
    with caller.connection() as client:
        for name in sorted(name for name in names if not name.startswith("_") and name not in ("get", "post", "head")):
            answer = client.request(name.upper(), path, json={"message": "Oi"})
            assert answer.status_code == (405 if len(name) <= 20 else 400), name  # gunicorn knows none that is longer
    assert upstream.count == 0

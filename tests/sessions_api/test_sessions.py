"""The record's endpoints: lists, pages, one session, its messages, changes and removal."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from testing import scenarios
from testing.client import Caller, good, new_id, problem
from testing.service import Service
from testing.upstream import Upstream
from tests.support.services import Services


@pytest.fixture
def caller(service: Service) -> Caller:
    return Caller(service)


def ids(page: dict[str, Any]) -> list[str]:
    return [session["session_id"] for session in page["data"]]


def pages(caller: Caller, path: str, **parameters: Any) -> Iterator[dict[str, Any]]:
    """All pages of a list, as a client that follows `next` gets them."""
    page = good(caller.get(path, **parameters))
    yield page
    while page["next"]:
        page = good(caller.get(page["next"]))
        yield page


def converse(caller: Caller, turns: int) -> str:
    session = new_id()
    for number in range(turns):
        caller.chat(f"Pergunta {number}", session_id=session)
    return session


# GET /api/sessions and GET /sessions


def test_a_new_caller_has_no_sessions(caller: Caller) -> None:
    assert good(caller.get("/api/sessions")) == {"sessions": [], "count": 0, "next": None}
    assert good(caller.get("/sessions")) == {"data": [], "next": None}


@pytest.mark.parametrize("slash", ["", "/"])
def test_lists_name_the_last_active_first(caller: Caller, slash: str) -> None:
    for session in ("a", "b", "c", "a"):
        caller.chat("Oi", session_id=session)
    assert good(caller.get(f"/api/sessions{slash}")) == {"sessions": ["a", "c", "b"], "count": 3, "next": None}
    assert ids(good(caller.get(f"/sessions{slash}"))) == ["a", "c", "b"]


def test_the_ids_come_in_pages_with_the_total_on_each(caller: Caller) -> None:
    for number in range(5):
        caller.chat("Oi", session_id=f"s{number}")
    found = list(pages(caller, "/api/sessions", limit=2))
    assert [page["sessions"] for page in found] == [["s4", "s3"], ["s2", "s1"], ["s0"]]
    assert [page["count"] for page in found] == [5, 5, 5]


def test_a_last_page_that_is_full_has_no_next(caller: Caller) -> None:
    for number in range(4):
        caller.chat("Oi", session_id=f"s{number}")
    assert [len(page["data"]) for page in pages(caller, "/sessions", limit=2)] == [2, 2]


def test_next_keeps_every_filter(caller: Caller) -> None:
    for number in range(3):
        good(caller.post("/api/message", message="Quero um cartão", persona_id="p&1 ção", session_id=f"s{number}"))
        good(caller.post("/api/message", message="Quero um cartão", persona_id="outra"))
    filters = {"persona_id": "p&1 ção", "q": "cartão", "since": "2020-01-01T00:00:00Z", "limit": 1}
    found = list(pages(caller, "/sessions", **filters))
    assert [ids(page) for page in found] == [["s2"], ["s1"], ["s0"]]
    query = parse_qs(urlsplit(found[0]["next"]).query)
    assert {name: query[name] for name in filters} == {name: [str(value)] for name, value in filters.items()}


def test_next_is_a_whole_address_of_this_service(caller: Caller, service: Service) -> None:
    for number in range(2):
        caller.chat("Oi", session_id=f"s{number}")
    assert good(caller.get("/sessions", limit=1))["next"].startswith(f"{service.url}/sessions?")


def test_pages_neither_repeat_nor_miss_sessions_while_others_are_active(caller: Caller) -> None:
    for number in range(6):
        caller.chat("Oi", session_id=f"s{number}")
    first = good(caller.get("/sessions", limit=3))
    caller.chat("De novo", session_id="s5")
    caller.chat("Nova", session_id="nova")
    second = good(caller.get(first["next"]))
    assert ids(first) + ids(second) == ["s5", "s4", "s3", "s2", "s1", "s0"]


def test_sessions_of_one_moment_are_all_listed(caller: Caller, service: Service) -> None:
    for number in range(4):
        caller.chat("Oi", session_id=f"{caller.key}-{number}")
    service.sql(
        "UPDATE sessions_api_session SET last_activity_at = '2026-01-01 00:00:00' WHERE session_id LIKE %s",
        f"{caller.key}%",
    )
    found = [session for page in pages(caller, "/sessions", limit=1) for session in ids(page)]
    assert found == [f"{caller.key}-{number}" for number in (3, 2, 1, 0)]


def test_lists_can_be_searched(caller: Caller) -> None:
    caller.chat("Quanto é a TARIFA do cartão?", session_id="cartao")
    caller.chat("Fale do Pix 100% seguro", session_id="pix")
    good(caller.call("PATCH", "/sessions/pix", json={"title": "Transferências"}))
    for text, expected in (
        ("tarifa", ["cartao"]), ("Eco (1): fale", ["pix"]), ("transfer", ["pix"]), ("empréstimo", []), ("_", []),
        ("100%", ["pix"]), ("1%0", []), ("%", []), ("", ["pix", "cartao"]),
    ):  # fmt: skip
        assert ids(good(caller.get("/sessions", q=text))) == expected, text


def test_lists_are_cut_by_time(caller: Caller) -> None:
    caller.chat("Oi", session_id="s")
    hour = timedelta(hours=1)
    now = datetime.now(UTC)
    for name, moment, expected in (
        ("since", now - hour, ["s"]), ("since", now + hour, []),
        ("until", now + hour, ["s"]), ("until", now - hour, []),
    ):  # fmt: skip
        assert ids(good(caller.get("/sessions", **{name: moment.isoformat()}))) == expected
        assert ids(good(caller.get("/sessions", **{name: f"{moment:%Y-%m-%dT%H:%M:%SZ}"}))) == expected
    assert ids(good(caller.get("/sessions", since="2020-01-01"))) == ["s"]


def test_a_listed_session_is_the_session(caller: Caller) -> None:
    session = converse(caller, 1)
    alone = caller.session(session)
    alone.pop("messages")
    assert good(caller.get("/sessions"))["data"] == [alone]


# GET /sessions/{id}


def test_a_session_has_every_key_of_the_contract(caller: Caller) -> None:
    session = converse(caller, 2)
    found = caller.session(session)
    created, active = (datetime.fromisoformat(found.pop(name)) for name in ("created_at", "last_activity_at"))
    assert created.utcoffset() == active.utcoffset() == timedelta(0)
    assert created < active
    messages = found.pop("messages")
    known = {"session_id": session, "title": "Pergunta 0", "model": "", "message_count": 4, "metadata": {}}
    assert found.items() >= known.items()
    assert found["usage"].items() >= {"prompt_tokens": 40, "completion_tokens": 10, "total_tokens": 50}.items()
    assert messages == caller.messages(session)


def test_a_session_shows_its_newest_messages_oldest_first(caller: Caller) -> None:
    session = converse(caller, 12)
    shown = [message["content"] for message in caller.session(session)["messages"]]
    assert len(shown) == 20
    assert shown == caller.texts(session)[-20:]
    assert shown[-2] == "Pergunta 11"


def test_a_session_that_is_not_there_is_404(caller: Caller) -> None:
    for method, path in (
        ("GET", "/sessions/nada"), ("PATCH", "/sessions/nada"), ("DELETE", "/sessions/nada"),
        ("DELETE", "/api/sessions/nada"), ("GET", "/sessions/nada/messages"),
    ):  # fmt: skip
        options: dict[str, Any] = {"json": {}} if method == "PATCH" else {}
        problem(caller.call(method, path, **options), 404, "session_not_found")


@pytest.mark.parametrize("session", ["a", "A.b_c:d-e", "0" * 128, "messages", ".", "..", "-", "null"])
def test_every_allowed_session_id_leads_to_its_session(caller: Caller, session: str) -> None:
    assert caller.chat("Oi", session_id=session)["session_id"] == session
    escaped = session.replace(".", "%2E") if set(session) == {"."} else session
    assert good(caller.get(f"/sessions/{escaped}/messages"))["data"][0]["content"] == "Oi"
    assert good(caller.call("DELETE", f"/api/sessions/{escaped}"))["status"] == "success"


def test_session_ids_differ_by_case(caller: Caller) -> None:
    caller.chat("Oi", session_id="Conta")
    problem(caller.get("/sessions/conta"), 404, "session_not_found")
    caller.chat("Oi", session_id="conta")
    assert good(caller.get("/api/sessions"))["count"] == 2


# GET /sessions/{id}/messages


def test_messages_come_oldest_first_with_every_key(caller: Caller) -> None:
    question, reply = caller.messages(converse(caller, 1))
    expected = {
        "id", "role", "content", "status", "model", "usage", "latency_ms", "first_token_ms", "finish_reason", "error",
        "metadata", "created_at",
    }  # fmt: skip
    assert question.keys() == reply.keys() >= expected
    assert (question["role"], reply["role"]) == ("user", "assistant")
    assert datetime.fromisoformat(reply["created_at"]).utcoffset() == timedelta(0)
    assert question["id"] != reply["id"]


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_messages_come_in_pages_in_both_orders(caller: Caller, order: str) -> None:
    session = converse(caller, 4)
    expected = caller.texts(session)
    found = list(pages(caller, f"/sessions/{session}/messages", limit=3, order=order))
    assert [len(page["data"]) for page in found] == [3, 3, 2]
    texts = [message["content"] for page in found for message in page["data"]]
    assert texts == (expected if order == "asc" else expected[::-1])


def test_messages_between_two_others(caller: Caller) -> None:
    session = converse(caller, 4)
    all_ids = [message["id"] for message in caller.messages(session)]
    bounds = {"after": all_ids[1], "before": all_ids[6]}
    for order, expected in (("asc", all_ids[2:6]), ("desc", all_ids[2:6][::-1])):
        found = list(pages(caller, f"/sessions/{session}/messages", limit=2, order=order, **bounds))
        assert [message["id"] for page in found for message in page["data"]] == expected


def test_after_the_last_message_there_is_nothing(caller: Caller) -> None:
    session = converse(caller, 1)
    last = caller.messages(session)[-1]["id"]
    assert good(caller.get(f"/sessions/{session}/messages", after=last)) == {"data": [], "next": None}


def test_a_pending_reply_is_in_the_list(caller: Caller, upstream: Upstream) -> None:
    gate, session = threading.Event(), new_id()
    upstream.script(scenarios.gated(gate, scenarios.ok("Enfim")))
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(caller.chat, "Oi", session_id=session)
        upstream.wait_until(lambda: upstream.count == 1)
        pending = caller.messages(session)[1]
        gate.set()
        asking.result()
    assert (pending["status"], pending["content"], pending["error"]) == ("pending", "", None)


# PATCH


def test_title_prompt_and_metadata_can_be_changed(caller: Caller, upstream: Upstream) -> None:
    session = converse(caller, 1)
    metadata = {"setor": "crédito", "n": [1, {"x": None}], "grande": 2**53}
    body = {"title": "Minha conta 🙂", "system_prompt": "Seja breve.", "metadata": metadata}
    changed = good(caller.call("PATCH", f"/sessions/{session}", json=body))
    assert changed.items() >= body.items()
    assert caller.session(session).items() >= body.items()
    caller.chat("E agora?", session_id=session)
    assert upstream.requests[-1].messages[0] == {"role": "system", "content": "Seja breve."}


def test_what_a_change_does_not_name_stays(caller: Caller) -> None:
    session = converse(caller, 1)
    good(caller.call("PATCH", f"/sessions/{session}", json={"title": "Um", "metadata": {"a": 1}}))
    good(caller.call("PATCH", f"/sessions/{session}", json={"title": "Dois"}))
    good(caller.call("PATCH", f"/sessions/{session}", json={}))
    good(caller.call("PATCH", f"/sessions/{session}", json={"desconhecida": 1}))
    found = caller.session(session)
    assert (found["title"], found["metadata"]) == ("Dois", {"a": 1})


def test_null_in_a_change_means_absent(caller: Caller) -> None:
    session = converse(caller, 1)
    good(caller.call("PATCH", f"/sessions/{session}", json={"title": "Um"}))
    body = {"title": None, "system_prompt": None, "metadata": None}
    assert good(caller.call("PATCH", f"/sessions/{session}", json=body))["title"] == "Um"


def test_what_is_not_the_client_s_can_t_be_changed(caller: Caller) -> None:
    session = converse(caller, 1)
    body = {"session_id": "outra", "owner": "open", "message_count": 0, "closed_at": "2026-01-01T00:00:00Z", "cost": 0}
    assert good(caller.call("PATCH", f"/sessions/{session}", json=body))["session_id"] == session
    assert caller.session(session)["message_count"] == 2


# DELETE


@pytest.mark.parametrize("path", ["/sessions", "/api/sessions"])
def test_a_removed_session_is_gone_from_everywhere(caller: Caller, path: str) -> None:
    session = converse(caller, 1)
    answer = good(caller.call("DELETE", f"{path}/{session}"))
    assert answer == {"status": "success", "message": f"Sessão {session} removida"}
    problem(caller.call("DELETE", f"{path}/{session}"), 404, "session_not_found")
    problem(caller.get(f"/sessions/{session}"), 404, "session_not_found")
    problem(caller.get(f"/sessions/{session}/messages"), 404, "session_not_found")
    assert good(caller.get("/sessions"))["data"] == []
    assert good(caller.get("/api/sessions"))["count"] == 0


def test_a_removed_session_s_id_starts_a_new_one(caller: Caller, service: Service, upstream: Upstream) -> None:
    session = converse(caller, 2)
    good(caller.call("DELETE", f"/sessions/{session}"))
    caller.chat("De novo", session_id=session)
    assert len(upstream.requests[-1].messages) == 1
    assert caller.texts(session) == ["De novo", "Eco (1): De novo"]
    good(caller.call("DELETE", f"/sessions/{session}"))
    assert service.sql("SELECT count(*) FROM sessions_api_session WHERE session_id = %s", session) == [(2,)]


def test_an_erased_session_leaves_no_row(caller: Caller, service: Service) -> None:
    session = converse(caller, 2)
    pk = service.sql("SELECT id FROM sessions_api_session WHERE session_id = %s", session)[0][0]
    answer = good(caller.call("DELETE", f"/sessions/{session}?erase=true"))
    assert answer["status"] == "success"
    assert service.sql("SELECT count(*) FROM sessions_api_session WHERE session_id = %s", session) == [(0,)]
    assert service.sql("SELECT count(*) FROM sessions_api_message WHERE session_id = %s", pk) == [(0,)]


def test_erase_false_closes(caller: Caller, service: Service) -> None:
    session = converse(caller, 1)
    good(caller.call("DELETE", f"/api/sessions/{session}?erase=false"))
    rows = service.sql("SELECT closed_at IS NOT NULL FROM sessions_api_session WHERE session_id = %s", session)
    assert [bool(closed) for (closed,) in rows] == [True]


@pytest.fixture(scope="module")
def forgetful(services: Services) -> Iterator[Service]:
    with services.own(SESSION_CLOSED_RETENTION_HOURS="0") as service:
        yield service


def test_erase_leaves_no_trace_in_the_database_files(forgetful: Service, upstream: Upstream) -> None:
    service = forgetful
    if not service.database_url.startswith("sqlite"):
        pytest.skip("PostgreSQL keeps dead rows until VACUUM; its files are not ours to read")
    caller, canary = Caller(service), "CANARIO-QUE-NAO-FICA"
    caller.chat(f"{canary} " * 200, session_id="apagar", system_prompt=canary)
    caller.chat("Isto fica", session_id="fica")
    good(caller.call("DELETE", "/sessions/apagar?erase=true"))
    files = list(service.database_file.parent.glob(f"{service.database_file.name}*"))
    assert files
    assert [path.name for path in files if canary.encode() in path.read_bytes()] == []
    assert caller.texts("fica")[0] == "Isto fica"


def test_a_session_can_be_erased_while_it_answers(caller: Caller, service: Service, upstream: Upstream) -> None:
    gate, session = threading.Event(), new_id()
    upstream.script(scenarios.gated(gate, scenarios.rest("e o fim"), after="O começo "))
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(caller.post, "/chat", message="Oi", session_id=session)
        upstream.wait_until(lambda: upstream.count == 1)
        good(caller.call("DELETE", f"/sessions/{session}?erase=true"))
        gate.set()
        assert asking.result().status_code >= 400
    assert service.sql("SELECT count(*) FROM sessions_api_session WHERE session_id = %s", session) == [(0,)]
    assert caller.chat("Depois", session_id=session)["response"] == "Eco (1): Depois"


def test_a_session_that_is_closed_while_it_answers_still_keeps_the_reply(
    caller: Caller, service: Service, upstream: Upstream
) -> None:
    gate, session = threading.Event(), new_id()
    upstream.script(scenarios.gated(gate, scenarios.ok("A resposta")))
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(caller.chat, "Oi", session_id=session)
        upstream.wait_until(lambda: upstream.count == 1)
        good(caller.call("DELETE", f"/sessions/{session}"))
        gate.set()
        answer = asking.result()
    stored = service.sql(
        "SELECT content, status FROM sessions_api_message WHERE turn_id = %s AND position = 1", answer["turn_id"]
    )
    assert stored == [("A resposta", "completed")]


def test_no_retention_erases_a_closed_session_at_once(forgetful: Service, upstream: Upstream) -> None:
    caller = Caller(forgetful)
    session = converse(caller, 1)
    good(caller.call("DELETE", f"/sessions/{session}"))
    assert forgetful.sql("SELECT count(*) FROM sessions_api_session WHERE session_id = %s", session) == [(0,)]

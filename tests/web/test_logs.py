"""The log: one line of JSON per request, with what an operator needs, and nothing that people wrote."""

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from testing import scenarios
from testing.client import Caller, good, new_id, wait_until
from testing.service import Service
from testing.upstream import Upstream
from tests.conftest import MakeService
from tests.support.services import Services

CANARY = "CANARIO"
JSON_LOG = {"LOG_FORMAT": "json", "LOG_LEVEL": "DEBUG"}


def lines(service: Service) -> list[dict[str, Any]]:
    """All lines of the log; each must be JSON."""
    return [json.loads(line) for line in service.log().split("\n") if line]


def line_of(service: Service, response: httpx.Response) -> dict[str, Any]:
    """The log's line on this request; it may come a moment after the answer."""
    request_id = response.headers["x-request-id"]

    def found() -> list[dict[str, Any]]:
        return [line for line in lines(service) if line["message"] == "request" and line["request_id"] == request_id]

    wait_until(lambda: bool(found()))
    [line] = found()
    return line


@pytest.fixture(scope="module")
def logging(services: Services) -> Iterator[Service]:
    """A service that logs all it can, as JSON."""
    with services.own(**JSON_LOG) as service:
        yield service


def test_every_line_is_json_and_says_when_how_and_what(logging: Service, upstream: Upstream) -> None:
    service, caller = logging, Caller(logging)
    answer = caller.post("/chat", message="Oi", session_id="s")
    listed = caller.get("/sessions")
    removed = caller.call("DELETE", "/sessions/s")
    missing = Caller(service, key="").get("/sessions/nada")
    upstream.script(scenarios.status(402))
    failed = caller.post("/chat", message="Oi", session_id="s")
    for line in lines(service):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"])
        assert line["level"] in ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
        assert line["message"]
    turn = answer.json()
    line = line_of(service, answer)
    assert line.pop("ms") >= 0
    assert line.items() >= {
        "level": "INFO", "method": "POST", "path": "/chat", "status": 200, "session": "s", "turn": turn["turn_id"],
        "owner_kind": "byok", "tokens": turn["tokens_used"],
    }.items()  # fmt: skip
    assert line_of(service, listed).items() >= {"path": "/sessions", "status": 200, "owner_kind": "byok"}.items()
    assert line_of(service, removed).items() >= {"method": "DELETE", "status": 200, "session": "s"}.items()
    assert line_of(service, missing).items() >= {"status": 404, "session": "nada", "owner_kind": "open"}.items()
    assert line_of(service, failed).items() >= {"status": 402, "session": "s", "owner_kind": "byok"}.items()
    assert line_of(service, failed)["turn"]


def test_a_failed_turn_says_why(logging: Service, upstream: Upstream) -> None:
    upstream.script(scenarios.error_mid_stream(502, "Até aqui"))
    response = Caller(logging).post("/chat", message="Oi", stream=True)
    turn = line_of(logging, response)["turn"]
    [line] = [line for line in lines(logging) if line["message"] == "turn failed" and line["turn"] == turn]
    assert line.items() >= {"level": "WARNING", "code": "provider_error"}.items()
    assert line["request_id"] == response.headers["x-request-id"]


def test_requests_at_once_keep_their_own_facts(logging: Service, upstream: Upstream) -> None:
    service, caller = logging, Caller(logging)

    def ask(number: int) -> httpx.Response:
        headers = {"X-Request-ID": f"pedido-{number}"}
        return caller.call("POST", "/chat", json={"message": "Oi", "session_id": f"s{number}"}, headers=headers)

    with ThreadPoolExecutor(8) as pool:
        for number, response in enumerate(pool.map(ask, range(24))):
            line = line_of(service, response)
            assert (line["request_id"], line["session"]) == (f"pedido-{number}", f"s{number}")
            assert line["turn"] == response.json()["turn_id"]


def test_nothing_that_people_wrote_is_in_the_log(logging: Service, upstream: Upstream) -> None:
    write_canaries(logging, upstream)
    assert CANARY not in logging.log()


def test_nothing_that_people_wrote_is_in_the_log_with_debug_on(make_service: MakeService, upstream: Upstream) -> None:
    service = make_service(**JSON_LOG, DEBUG="true", OPENROUTER_API_KEY=f"sk-{CANARY}-do-servidor")
    write_canaries(service, upstream)
    Caller(service, key="").chat(CANARY)
    service.terminate()
    assert CANARY not in service.log()


def write_canaries(service: Service, upstream: Upstream) -> None:
    """A word in every text of a person, a client or a provider, with failures of all kinds."""
    canary = CANARY
    caller = Caller(service, key=f"sk-{canary}-do-cliente")
    body: dict[str, Any] = {"session_id": "s", "system_prompt": f"{canary} no prompt"}
    upstream.reply(f"{canary} na resposta")
    caller.chat(f"{canary} na pergunta", **body)
    good(caller.post("/api/message", message=canary, persona_id=canary, timing_metadata={canary: canary}))
    good(caller.call("PATCH", "/sessions/s", json={"title": f"{canary} no título", "metadata": {canary: canary}}))
    good(caller.get("/sessions", q=canary, persona_id=canary))
    good(caller.get("/models"))
    upstream.script(
        scenarios.status(400, {"error": {"code": 400, "message": f"{canary} do provedor"}}),
        scenarios.error_mid_stream(502, f"{canary} até aqui", metadata={"raw": canary}),
        scenarios.raw(f"data: {canary} não é JSON\n\n".encode()),
        scenarios.html(502),
        scenarios.truncated(f"{canary} cortado"),
    )
    failures = [caller.post("/chat", message=f"{canary} falha", **body).status_code for _ in range(5)]
    assert all(status >= 400 for status in failures)
    for bad in ({"message": f"{canary}\0"}, {"message": canary * 20_000}, {"message": canary, "model": [canary]}):
        assert caller.post("/chat", **bad).status_code == 400
    caller.post_raw("/chat", f'{{"message": "{canary}'.encode())
    caller.call("POST", "/chat", json={"message": canary}, headers={"Authorization": f"Bearer {canary} {canary}"})
    caller.call("POST", "/chat", json={"message": canary}, headers={"Authorization": f"Bearer bb_{canary}"})
    caller.call("POST", "/chat", json={"message": canary}, headers={"Cookie": canary, "X-Estranho": canary})
    caller.stream("/chat", message=canary, **body)
    good(caller.call("DELETE", "/sessions/s?erase=true"))


def test_a_database_error_keeps_to_itself_what_was_to_be_stored(logging: Service, upstream: Upstream) -> None:
    """A database's own messages quote the row."""
    service, caller = logging, Caller(logging)
    caller.chat("Oi", session_id="s")
    service.sql("ALTER TABLE sessions_api_message RENAME TO guardada")
    response = caller.post("/chat", message=f"{CANARY} na pergunta", session_id="s")
    assert response.status_code == 503
    assert caller.get("/sessions/s").status_code == 503
    service.sql("ALTER TABLE guardada RENAME TO sessions_api_message")
    assert caller.chat("De novo", session_id="s")["response"] == "Eco (3): De novo"
    errors = [line for line in lines(service) if line["level"] == "ERROR"]
    assert errors
    assert "traceback" in errors[0]
    assert CANARY not in service.log()


def test_a_request_can_t_forge_a_line(service: Service) -> None:
    """The shared service logs in the console's format, where nothing marks the end of a value."""
    caller = Caller(service, key="")
    first = caller.get("/health")  # what was asked before it, at the start, is logged before it too
    wait_until(lambda: first.headers["x-request-id"] in service.log())
    before = len(service.log())
    caller.get("/sessions/x%0A00:00:00.000%20ERROR%20%20%20forged")
    caller.get('/nada  status=200 model="x" request_id=forged')
    caller.get("/nada%0D%0A00:00:00.000%20ERROR%20%20%20forged")
    last = caller.get("/nada%1B%5B31mvermelho")
    wait_until(lambda: last.headers["x-request-id"] in service.log())
    written = service.log()[before:]
    assert "vermelho" in written
    assert written.count("\n") == 4
    fields = [dict(re.findall(r'(\w+)=("(?:[^"\\]|\\.)*"|\S+)', line)) for line in written.splitlines()]
    assert {found["status"] for found in fields} == {"404"}
    assert "forged" not in {found["request_id"] for found in fields}
    assert "\r" not in written
    assert "\x1b" not in written


def test_the_level_decides_what_is_logged(make_service: MakeService, upstream: Upstream) -> None:
    service = make_service(LOG_LEVEL="ERROR", LOG_FORMAT="json")
    caller = Caller(service)
    caller.chat("Oi", session_id=new_id())
    upstream.script(scenarios.status(500))
    caller.post("/chat", message="Oi")
    assert service.log() == ""


def test_the_console_format_is_for_people(service: Service) -> None:
    response = Caller(service).post("/chat", message="Oi", session_id="minha")
    wait_until(lambda: response.headers["x-request-id"] in service.log())
    [line] = [line for line in service.log().splitlines() if response.headers["x-request-id"] in line]
    assert re.match(r"\d\d:\d\d:\d\d\.\d{3} INFO +request  ", line)
    assert "session=minha" in line
    assert "status=200" in line

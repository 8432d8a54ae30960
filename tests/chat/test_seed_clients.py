"""The clients in the documents of the two replaced services, run unmodified (tests/seed_clients/).

Only the port in their address is changed, to that of the service under test, which takes the place of both.
"""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests

from testing import scenarios
from testing.environment import clean_environment
from testing.exchange import Request
from testing.service import Service
from testing.upstream import Upstream
from tests.support.services import Services

CLIENTS = Path(__file__).parent / "seed_clients"
KEY = "Bearer sua_chave_openrouter"
MODEL = "anthropic/claude-3.5-sonnet"

needs_node = pytest.mark.skipif(not shutil.which("node"), reason="NO NODE: the JavaScript client did not run")
needs_curl = pytest.mark.skipif(not shutil.which("curl"), reason="NO CURL: the curl lines did not run")


@pytest.fixture(scope="module")
def _own(services: Services) -> Iterator[Service]:
    with services.own() as service:
        yield service


@pytest.fixture
def own(_own: Service, upstream: Upstream) -> Service:
    """A service without any session."""
    for table in ("feedback", "idempotencykey", "message", "session"):
        _own.sql(f"DELETE FROM sessions_api_{table}")
    return _own


def text_for(service: Service, name: str) -> str:
    return re.sub(r"(http://localhost):80[08]0", rf"\1:{service.port}", (CLIENTS / name).read_text())


def run(*command: str) -> str:
    done = subprocess.run(
        command, env=clean_environment(PYTHONUTF8="1"), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_python(service: Service, name: str) -> list[str]:
    return run(sys.executable, "-c", text_for(service, name)).splitlines()


def run_javascript(service: Service, after: str = "") -> list[str]:
    return run("node", "-e", text_for(service, "openrouter_fetch.js") + after).splitlines()


def said(request: Request) -> list[tuple[str, str]]:
    return [(message["role"], message["content"]) for message in request.messages]


def sessions(service: Service, **headers: str) -> list[dict[str, Any]]:
    return list(requests.get(f"{service.url}/sessions", headers=headers, timeout=30).json()["data"])


def test_the_requests_example_continues_its_session(own: Service, upstream: Upstream) -> None:
    questions = ["Olá, quero informações sobre cartões de crédito", "Qual o limite disponível?"]
    shown = run_python(own, "bancobot_requests.py.txt")
    assert shown == [f"Resposta: Eco (2): {questions[0]}", f"Resposta: Eco (4): {questions[1]}"]
    (system, prompt), *conversation = said(upstream.requests[1])
    assert (system, "BancoBot" in prompt) == ("system", True)
    assert conversation == [("user", questions[0]), ("assistant", f"Eco (2): {questions[0]}"), ("user", questions[1])]
    assert [session["message_count"] for session in sessions(own)] == [4]


@needs_curl
def test_the_curl_lines_ask_for_health_and_list_and_remove_sessions(own: Service) -> None:
    health, listing, removal = text_for(own, "bancobot_curl.sh").splitlines()
    for session_id in ("session_id", "cliente-7"):  # curl takes the braces of the document for a list of one name
        body = {"message": "Olá", "session_id": session_id}
        requests.post(f"{own.url}/api/message", json=body, timeout=30).raise_for_status()

    def bash(line: str) -> dict[str, Any]:
        return dict(json.loads(run("bash", "-c", line)))

    assert {"status": "ok", "service": "BancoBot API"}.items() <= bash(health).items()
    assert {"sessions": ["cliente-7", "session_id"], "count": 2}.items() <= bash(listing).items()
    assert bash(removal) == {"status": "success", "message": "Sessão session_id removida"}
    assert bash(removal.replace("{session_id}", "cliente-7"))["message"] == "Sessão cliente-7 removida"
    assert {"sessions": [], "count": 0}.items() <= bash(listing).items()


def test_the_httpx_client_continues_its_session_with_its_key_and_model(own: Service, upstream: Upstream) -> None:
    questions = ["Olá, explique o que é machine learning", "Pode dar um exemplo prático?"]
    assert run_python(own, "openrouter_httpx.py.txt") == [f"Eco (1): {questions[0]}", f"Eco (3): {questions[1]}"]
    first, second = upstream.requests
    assert said(first) == [("user", questions[0])]
    assert said(second) == [("user", questions[0]), ("assistant", f"Eco (1): {questions[0]}"), ("user", questions[1])]
    assert [request.headers["authorization"] for request in upstream.requests] == [KEY, KEY]
    assert [request.body["model"] for request in upstream.requests] == [MODEL, MODEL]
    assert [session["message_count"] for session in sessions(own, Authorization=KEY)] == [4]
    assert sessions(own) == []


def test_the_httpx_client_shows_an_error_as_text(own: Service, upstream: Upstream) -> None:
    upstream.script(scenarios.status(401))
    failed, answered = run_python(own, "openrouter_httpx.py.txt")
    prefix, body = failed[:12], json.loads(failed[12:])
    assert (prefix, body["code"]) == ("Erro: 401 - ", "provider_auth_failed")
    assert answered == "Eco (1): Pode dar um exemplo prático?"


@needs_node
def test_the_javascript_client_chats_with_its_key_and_model(own: Service, upstream: Upstream) -> None:
    assert run_javascript(own) == ["Eco (1): Olá, como você está?"]
    (request,) = upstream.requests
    assert (request.headers["authorization"], request.body["model"]) == (KEY, MODEL)


@needs_node
def test_the_javascript_client_continues_its_session_and_lists_the_models(own: Service) -> None:
    more = """
        const other = new OpenRouterAPI('sua_chave_openrouter');
        other.chat('Um').then(() => other.chat('Dois')).then(async answer => {
            console.log(answer);
            console.log((await other.getModels()).data.map(model => model.id).join());
        });
    """
    assert {"Eco (3): Dois", "scripted/small,scripted/large"} <= set(run_javascript(own, more))
    assert sorted(session["message_count"] for session in sessions(own, Authorization=KEY)) == [2, 4]


@needs_node
def test_the_javascript_client_throws_where_there_is_no_answer(own: Service, upstream: Upstream) -> None:
    caught = "new OpenRouterAPI('x').chat('Um').catch(error => console.log(error.message));"
    upstream.script(scenarios.status(402), scenarios.status(402))  # the document's own call, and this one
    assert "HTTP error! status: 402" in run_javascript(own, caught)


def http_examples(session_id: str) -> list[tuple[str, str, dict[str, str], bytes]]:
    """Method, path, headers and body of the requests that the document writes out."""
    text = (CLIENTS / "openrouter.http").read_text().replace("{session_id}", session_id)
    examples = []
    for block in re.split(r"\n(?=(?:GET|DELETE) )", text):
        head, _, body = block.partition("\n\n")
        (method, path), *lines = (line.split(" ", 1) for line in head.strip().splitlines())
        examples.append((method, path, {name.rstrip(":"): value for name, value in lines}, body.encode()))
    return examples


def test_the_requests_written_out_get_the_answers_written_out(own: Service, upstream: Upstream) -> None:
    def send(method: str, path: str, headers: dict[str, str], body: bytes) -> Any:
        answer = requests.request(
            method, own.url + path, headers={"Authorization": KEY} | headers, data=body, timeout=30
        )
        assert answer.status_code == 200, answer.text
        return answer.json()

    chat, models, session, removal = http_examples("optional-session-id")
    answer = send(*chat)
    assert answer["response"] == "Eco (1): Olá, como você está?"
    assert (answer["model_used"], answer["session_id"]) == (MODEL, "optional-session-id")
    assert answer["tokens_used"] == answer["usage"]["total_tokens"] == 15
    assert timedelta(0) <= datetime.now(UTC) - datetime.fromisoformat(answer["timestamp"]) < timedelta(minutes=5)
    (request,) = upstream.requests
    assert (request.body["temperature"], request.body["max_tokens"]) == (0.7, 1000)
    assert [model["id"] for model in send(*models)["data"]] == ["scripted/small", "scripted/large"]
    assert {"model": MODEL, "message_count": 2}.items() <= send(*session).items()
    assert send(*removal) == {"status": "success", "message": "Sessão optional-session-id removida"}
    assert sessions(own, Authorization=KEY) == []

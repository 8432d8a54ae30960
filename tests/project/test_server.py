"""How the service starts, listens, admits pages of other origins, and stops."""

import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from django.db import connection

from testing import scenarios
from testing.client import NO_TLS, Caller, good, new_id, problem
from testing.environment import ROOT, clean_environment, free_port
from testing.service import Service, provider_settings
from testing.upstream import Upstream
from tests.conftest import MakeService
from tests.support.services import Services

PAGE = "http://localhost:5173"


def run(*arguments: str, data_dir: Path, **settings: str) -> "subprocess.CompletedProcess[str]":
    """Run manage.py with only these settings, to its end."""
    environment = clean_environment(**{"DATA_DIR": str(data_dir), **settings})
    command = [sys.executable, "manage.py", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)


# Who may listen where


@pytest.mark.parametrize("arguments, host", [(["--host", "0.0.0.0"], ""), ([], "::")])  # noqa: S104 - to be refused
def test_open_access_refuses_to_listen_to_the_world(tmp_path: Path, arguments: list[str], host: str) -> None:
    result = run("serve", "--port", "0", *arguments, data_dir=tmp_path, HOST=host)
    assert result.returncode != 0
    assert "ALLOW_OPEN_ACCESS" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.fixture
def service(front: Service) -> Service:
    return front


def test_the_start_says_address_mode_provider_and_database(service: Service) -> None:
    line = next(line for line in service.log().splitlines() if "access=" in line)
    assert service.url in line
    assert "access=open" in line
    assert "from this machine only" in line
    assert "provider=openrouter" in line
    assert f"database={connection.vendor}" in line
    assert "workers=1" in line


def test_two_ports_serve_the_same(tmp_path: Path, upstream: Upstream) -> None:
    service, second = Service(tmp_path, settings=provider_settings(upstream.url)), free_port()
    command = [sys.executable, "manage.py", "serve", "--port", str(service.port), "--port", str(second)]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=clean_environment(**service.settings), stdout=log, stderr=log)
    try:
        upstream.wait_until(lambda: answers(service.port) and answers(second), 60)
        caller = Caller(service)
        session = caller.chat("Pela primeira porta")["session_id"]
        service.port = second
        assert caller.texts(session)[0] == "Pela primeira porta"
    finally:
        process.terminate()
        process.wait(45)
        service.close()


def answers(port: int) -> bool:
    try:
        with httpx.Client(trust_env=False, verify=NO_TLS) as client:
            return client.get(f"http://127.0.0.1:{port}/health").status_code == 200
    except httpx.HTTPError:
        return False


def test_a_failing_check_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("from bancobot_project.settings import *\nLANGUAGES_BIDI = ['inglês']\n")
    broken = {"DJANGO_SETTINGS_MODULE": "broken", "PYTHONPATH": str(tmp_path)}
    result = run("serve", "--port", "0", data_dir=tmp_path, **broken)
    assert result.returncode != 0
    assert "translation.E003" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "bancobot.sqlite3").exists()


# Secrets


def test_production_refuses_to_start_without_a_secret_key(tmp_path: Path) -> None:
    result = run("check", data_dir=tmp_path, ENVIRONMENT="production")
    assert result.returncode != 0
    assert "SECRET_KEY" in result.stderr
    assert not (tmp_path / "secret_key").exists()


def test_production_refuses_debug(tmp_path: Path) -> None:
    result = run("check", data_dir=tmp_path, ENVIRONMENT="production", SECRET_KEY="x" * 60, DEBUG="true")
    assert result.returncode != 0
    assert "DEBUG" in result.stderr


def test_a_development_start_makes_a_private_key_and_keeps_it(tmp_path: Path) -> None:
    show = ("shell", "-v", "0", "-c", "from django.conf import settings; print(settings.SECRET_KEY)")
    first, second = (run(*show, data_dir=tmp_path / "neu").stdout.strip() for _ in range(2))
    assert first == second
    assert len(first) >= 50
    file = tmp_path / "neu" / "secret_key"
    assert file.read_text().strip() == first
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_the_usual_place_of_the_private_key_is_outside_git() -> None:
    ignored = subprocess.run(
        ["git", "check-ignore", "var/secret_key", ".env"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ignored.stdout.split() == ["var/secret_key", ".env"]


# Settings

BAD_SETTINGS = {
    "PORT": ("http", "0 to 65535"),
    "WORKERS": ("0", "1 to 64"),
    "DEBUG": ("talvez", "true or false"),
    "KEEP_ALIVE_SECONDS": ("0", "1 to 3600"),
    "HSTS_PRELOAD": ("true", "HSTS_INCLUDE_SUBDOMAINS=true"),
    "ALLOW_OPEN_ACCESS": ("ja", "true or false"),
    "ENVIRONMENT": ("prod", "development, production"),
    "LOG_LEVEL": ("LOUD", "DEBUG"),
    "LOG_FORMAT": ("xml", "json, console"),
    "LLM_PROVIDER": ("chatgpt", "openrouter"),
    "OPENROUTER_BASE_URL": ("openrouter.ai", "http"),
    "OPENAI_BASE_URL": ("http://user:pass@host/v1", "without user"),
    "DATABASE_URL": ("mysql://x", "sqlite:///"),
    "MAX_TOKENS_DEFAULT": ("-1", "1 to"),
    "MAX_BODY_BYTES": ("1e6", "whole number"),
    "SESSION_CLEANUP_HOURS": ("0", "0.01"),
    "SESSION_CLOSED_RETENTION_HOURS": ("-1", "0 to"),
    "SESSION_BUSY_WAIT_SECONDS": ("nan", "0 to 3600"),
    "TURN_LEASE_SECONDS": ("inf", "3 to 3600"),
    "MODEL_FALLBACKS": ("a=b", "at most 5"),
    "EXTRA_PARAMETERS": ('{"messages": []}', "a JSON object without model, messages"),
    "UPSTREAM_PROXY": ("socks5://proxy:1080", "http:// or https://"),
    "SSL_CERT_FILE": ("missing.pem", "a file of certificates"),
    "SSL_CERT_DIR": ("missing", "a folder of certificates"),
}


@pytest.mark.parametrize("name", BAD_SETTINGS)
def test_a_setting_that_makes_no_sense_stops_the_start(tmp_path: Path, name: str) -> None:
    value, allowed = BAD_SETTINGS[name]
    environment = {"SECRET_KEY": "x" * 50, "DATA_DIR": str(tmp_path), name: value}
    result = settings_error(environment)
    assert name in result
    assert allowed in result


def settings_error(environment: Mapping[str, str]) -> str:
    """The error of importing the settings in a separate interpreter; faster than a whole start."""
    command = [sys.executable, "-c", "import bancobot_project.settings"]
    result = subprocess.run(
        command, cwd=ROOT, env=clean_environment(**environment), capture_output=True, text=True, check=False
    )
    assert result.returncode != 0
    last = result.stderr.strip().splitlines()[-1]
    assert "ImproperlyConfigured" in last
    return last


def test_a_key_with_a_bad_value_is_not_printed(tmp_path: Path) -> None:
    environment = clean_environment(DATA_DIR=str(tmp_path), OPENROUTER_API_KEY="sk-geheim\n-x", SECRET_KEY="x" * 50)
    command = [sys.executable, "manage.py", "serve", "--port", "http"]
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode != 0
    assert "geheim" not in result.stdout + result.stderr


# Hosts and origins


def test_the_world_is_let_in_as_far_as_the_settings_say(make_service: MakeService) -> None:
    named = {"ALLOWED_HOSTS": "127.0.0.1,bot.example.org", "CORS_ALLOWED_ORIGINS": "https://site.example"}
    service = make_service(ALLOW_OPEN_ACCESS="true", **named)
    assert "access=open" in service.log()
    assert "from this machine only" not in service.log()
    caller = Caller(service, key="")
    for path in ("/chat", "/sessions"):
        method = "POST" if path == "/chat" else "GET"
        options = {"json": {"message": "Oi"}} if path == "/chat" else {}
        host = {"Host": "bot.example.org"}
        good(caller.call(method, path, headers=host, **options))
        problem(caller.call(method, path, headers={"Host": "outro.example.org"}, **options), 400, "invalid_request")
        answer = caller.call(method, path, headers={**host, "Origin": "https://site.example"}, **options)
        assert answer.headers["access-control-allow-origin"] == "https://site.example"
        answer = caller.call(method, path, headers={**host, "Origin": "https://evil.example"}, **options)
        assert "access-control-allow-origin" not in answer.headers


def test_health_answers_whoever_asks_by_address(service: Service) -> None:
    """A balancer does not know the name."""
    before = len(service.log())
    good(Caller(service, key="").call("GET", "/health", headers={"Host": "10.0.0.1:8000"}))
    assert "Traceback" not in service.log()[before:]


@pytest.mark.parametrize("origin", ["http://localhost", PAGE, "http://127.0.0.1:8080"])
@pytest.mark.parametrize("path", ["/chat", "/sessions", "/models", "/api/sessions", "/health"])
def test_pages_on_this_machine_may_ask(service: Service, origin: str, path: str) -> None:
    method = "POST" if path == "/chat" else "GET"
    options = {"json": {"message": "Oi"}} if path == "/chat" else {}
    response = Caller(service).call(method, path, headers={"Origin": origin}, **options)
    good(response)
    assert response.headers["access-control-allow-origin"] == origin
    assert "access-control-allow-credentials" not in response.headers
    exposed = set(re.split(r",\s*", response.headers["access-control-expose-headers"].lower()))
    assert exposed >= {"x-request-id", "retry-after", "idempotent-replayed", "x-history-omitted"}
    assert "origin" in response.headers["vary"].lower()


@pytest.mark.parametrize(
    "origin",
    ["https://localhost", "http://localhost.evil.example", "http://evil.example", "null", "http://127.0.0.1.evil.example",
     "http://localhost:80@evil.example", "http://xlocalhost", "http://127.0.0.10"],
)  # fmt: skip
def test_pages_elsewhere_may_not(service: Service, upstream: Upstream, origin: str) -> None:
    """CORS alone keeps them from reading the answer, but not from asking: a form needs no permission."""
    caller = Caller(service)
    for method, path in [("GET", "/sessions"), ("GET", "/models"), ("POST", "/chat"), ("POST", "/sessions/x/fork")]:
        form = {"Content-Type": "text/plain"} if method == "POST" else {}
        answer = caller.call(
            method, path, headers={"Origin": origin, **form}, content=b'{"message": "Oi"}' if form else None
        )
        assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied")
        assert "access-control-allow-origin" not in answer.headers
    assert upstream.count == 0


@pytest.mark.parametrize("mode", ["keys", "byok"])
def test_where_a_key_is_asked_for_the_origin_is_no_reason(fronts: Services, mode: str) -> None:
    """A foreign page has no key, and a proxy's own pages may have another name."""
    caller = Caller(fronts.shared(ACCESS_MODE=mode), key="")
    assert caller.call("GET", "/sessions", headers={"Origin": "http://evil.example"}).status_code == 401


@pytest.mark.parametrize("origin", ["http://{host}", "https://{host}", "HTTP://{host}"])
def test_the_page_that_the_service_shows_may_ask(service: Service, origin: str) -> None:
    host = service.url.partition("://")[2].upper()
    assert Caller(service).call("GET", "/sessions", headers={"Origin": origin.format(host=host)}).status_code == 200


def test_a_browser_says_whose_page_asks(service: Service) -> None:
    caller = Caller(service)
    fork, sessions, login = ("POST", "/sessions/x/fork"), ("GET", "/sessions"), ("POST", "/admin/login/")
    cross, same, other = (
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-origin"},
        {"Origin": "https://x.test"},
    )
    expected = [
        (*fork, cross, "permission_denied"), (*fork, {"Sec-Fetch-Site": "none"}, "session_not_found"),
        (*sessions, cross, None), (*fork, other | {"Sec-Fetch-Site": "same-site"}, "permission_denied"),
        (*fork, other | cross, "permission_denied"),
        (*fork, other | same, "session_not_found"),  # behind a proxy that passes another Host on
    ]  # fmt: skip
    for method, path, headers, code in expected:
        assert caller.call(method, path, headers=headers).json().get("code") == code, (method, headers)
    problem(caller.call(*login, headers=other, data={"username": "x"}), 403, "permission_denied")
    assert "Origin checking failed" in service.log()  # Django's check, which knows CSRF_TRUSTED_ORIGINS


def test_a_slash_too_many_is_no_other_address(service: Service, upstream: Upstream) -> None:
    caller = Caller(service)
    asked = {"message": "Oi", "session_id": new_id()}
    good(caller.call("POST", f"{service.url}//chat", json=asked))
    for path in (
        "//health",
        "/health//",
        "///sessions",
        f"/sessions//{asked['session_id']}",
        "//models//",
        "/static//chat/main.js",
    ):
        assert caller.call("GET", service.url + path).status_code == 200, path
    for path in ("//evil.example", "//admin//login"):
        answer = caller.call("GET", service.url + path)
        assert "evil" not in answer.headers.get("location", "")
        assert answer.status_code in (301, 302, 404), path


def test_every_status_has_its_standard_reason(service: Service, upstream: Upstream) -> None:
    caller = Caller(service)
    reasons = {402: "Payment Required", 413: "Payload Too Large", 422: "Unprocessable Entity", 404: "Not Found"}
    upstream.script(scenarios.status(402))
    key = {"Idempotency-Key": new_id()}
    answers = [
        caller.post("/chat", message="Oi"),
        caller.call("POST", "/chat", content=b"x" * 2_000_000),
        caller.get("/nada"),
        *(caller.call("POST", "/chat", json={"message": text}, headers=key) for text in ("um", "dois")),
    ]
    seen = {answer.status_code: answer.reason_phrase for answer in answers}
    assert seen == {200: "OK", **reasons}


@pytest.mark.parametrize(
    "path, method", [("/chat", "POST"), ("/sessions/x", "PATCH"), ("/api/sessions/x", "DELETE"), ("/turns/x", "GET")]
)
def test_a_preflight_is_answered(service: Service, path: str, method: str) -> None:
    asked = "authorization, x-api-key, content-type, x-request-id, idempotency-key, last-event-id"
    headers = {"Origin": PAGE, "Access-Control-Request-Method": method, "Access-Control-Request-Headers": asked}
    response = Caller(service, key="").call("OPTIONS", path, headers=headers)
    assert response.status_code in (200, 204)
    assert response.headers["access-control-allow-origin"] == PAGE
    assert method in response.headers["access-control-allow-methods"]
    allowed = set(re.split(r",\s*", response.headers["access-control-allow-headers"].lower()))
    assert allowed >= set(asked.split(", "))


@pytest.mark.parametrize(
    "method, path, options, status",
    [
        ("POST", "/chat", {"json": {}}, 400), ("GET", "/sessions/nada", {}, 404), ("GET", "/nada", {}, 404),
        ("GET", "/chat", {}, 405), ("POST", "/chat", {"content": b"x" * 2_000_000}, 413),
        ("GET", "/sessions?q=%00", {}, 400), ("POST", "/chat", {"json": {"message": "Oi"}, "auth": ("a", "b")}, 401),
    ],
)  # fmt: skip
def test_a_page_can_read_errors_too(
    service: Service, method: str, path: str, options: dict[str, object], status: int
) -> None:
    response = Caller(service, key="").call(method, path, headers={"Origin": PAGE}, **options)
    assert response.status_code == status
    assert response.headers["access-control-allow-origin"] == PAGE
    assert "x-request-id" in response.headers["access-control-expose-headers"].lower()


def test_a_method_that_is_not_there_is_told_which_are(service: Service) -> None:
    for path, allowed in (
        ("/chat", "POST"),
        ("/turns/x/cancel", "POST"),
        ("/turns/x/events", "GET"),
        ("/sessions", "GET"),
    ):
        response = Caller(service).call("PUT", path)
        problem(response, 405, "method_not_allowed")
        assert allowed in response.headers["allow"].split(", ")


def test_a_burst_of_connections_finds_room_while_the_worker_is_busy(make_service: MakeService) -> None:
    service = make_service()
    assert service.process is not None
    pid = service.process.pid
    [worker] = map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    os.kill(worker, signal.SIGSTOP)
    try:
        waiting = [socket.create_connection(("127.0.0.1", service.port), timeout=10) for _ in range(300)]
    finally:
        os.kill(worker, signal.SIGCONT)
    for client in waiting:
        client.close()


# Stopping


def test_sigterm_lets_running_turns_finish(make_service: MakeService, upstream: Upstream) -> None:
    service = make_service(workers=2)
    caller, gate = Caller(service), threading.Event()
    upstream.otherwise = scenarios.gated(gate, scenarios.rest("e o fim"), after="O começo ")
    with ThreadPoolExecutor(8) as pool:
        asking = [pool.submit(caller.chat, "Oi", session_id=f"s{number}") for number in range(4)]
        streaming = [pool.submit(caller.stream, "/chat", message="Oi", session_id=f"t{number}") for number in range(4)]
        with caller.connection() as client:  # and one client that does not wait for its reply
            asked = {"message": "Oi", "session_id": "u", "stream": True}
            with client.stream("POST", "/chat", json=asked) as response:
                next(response.iter_lines())
        upstream.wait_until(lambda: upstream.count == 9)
        assert service.process is not None
        os.kill(service.process.pid, signal.SIGTERM)
        upstream.wait_until(lambda: not answers(service.port), 20)
        gate.set()
        assert {future.result()["response"] for future in asking} == {"O começo e o fim"}
        assert {future.result()[-1].data["response"] for future in streaming} == {"O começo e o fim"}
    assert service.process.wait(45) == 0
    rows = service.sql("SELECT content, status, count(*) FROM sessions_api_message WHERE position = 1 GROUP BY 1, 2")
    assert rows == [("O começo e o fim", "completed", 9)]


def test_what_does_not_finish_in_time_is_interrupted_and_kept(make_service: MakeService, upstream: Upstream) -> None:
    service = make_service(GRACEFUL_TIMEOUT="1")
    caller = Caller(service)
    upstream.script(scenarios.hang(after="O começo "))
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(caller.post, "/chat", message="Oi", session_id="s")
        upstream.wait_until(lambda: upstream.count == 1)
        service.terminate()
        assert asking.exception() is not None or asking.result().status_code >= 500
    rows = service.sql("SELECT content, status, error_code FROM sessions_api_message WHERE position = 1")
    assert rows == [("O começo ", "interrupted", "turn_interrupted")]


def test_debug_gives_no_page_under_the_api(make_service: MakeService, upstream: Upstream) -> None:
    caller = Caller(make_service(DEBUG="true"))
    assert caller.chat("Oi", session_id="s")["response"] == "Eco (1): Oi"
    problem(caller.get("/nada"), 404, "not_found")
    problem(caller.call("GET", "/chat"), 405, "method_not_allowed")
    problem(caller.post_raw("/chat", b"{"), 400, "invalid_request")
    caller.service.sql("ALTER TABLE sessions_api_session RENAME TO guardada")
    problem(caller.get("/sessions"), 503, "database_unavailable")

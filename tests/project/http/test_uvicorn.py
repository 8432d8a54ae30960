"""uvicorn in gunicorn's place, as on Windows: the same answers, limits, kills and stops. And what Windows has not."""

import json
import os
import signal
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import PureWindowsPath
from typing import Any

import httpx
import pytest
from django.core.management.base import CommandError
from django.test import override_settings

from bancobot_project.database.problems import network_file_system
from bancobot_project.management.commands.serve import the_serve_of
from testing import scenarios
from testing.client import Caller, events, good, new_id, wait_until
from testing.environment import ROOT
from testing.service import Service, provider_settings, template
from testing.upstream import Upstream
from tests.project.test_wall import WIRE, on_the_wire
from tests.support.services import Services

UVICORN = ("--server", "uvicorn")
# h11 reads lines without a carriage return, and counts a length's digits.
OTHERWISE = {"line feeds alone": (200, None), "a length of 30 digits": (400, "invalid_request")}
OTHERWISE |= {"another transfer coding": (501, "invalid_request")}


@pytest.fixture
def service(fronts: Services, upstream: Upstream) -> Service:
    return fronts.shared(1, *UVICORN)


# The same service


def test_what_is_wrong_on_the_wire_is_told_as_by_gunicorn(service: Service, upstream: Upstream) -> None:
    for name, (request, status, code) in WIRE.items():
        expected = OTHERWISE.get(name, (status, code))
        answered, headers, body = on_the_wire(service, request + b"\r\n")
        assert (name, answered, json.loads(body).get("code")) == (name, *expected)
        assert headers["content-type"] == "application/json"
        assert headers["x-request-id"]
        assert headers["x-content-type-options"] == "nosniff"
        assert "server" not in headers
    assert upstream.count == 0
    assert "Traceback" not in service.log()
    assert " ERROR " not in service.log()


def test_a_head_that_does_not_end_is_refused(service: Service) -> None:
    with socket.create_connection(("127.0.0.1", service.port)) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n")
        for number in range(5):
            connection.sendall(b"X-Field-%d: %b\r\n" % (number, b"x" * 15_000))
        assert b" 431 " in connection.recv(100)


def test_an_answer_before_the_end_of_a_body_ends_its_connection_aloud(service: Service) -> None:
    head = b"POST /chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n"
    for more in (b"", b"X-Long: " + b"x" * 20_000 + b"\r\n"):
        with socket.create_connection(("127.0.0.1", service.port), timeout=30) as connection:
            connection.sendall(head % 5_000_000 + more + b"\r\n")
            connection.sendall(b"x" * 5_000_000)  # who sends, sends all of it, and reads then
            answer = b"".join(iter(lambda: connection.recv(65_536), b""))
        assert answer.startswith((b"HTTP/1.1 413 ", b"HTTP/1.1 431 "))
        assert b"\r\nconnection: close\r\n" in answer.lower()
        assert b"request_too_large" in answer


def test_a_body_in_bad_chunks_ends_its_request(service: Service) -> None:
    head = b"POST /chat HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    for chunks in (b"zz\r\n{}\r\n0\r\n\r\n", b"2\r\n{}x\r\n0\r\n\r\n", b"-2\r\n{}\r\n0\r\n\r\n"):
        status, _, body = on_the_wire(service, head + chunks)
        assert (status, json.loads(body)["code"]) == (400, "invalid_request")
    assert " ERROR " not in service.log()


def test_nobody_is_believed_about_addresses_unasked(service: Service) -> None:
    """uvicorn by itself believes who connects from this machine."""
    said = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "192.0.2.9"}
    answer = Caller(service).call("GET", "/sessions?limit=1", headers=said)
    assert "strict-transport-security" not in answer.headers
    assert answer.status_code == 200


def test_several_requests_use_one_connection(service: Service, upstream: Upstream) -> None:
    request = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with socket.create_connection(("127.0.0.1", service.port), timeout=10) as connection:
        connection.sendall(request * 3)
        read = b""
        while read.count(b'"status": "ok"') < 3:
            read += connection.recv(65_536)
    with Caller(service).connection() as client:
        for method, path in (
            ("GET", "/"),
            ("HEAD", "/sessions"),
            ("GET", "/static/chat/main.js"),
        ):
            answer = client.request(method, path)
            assert answer.status_code == 200, (path, answer.text)
            assert bool(answer.content) == (method == "GET")


def test_a_stream_comes_piece_by_piece_and_is_taken_up_again(service: Service, upstream: Upstream) -> None:
    caller, gate = Caller(service), threading.Event()
    upstream.script(scenarios.gated(gate, scenarios.rest("e o fim"), after="O começo "))
    turn_id = begun(caller, session_id=new_id())
    gate.set()  # the client has left, and the model says the rest now
    resumed = events(caller.call("GET", f"/turns/{turn_id}/events", headers={"Last-Event-ID": "9"}).text)
    assert "".join(event.data["text"] for event in resumed if event.name == "delta") == "e o fim"
    assert resumed[-1].data["response"] == "O começo e o fim"


def begun(caller: Caller, **asked: Any) -> str:
    """The id of a turn whose first words have come, to a client that leaves then."""
    with caller.connection() as client:
        asked |= {"message": "Oi", "stream": True}
        with client.stream("POST", "/chat", json=asked) as response:
            lines = response.iter_lines()
            started = next(line for line in lines if line.startswith("data: "))
            while "O começo " not in next(lines):
                pass
    return str(json.loads(started.removeprefix("data: "))["turn_id"])


# Kills and stops


def test_a_kill_and_an_impatient_ctrl_c_lose_nothing(fronts: Services, upstream: Upstream) -> None:
    with fronts.own(1, *UVICORN) as service, ThreadPoolExecutor(1) as pool:
        caller = Caller(service)
        known = caller.chat("Oi", session_id="s")["response"]
        upstream.otherwise = scenarios.hang(after="O começo ")
        begun(caller, session_id="s")
        service.kill()
        service.start()
        wait_until(lambda: caller.messages("s")[-1]["status"] == "interrupted")
        assert caller.texts("s")[:3] == ["Oi", known, "Oi"]
        # The first Ctrl-C waits for what runs; the second one ends it and tells who listens.
        streaming = pool.submit(caller.stream, "/chat", message="E agora?", session_id="s")
        upstream.wait_until(lambda: upstream.count == 3)
        interrupt(service)
        wait_until(lambda: not accepts(service.port))
        assert not streaming.done()
        interrupt(service)
        assert streaming.result()[-1].data["code"] == "turn_interrupted"
        assert ended(service) == 0
        rows = service.sql("SELECT status FROM sessions_api_message WHERE role = 'assistant' ORDER BY position")
        assert rows == [("completed",), ("interrupted",), ("interrupted",)]
        assert " ERROR " not in service.log()


def interrupt(service: Service) -> None:
    assert service.process is not None
    os.kill(service.process.pid, signal.SIGINT)


def ended(service: Service) -> int | None:
    assert service.process is not None
    return service.process.wait(20)


def accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True


@pytest.fixture
def windows(fronts: Services, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service in a Python that lacks what Windows does not have."""
    where = os.pathsep.join((str(ROOT / "tests/support/windows"), str(ROOT)))
    settings = {"PYTHONPATH": where, "PYTHONWARNDEFAULTENCODING": "1", "GRACEFUL_TIMEOUT": "20"}
    service = Service(
        fronts.directory(),
        settings=provider_settings(upstream.url) | settings,
        template=template(tmp_path_factory.getbasetemp()),
    )
    try:
        yield service.start()
    finally:
        service.close()
        print(service.log())


def test_without_what_windows_lacks_it_serves_by_itself_and_stops_gracefully(
    windows: Service, upstream: Upstream
) -> None:
    assert windows.process is not None
    assert "server=uvicorn" in windows.log()
    assert "in one process" in windows.log()
    caller, gate = Caller(windows), threading.Event()
    assert caller.chat("Olá, às 10h 🙂", session_id="s:1")["response"] == "Eco (1): Olá, às 10h 🙂"
    for path in ("/", "/docs", "/schema", "/models", "/admin/login/", "/sessions/s:1/export?format=csv"):
        assert caller.get(path).status_code == 200, path
    exported = windows.directory / "tudo.jsonl"
    done = windows.manage("export_sessions", "--format", "jsonl", "--output", str(exported))
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
    assert "🙂" in exported.read_text(encoding="utf-8")
    upstream.otherwise = scenarios.gated(gate, scenarios.rest("e o fim"), after="O começo ")
    with ThreadPoolExecutor(2) as pool, caller.connection() as kept:
        good(kept.get("/health"))
        asking = pool.submit(caller.chat, "Oi")
        streaming = pool.submit(caller.stream, "/chat", message="Oi")
        upstream.wait_until(lambda: upstream.count == 3)
        interrupt(windows)
        windows.process.terminate()  # a second signal of another kind hurries nothing
        wait_until(lambda: not accepts(windows.port))
        with pytest.raises(httpx.TransportError):
            kept.post("/chat", json={"message": "Tarde demais"})
        gate.set()
        assert asking.result()["response"] == streaming.result()[-1].data["response"] == "O começo e o fim"
    assert ended(windows) == 0
    assert "Traceback" not in windows.log()


# Windows


def test_a_server_that_is_not_there_is_told_in_a_sentence() -> None:
    with override_settings(SERVERS={"gunicorn": "naoexiste.serve"}), pytest.raises(CommandError, match="naoexiste"):
        the_serve_of("gunicorn")


@pytest.mark.parametrize(
    "path, shared",
    [
        (r"C:\bots\bot.sqlite3", False), (r"\\?\C:\bots\bot.sqlite3", False), (r"\\nas\bots\bot.sqlite3", True),
        ("//nas/bots/bot.sqlite3", True), (r"\\?\UNC\nas\bots\bot.sqlite3", True),
    ],
)  # fmt: skip
def test_a_share_of_windows_is_a_network(path: str, shared: bool) -> None:
    assert bool(network_file_system(PureWindowsPath(path), "")) == shared

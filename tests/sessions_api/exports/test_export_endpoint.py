"""GET /sessions/{session_id}/export, and how large answers are stored and sent."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.utils import timezone

from sessions_api.exports.formats import FORMATS
from testing.client import Caller, good, new_id, problem, wait_until
from testing.service import Service
from tests.support.exported import objects
from tests.support.services import Services

LONG, CHARACTERS = 10_000, 6_000  # messages, and of each: 60 MB and more


@pytest.fixture
def caller(service: Service) -> Caller:
    return Caller(service)


def export(caller: Caller, session: str, **parameters: str) -> str:
    answer = caller.get(f"/sessions/{session}/export", **parameters)
    assert answer.status_code == 200, answer.text[:500]
    assert int(answer.headers["content-length"]) == len(answer.content)
    return answer.content.decode()


def test_it_has_the_conversation_in_every_format(caller: Caller) -> None:
    session = caller.chat("Quanto custa?")["session_id"]
    assert objects(export(caller, session))[0]["messages"][0]["content"] == "Quanto custa?"
    assert objects(export(caller, session, format="openai"))[0]["messages"][0] == {
        "role": "user",
        "content": "Quanto custa?",
    }
    assert ",Quanto custa?," in export(caller, session, format="csv")
    assert f"{session},".join(["\r\n", ""]) in export(caller, session, format="events")
    assert 'value="Quanto custa?"' in export(caller, session, format="xes")


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("accept", ["*/*", "text/csv", "application/json", "image/png"])
def test_its_type_goes_by_the_format_and_not_by_the_accept_header(caller: Caller, name: str, accept: str) -> None:
    session = caller.chat("Oi", session_id=f"a:{new_id()}")["session_id"]
    answer = caller.call("GET", f"/sessions/{session}/export?format={name}", headers={"Accept": accept})
    assert answer.headers["content-type"] == f"{FORMATS[name].content_type}; charset=utf-8"
    stem = session.replace(":", "_")
    assert answer.headers["content-disposition"] == f'attachment; filename="bancobot-{stem}{FORMATS[name].suffix}"'


@pytest.mark.parametrize(
    "parameters, field", [({"format": "pdf"}, "format"), ({"clock": "x"}, "clock"), ({"include": "x"}, "include")]
)
def test_what_there_is_not_is_refused_with_what_there_is(
    caller: Caller, parameters: dict[str, str], field: str
) -> None:
    session = caller.chat("Oi")["session_id"]
    answer = caller.get(f"/sessions/{session}/export", **parameters)
    assert list(problem(answer, 400, "invalid_request")["errors"]) == [field]


def test_a_head_says_how_long_it_is(caller: Caller) -> None:
    session = caller.chat("Oi")["session_id"]
    answer = caller.call("HEAD", f"/sessions/{session}/export")
    assert (answer.status_code, answer.content) == (200, b"")
    assert int(answer.headers["content-length"]) == len(export(caller, session).encode())


def test_what_a_later_turn_replaced_comes_where_it_is_asked_for(caller: Caller) -> None:
    session = caller.chat("velha")["session_id"]
    caller.chat("nova", session_id=session, after_turn=None)
    replaced = "Eco (1): velha"
    assert replaced not in export(caller, session, format="csv")
    assert replaced in export(caller, session, format="csv", include="superseded")
    assert replaced in export(caller, session)


def test_the_simulated_clock_is_that_of_the_client(caller: Caller) -> None:
    timing = {"simulated_timestamp": "2025-12-24T18:00:00"}
    answer = caller.post("/api/message", message="Oi", timing_metadata=timing)
    told = export(caller, good(answer)["session_id"], format="events", clock="simulated")
    assert told.count("2025-12-24T18:00:00.000000Z") == 3


def test_a_failure_in_the_middle_is_an_error_and_no_half_a_file(service: Service, caller: Caller) -> None:
    session = caller.chat("Oi")["session_id"]
    theirs = "session_id = (SELECT id FROM sessions_api_session WHERE session_id = %s)"
    service.sql(f"UPDATE sessions_api_message SET status = 'estranho' WHERE position = 1 AND {theirs}", session)
    for _ in range(10):  # more than the database connections
        problem(caller.get(f"/sessions/{session}/export", format="xes"), 500, "internal_error")
    assert "estranho" in export(caller, session)


# Large answers


@pytest.fixture(scope="module")
def large(services: Services) -> Iterator[Service]:
    """A separate service, to measure its memory, with a session `longa` of some 60 MB."""
    with services.own() as service:
        fill(service)
        yield service


def fill(service: Service) -> None:
    moment = f"{timezone.now():%Y-%m-%d %H:%M:%S}+00:00"
    Caller(service, key="").chat("Oi", session_id="longa")
    (pk,) = service.sql("SELECT id FROM sessions_api_session WHERE session_id = 'longa'")[0]
    service.sql(
        "WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < %s) "
        "INSERT INTO sessions_api_message (session_id, position, turn_id, role, content, status, metadata, created_at) "
        "SELECT %s, i, 't', 'user', %s, 'completed', '{}', %s FROM n",
        LONG - 1,
        pk,
        "x" * CHARACTERS,
        moment,
    )
    service.sql("UPDATE sessions_api_session SET message_count = %s WHERE id = %s", LONG, pk)


def worker(service: Service) -> Path:
    """The folder in /proc of the only worker process."""
    assert service.process is not None
    children = Path(f"/proc/{service.process.pid}/task/{service.process.pid}/children").read_text().split()
    return Path("/proc") / children[0]


def resident(process: Path) -> int:
    """MB of memory that the process uses now."""
    fields = (process / "statm").read_text().split()
    return int(fields[1]) * 4096 // 1_000_000


def spooled(process: Path) -> int:
    """Bytes in open files without a name."""
    size = 0
    for link in (process / "fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # it was closed at this moment
            size += link.stat().st_size if "(deleted)" in str(link.readlink()) else 0
    return size


def test_a_large_answer_takes_no_memory_and_holds_nobody_up_however_slowly_it_is_read(large: Service) -> None:
    caller, process = Caller(large, key=""), worker(large)
    with caller.connection() as small, caller.connection() as client:
        small.get("/sessions")
        before = resident(process)
        with client.stream("GET", "/sessions/longa/export") as answer:
            size = int(answer.headers["content-length"])
            pieces = answer.iter_bytes(65_536)
            text = bytearray(next(pieces))
            assert spooled(process) > 50_000_000
            assert resident(process) - before < 30  # the answer has 60 MB or more
            for _ in range(20):  # more than the threads
                assert small.get("/sessions").status_code == 200
            for piece in pieces:
                text += piece
        assert len(text) == size > 60_000_000
        assert len(json.loads(text)["messages"]) == LONG
        wait_until(lambda: spooled(process) == 0)
        assert resident(process) - before < 30


def test_who_leaves_in_the_middle_leaves_nothing_behind(large: Service) -> None:
    caller, process = Caller(large, key=""), worker(large)
    with caller.connection() as client, client.stream("GET", "/sessions/longa/export") as answer:
        next(answer.iter_bytes(1024))
    wait_until(lambda: spooled(process) == 0)
    good(caller.get("/sessions"))

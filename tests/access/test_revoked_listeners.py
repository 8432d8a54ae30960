"""Listeners with a revoked key are cut off within seconds. The turn goes on, and so do all other listeners."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from testing import scenarios
from testing.client import Caller, Event, events, new_id, problem, wait_until
from testing.exchange import Exchange
from testing.service import Service
from testing.upstream import Upstream
from tests.support.keys import WAYS, Client
from tests.support.services import Services

CUT_OFF_SECONDS = 5.0  # the longest time that somebody listens with a revoked key
REVOKED = (401, "invalid_api_key")


@pytest.fixture(scope="module")
def workers(services: Services) -> Iterator[list[Service]]:
    with services.pair(ACCESS_MODE="keys") as both:
        yield both


def saying(gate: threading.Event) -> scenarios.Scenario:
    """Sends the beginning of a reply, or nothing if the question asks for silence; and the end when the gate opens."""

    async def play(exchange: Exchange) -> None:
        silent = "silêncio" in exchange.request.messages[-1]["content"]
        end = scenarios.ok("O começo e o fim") if silent else scenarios.rest("e o fim")
        await scenarios.gated(gate, end, after=None if silent else "O começo ")(exchange)

    return play


@contextlib.contextmanager
def held(upstream: Upstream) -> Iterator[Callable[[], None]]:
    """Within the block no reply ends before the yielded function is called."""
    gate = threading.Event()
    upstream.otherwise = saying(gate)
    try:
        yield gate.set
    finally:
        gate.set()


def listen(caller: Caller, method: str, path: str, **body: Any) -> httpx.Response:
    return caller.call(method, path, json=body or None)


def follow(caller: Caller, path: str, begun: threading.Event) -> str:
    """The whole text of a stream; `begun` is set after its first event."""
    said = ""
    with caller.connection() as client, client.stream("GET", path) as response:
        for text in response.iter_text():
            said += text
            begun.set()
    return said


def begun_turn(caller: Caller, session: str) -> str:
    """The id of a session's only turn, as soon as some of its text is stored."""
    wait_until(lambda: "O começo" in caller.get(f"/sessions/{session}/messages").text)
    return str(caller.messages(session)[1]["turn_id"])


def cut_off(future: "Future[httpx.Response]", made: float) -> httpx.Response:
    return future.result(timeout=made + CUT_OFF_SECONDS - time.monotonic())


def heard(response: httpx.Response) -> list[Event]:
    assert response.status_code == 200, response.text
    return events(response.text)


def test_whichever_way_a_key_is_lost_its_stream_ends(workers: list[Service], upstream: Upstream) -> None:
    clients = {way: Client(workers[0]) for way in WAYS if way != "another secret"}
    keys = {way: client.key() for way, client in clients.items()}
    with held(upstream) as let_go, ThreadPoolExecutor(8) as pool:
        listening = {
            way: pool.submit(listen, Caller(workers[0], key.whole), "POST", "/chat", message="Oi", stream=True)
            for way, key in keys.items()
        }
        upstream.wait_until(lambda: upstream.count == len(keys))
        for way, stream in listening.items():
            WAYS[way](keys[way], clients[way])
            assert heard(cut_off(stream, time.monotonic()))[-1].data["code"] == "invalid_api_key"
        let_go()


def test_who_listens_is_cut_off_and_the_turn_goes_on(workers: list[Service], upstream: Upstream) -> None:
    client, session, silent, waited = Client(workers[0]), new_id(), new_id(), new_id()
    key = client.key()
    mine = [Caller(worker, key.whole) for worker in workers]
    with held(upstream) as let_go, ThreadPoolExecutor(8) as pool:
        asked = pool.submit(listen, mine[0], "POST", "/chat", message="Oi", session_id=session, stream=True)
        turn = begun_turn(mine[0], session)
        resumed = [pool.submit(listen, one, "GET", f"/turns/{turn}/events") for one in mine]
        quiet = pool.submit(listen, mine[0], "POST", "/chat", message="em silêncio", session_id=silent, stream=True)
        json = pool.submit(listen, mine[1], "POST", "/api/message", message="Oi", session_id=waited)
        upstream.wait_until(lambda: upstream.count == 3)
        key.revoke()
        made = time.monotonic()
        for stream in (asked, *resumed):
            said = heard(cut_off(stream, made))
            assert said[-1].name == "error"
            assert said[-1].data["code"] == "invalid_api_key"
            assert "".join(event.data["text"] for event in said if event.name == "delta") == "O começo "
        for other in (quiet, json):
            problem(cut_off(other, made), *REVOKED)
        let_go()
    reader = client.caller()
    for one in (session, silent, waited):
        wait_until(lambda one=one: reader.messages(one)[1]["status"] == "completed")  # type: ignore[misc]
        assert reader.texts(one)[1] == "O começo e o fim"


def test_a_silent_stream_that_has_begun_is_cut_off_too(workers: list[Service], upstream: Upstream) -> None:
    """A resumed stream begins at once, even before the turn's first text."""
    client, session = Client(workers[0]), new_id()
    key, other = client.key(), client.key()
    with held(upstream) as let_go, ThreadPoolExecutor(4) as pool:
        asking = pool.submit(Caller(workers[0], other.whole).chat, "em silêncio", session_id=session)
        upstream.wait_until(lambda: upstream.count == 1)
        turn = Caller(workers[1], other.whole).messages(session)[1]["turn_id"]
        begun = [threading.Event() for _ in workers]
        listening = [
            pool.submit(follow, Caller(one, key.whole), f"/turns/{turn}/events", first)
            for one, first in zip(workers, begun, strict=True)
        ]
        assert all(first.wait(20) for first in begun)
        key.revoke()
        made = time.monotonic()
        for stream in listening:
            said = events(stream.result(timeout=made + CUT_OFF_SECONDS - time.monotonic()))
            assert [event.name for event in said if event.name != ":"] == ["start", "error"]
        let_go()
        assert asking.result()["response"] == "O começo e o fim"


def test_others_who_listen_hear_nothing_of_it(workers: list[Service], upstream: Upstream) -> None:
    """Streams of the same turn and of other turns go on, and do not wake all the time."""
    client, session = Client(workers[0]), new_id()
    key, other = client.key(), client.key()
    with held(upstream) as let_go, ThreadPoolExecutor(8) as pool:
        cut = pool.submit(listen, Caller(workers[0], key.whole), "POST", "/chat", message="Oi", session_id=session)
        upstream.wait_until(lambda: upstream.count == 1)
        turn = begun_turn(Caller(workers[0], other.whole), session)
        mine = [pool.submit(listen, Caller(one, other.whole), "GET", f"/turns/{turn}/events") for one in workers]
        stranger = Client(workers[0]).caller()
        theirs = pool.submit(listen, stranger, "POST", "/chat", message="Oi", stream=True)
        upstream.wait_until(lambda: upstream.count == 2)
        key.revoke()
        made = time.monotonic()
        problem(cut_off(cut, made), *REVOKED)
        time.sleep(1.0)
        let_go()
        for stream in (*mine, theirs):
            said = heard(stream.result())
            assert said[-1].name == "done"
            assert said[-1].data["response"] == "O começo e o fim"
            assert [event.name for event in said].count(":") <= 1


def test_a_database_that_is_away_revokes_nothing(workers: list[Service], upstream: Upstream) -> None:
    client, session = Client(workers[0]), new_id()
    caller = Caller(workers[0], client.key().whole)
    with held(upstream) as let_go, ThreadPoolExecutor(2) as pool:
        listening = pool.submit(listen, caller, "POST", "/chat", message="Oi", session_id=session, stream=True)
        begun_turn(caller, session)
        workers[0].sql("ALTER TABLE access_key RENAME TO access_key_away")
        try:
            wait_until(lambda: caller.get("/sessions").status_code == 503, 10)
            for path in ("/turns/missing", "/sessions"):
                problem(caller.get(path), 503, "database_unavailable")
            time.sleep(1.0)  # the listeners' keys are looked up twice a second
        finally:
            workers[0].sql("ALTER TABLE access_key_away RENAME TO access_key")
        let_go()
        assert heard(listening.result())[-1].name == "done"
    wait_until(lambda: caller.get("/sessions").status_code == 200, 10)

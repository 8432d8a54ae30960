"""Attempts to evade limits and revocations, which all fail."""

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest

from testing import scenarios
from testing.client import Caller, good, new_id, problem, wait_until
from testing.service import Service
from testing.upstream import Upstream
from tests.support.keys import Client
from tests.support.services import Services

TURN: dict[str, Any] = {"message": "Oi", "model": "scripted/small", "max_tokens": 100}
SET_ASIDE = 112  # tokens
ROOM = 40  # turns


@pytest.fixture(scope="module")
def house(services: Services) -> Iterator[Service]:
    with services.own(ACCESS_MODE="keys", MAX_TURNS_IN_FLIGHT=str(ROOM)) as service:
        yield service


@pytest.fixture
def gate(upstream: Upstream) -> Iterator[threading.Event]:
    """No reply begins before this gate opens."""
    opened = threading.Event()
    upstream.otherwise = scenarios.gated(opened, scenarios.ok("Olá"))
    yield opened
    opened.set()


def running_turn(service: Service, owner: str) -> str:
    query = (
        "SELECT m.turn_id FROM sessions_api_message m JOIN sessions_api_session s ON s.id = m.session_id "
        "WHERE s.owner = %s AND m.status = 'pending'"
    )
    wait_until(lambda: bool(service.sql(query, owner)))
    return str(service.sql(query, owner)[0][0])


def test_stopping_before_the_first_text_makes_no_prompt_free(
    house: Service, upstream: Upstream, gate: threading.Event
) -> None:
    """The provider has read it and may bill it: the reservation counts."""
    client = Client(house, tokens_per_day=2 * SET_ASIDE)
    caller = client.caller()
    with ThreadPoolExecutor(1) as pool:
        for _ in range(2):
            asking = pool.submit(caller.post, "/chat", **TURN)
            good(caller.post(f"/turns/{running_turn(house, client.owner)}/cancel"))
            asking.result()
    problem(caller.post("/chat", **TURN), 402, "budget_exhausted")
    assert upstream.count == 2


@pytest.mark.parametrize("model, at_once", [("scripted/small:nitro", 8), ("nobody/knows", 1)])
def test_a_model_that_is_not_on_the_list_does_not_overspend(
    house: Service, upstream: Upstream, gate: threading.Event, model: str, at_once: int
) -> None:
    """A variant has its model's price. Turns of models without a known price run one at a time."""
    caller = Client(house, cost_per_month=str(Decimal("0.01"))).caller()
    with ThreadPoolExecutor(12) as pool:
        asking = [pool.submit(caller.post, "/chat", **TURN | {"model": model}) for _ in range(12)]
        wait_until(lambda: sum(one.done() for one in asking) == 12 - at_once)
        upstream.wait_until(lambda: upstream.count == at_once)
        gate.set()
        statuses = [one.result().status_code for one in asking]
    assert statuses.count(200) == at_once == upstream.count


def test_a_message_that_waits_for_its_session_is_not_sent_with_a_revoked_key(
    house: Service, upstream: Upstream, gate: threading.Event
) -> None:
    client, session = Client(house), new_id()
    first, second = client.key(), client.key()
    with ThreadPoolExecutor(2) as pool:
        answered = pool.submit(Caller(house, first.whole).post, "/chat", message="Um", session_id=session)
        upstream.wait_until(lambda: upstream.count == 1)
        waiting = pool.submit(Caller(house, second.whole).post, "/chat", message="Dois", session_id=session)
        wait_until(lambda: not waiting.done() and upstream.count == 1)
        threading.Event().wait(0.5)  # until the second waits in line; otherwise it would be refused at once
        house.sql("UPDATE access_key SET revoked_at = created_at WHERE identifier = %s", second.identifier)
        threading.Event().wait(2)  # until the process has looked the key up, which it does twice a second
        gate.set()
        problem(waiting.result(), 401, "invalid_api_key")
        good(answered.result())
    assert Caller(house, first.whole).texts(session) == ["Um", "Olá"]
    assert upstream.count == 1


def test_who_waits_in_line_leaves_room_for_others(house: Service, upstream: Upstream, gate: threading.Event) -> None:
    crowd, session = Client(house, turns_in_flight=1).caller(), new_id()
    other = Client(house).caller()
    with ThreadPoolExecutor(ROOM + 5) as pool:
        asking = [pool.submit(crowd.post, "/chat", message="Oi", session_id=session) for _ in range(ROOM + 5)]
        most = 1 + ROOM // 4
        wait_until(lambda: sum(one.done() for one in asking) >= ROOM + 5 - most)
        friendly = pool.submit(other.post, "/chat", message="Oi")
        upstream.wait_until(lambda: upstream.count == 2)
        gate.set()
        good(friendly.result())
        refused = [one.result() for one in asking if one.result().status_code != 200]
    assert len(refused) == ROOM + 5 - most
    assert {problem(answer, 429, "rate_limited")["limit"] for answer in refused} == {"turns_in_flight"}


def test_who_does_not_read_keeps_nobody_from_the_pages(house: Service) -> None:
    """More connections than threads, each with large answers that nobody reads."""
    file = "/static/drf_spectacular_sidecar/swagger-ui-dist/swagger-ui-bundle.js"
    request = f"GET {file} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode() * 8
    lazy = [socket.create_connection(("127.0.0.1", house.port)) for _ in range(20)]
    try:
        for one in lazy:
            one.sendall(request)
        caller = Client(house).caller()
        for path in ("/sessions", "/schema", "/admin/login/"):
            assert caller.get(path).status_code == 200
    finally:
        for one in lazy:
            one.close()

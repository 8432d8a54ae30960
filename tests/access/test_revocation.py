"""A key that is revoked, or loses a scope, is refused everywhere within a second, and its listeners are cut off."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection
from django.test import RequestFactory
from rest_framework.request import Request

from access.authentication import CallerAuthentication
from access.keyring import new_key
from access.models import Client as ClientRow
from chat.turns import ModelsViewSet
from sessions_api.store.writer import writer
from testing.client import Caller, good, problem, wait_until
from testing.service import Service
from tests.support.keys import WAYS, Client, Key
from tests.support.services import Services

BELIEVED_SECONDS = 1.0  # a worker may still accept the key for so long
REVOKED = (401, "invalid_api_key")
Answered = tuple[float, int, str]  # when the request began, status, code


@pytest.fixture(scope="module")
def workers(services: Services) -> Iterator[list[Service]]:
    with services.pair(ACCESS_MODE="keys") as both:
        yield both


# New requests


def ask_for(seconds: float, caller: Caller, path: str) -> list[Answered]:
    """The answers to requests one after the other, at least one."""
    seen: list[Answered] = []
    with caller.connection() as client:
        end = time.monotonic() + seconds
        while not seen or time.monotonic() < end:
            began, answer = time.monotonic(), client.get(path)
            seen.append((began, answer.status_code, answer.json().get("code", "")))
            time.sleep(0.05)
    return seen


ON_THE_LOOP, DJANGOS_WAY = "/turns/missing", "/sessions"


def ask_until(stop: threading.Event, begun: threading.Barrier, caller: Caller, path: str) -> list[Answered]:
    """Like `ask_for`, from before the barrier until after `stop`."""
    seen = ask_for(0.01, caller, path)
    begun.wait(60)
    while not stop.is_set():
        seen += ask_for(0.2, caller, path)
    return seen + ask_for(0.01, caller, path)


def answered_late(
    workers: list[Service], keys: dict[str, Key], change: Callable[[str], None]
) -> dict[str, set[tuple[int, str]]]:
    """Every worker's answers, on both ways, to requests that begin more than a second after a key's change."""
    asked = [(name, one, path) for name in keys for one in workers for path in (ON_THE_LOOP, DJANGOS_WAY)]
    stop, begun = threading.Event(), threading.Barrier(len(asked) + 1)
    made: dict[str, float] = {}
    late: dict[str, set[tuple[int, str]]] = {name: set() for name in keys}
    with ThreadPoolExecutor(len(asked)) as pool:
        asking = [pool.submit(ask_until, stop, begun, Caller(one, keys[name].whole), path) for name, one, path in asked]
        begun.wait(60)
        for name in keys:
            change(name)
            made[name] = time.monotonic()
        time.sleep(BELIEVED_SECONDS + 0.1)
        stop.set()
        for (name, _, _), answers in zip(asked, asking, strict=True):
            seen = answers.result()
            assert seen[0][1:] != REVOKED, "the key was never good"
            late[name] |= {answer[1:] for answer in seen if answer[0] > made[name] + BELIEVED_SECONDS}
    return late


def test_every_worker_refuses_within_a_second(workers: list[Service]) -> None:
    clients = {way: Client(workers[0]) for way in WAYS if way != "revoked by command"}
    keys = {way: client.key() for way, client in clients.items()}
    late = answered_late(workers, keys, lambda way: WAYS[way](keys[way], clients[way]))
    assert late == {way: {REVOKED} for way in keys}


def test_a_scope_that_is_taken_away_is_gone_within_a_second(workers: list[Service]) -> None:
    client = Client(workers[0])
    late = answered_late(workers, {"key": client.key()}, lambda _: client.set(scopes=["sessions:erase"]))
    assert late == {"key": {(403, "permission_denied")}}


def test_other_keys_of_the_client_go_on(workers: list[Service]) -> None:
    client = Client(workers[0])
    key, other = client.key(), client.key()
    with ThreadPoolExecutor(2) as pool:
        asking = [
            pool.submit(ask_for, BELIEVED_SECONDS + 0.5, Caller(one, other.whole), "/sessions") for one in workers
        ]
        key.revoke()
        assert {status for one in asking for _, status, _ in one.result()} == {200}


def test_a_key_that_was_refused_works_as_soon_as_it_may(workers: list[Service]) -> None:
    client = Client(workers[0], is_active=False)
    caller = client.caller()
    problem(caller.get("/sessions"), *REVOKED)
    client.set(is_active=True)
    wait_until(lambda: caller.get("/sessions").status_code == 200, 5)


# What is remembered of a key


def test_when_a_key_was_last_used_is_stored_about_once_a_minute(workers: list[Service]) -> None:
    key = Client(workers[0]).key()
    query = ("SELECT last_used_at FROM access_key WHERE id = %s", key.pk)
    assert workers[0].sql(*query) == [(None,)]
    caller = Caller(workers[0], key.whole)
    good(caller.get("/sessions"))
    wait_until(lambda: workers[0].sql(*query) != [(None,)], 10)
    first = workers[0].sql(*query)
    ask_for(1.5, caller, ON_THE_LOOP)
    assert workers[0].sql(*query) == first


def test_a_key_that_is_not_used_rightly_has_not_been_used(workers: list[Service]) -> None:
    key, other = Client(workers[0]).key(), Client(workers[0]).key()
    problem(Caller(workers[0], key.with_another_secret).get("/sessions"), *REVOKED)
    good(Caller(workers[0], other.whole).get("/sessions"))
    query = "SELECT last_used_at FROM access_key WHERE id = %s"
    wait_until(lambda: workers[0].sql(query, other.pk) != [(None,)], 10)
    assert workers[0].sql(query, key.pk) == [(None,)]


@pytest.mark.django_db(transaction=True)
def test_a_key_in_use_is_looked_up_once_a_second_at_the_most() -> None:
    """For any number of requests, on the event loop and on Django's own way."""
    _, whole = new_key(ClientRow.objects.create(name="Canal"))
    request = RequestFactory().get("/models", headers={"Authorization": f"Bearer {whole}"})
    asked: list[str] = []

    def count(execute: Any, sql: str, *rest: Any) -> Any:
        asked.append(sql)
        return execute(sql, *rest)

    def begin_to_count(arguments: Sequence[None]) -> list[None]:
        connection.execute_wrappers.append(count)
        return [None for _ in arguments]

    def let_go(arguments: Sequence[None]) -> list[None]:
        connection.execute_wrappers.remove(count)
        connection.close()
        return [None for _ in arguments]

    async def on_the_loop() -> None:
        await writer.run(begin_to_count, None)
        view = ModelsViewSet()
        view.headers = {}
        for _ in range(200):
            assert (await view.recognise(request)).kind == "client"
        await writer.run(let_go, None)

    began = time.monotonic()
    asyncio.run(on_the_loop())
    assert any("access_key" in sql for sql in asked)
    with connection.execute_wrapper(count):
        for _ in range(200):
            assert CallerAuthentication().authenticate(Request(request))[0].kind == "client"
    assert sum("access_key" in sql for sql in asked) <= 1 + time.monotonic() - began

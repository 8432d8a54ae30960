"""Callers take turns at the threads of Django's own way."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from django.http import HttpResponse
from django.test import override_settings
from django.urls import path

from access.callers import Caller
from access.keyring import StoredKey, hash_of, keyring
from bancobot_project.server import threads as django_threads
from bancobot_project.server.application import Application
from bancobot_project.server.callers import name_of
from bancobot_project.server.threads import FairSemaphore, Threads
from testing.client import problem
from web.errors import ApiError


class Watched(FairSemaphore):
    """Notes whose requests got a place, in order; each keeps it until `release`."""

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        self.got: list[str] = []
        self._release = asyncio.Semaphore(0)

    async def ask(self, caller: str) -> None:
        async with self.one(caller):
            self.got.append(caller)
            await self._release.acquire()

    async def release(self, count: int = 1) -> None:
        for _ in range(count):
            self._release.release()
            await settle()


async def settle() -> None:
    for _ in range(6):
        await asyncio.sleep(0)


def in_turns(threads: int, play: Callable[[Watched, Callable[[str], Any]], Any]) -> list[str]:
    async def run() -> list[str]:
        watched, tasks = Watched(threads), list[asyncio.Task[None]]()

        async def ask(callers: str) -> list[asyncio.Task[None]]:
            mine = [asyncio.create_task(watched.ask(caller)) for caller in callers]
            tasks.extend(mine)
            await settle()
            return mine

        await play(watched, ask)
        await watched.release(len(tasks))
        await asyncio.gather(*tasks, return_exceptions=True)
        assert not vars(watched)["_lines"].waiting
        assert vars(watched)["_held"] == {}
        assert vars(watched)["_free"] == threads
        return watched.got

    return asyncio.run(run())


def test_one_caller_leaves_half_of_the_threads_to_others() -> None:
    async def play(watched: Watched, ask: Callable[[str], Any]) -> None:
        await ask("g" * 10)
        assert watched.got == ["g", "g"]
        await ask("ab")
        assert watched.got == ["g", "g", "a", "b"]

    assert len(in_turns(4, play)) == 12


def test_who_waits_gets_a_place_in_the_callers_turn_however_many_wait_before() -> None:
    async def play(watched: Watched, ask: Callable[[str], Any]) -> None:
        await ask("gggggghhhhhh")
        await ask("aab")
        await watched.release(8)
        assert watched.got == list("gh" + "ghab" + "ghag")

    in_turns(2, play)


def test_with_one_thread_they_still_take_turns() -> None:
    async def play(watched: Watched, ask: Callable[[str], Any]) -> None:
        await ask("gggga")
        await watched.release(2)

    assert in_turns(1, play) == list("ggagg")


def test_who_leaves_keeps_no_place() -> None:
    async def play(watched: Watched, ask: Callable[[str], Any]) -> None:
        await ask("g")
        left, _stays = await ask("aa")
        left.cancel()
        await settle()
        await ask("b")
        await watched.release(1)
        assert watched.got == ["g", "a"]

    assert in_turns(1, play) == ["g", "a", "b"]


def test_who_leaves_in_the_moment_of_being_called_passes_the_place_on() -> None:
    async def play(watched: Watched, ask: Callable[[str], Any]) -> None:
        await ask("g")
        (left,) = await ask("a")
        await ask("b")
        watched._release.release()
        for _ in range(20):
            await asyncio.sleep(0)
            if watched._held["a"]:  # called, and not awake yet
                break
        left.cancel()
        await settle()
        assert watched.got == ["g", "b"]

    in_turns(1, play)


def test_a_caller_has_so_many_waiting_places_and_all_have_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(django_threads, "WAITING_EACH", 2)
    monkeypatch.setattr(django_threads, "WAITING_IN_ALL", 3)

    async def play(watched: Watched, ask: Callable[[str], Any]) -> None:
        refused = [*(await ask("gggg"))[3:], *(await ask("ab"))[1:]]
        problems = [one.exception() for one in refused]
        assert [problem.code for problem in problems if isinstance(problem, ApiError)] == ["rate_limited", "overloaded"]

    assert in_turns(1, play) == list("ggag")


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Views that hold their thread until it opens."""
    opened = threading.Event()

    def held(request: Any) -> HttpResponse:
        opened.wait(10)
        return HttpResponse("enfim")

    def quick(request: Any) -> HttpResponse:
        return HttpResponse("já")

    with override_settings(ROOT_URLCONF=(path("held", held), path("quick", quick), path("docs", quick))):
        yield opened
        opened.set()


def test_many_slow_requests_of_one_caller_keep_nobody_else_waiting(gate: threading.Event) -> None:
    """The names come from real headers, and pages have threads of their own."""

    async def run() -> None:
        application: Any = Application()
        transport = httpx.ASGITransport(application)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", timeout=5) as client:
            greedy = {"Authorization": "Bearer sk-greedy"}
            asking = [
                asyncio.create_task(client.get("/held", headers=greedy))
                for _ in range(django_threads.WAITING_EACH + 30)
            ]
            refused = await next(asyncio.as_completed(asking))
            assert problem(refused, 429, "rate_limited")["retry_after"] == int(refused.headers["retry-after"]) == 1
            for headers in ({"Authorization": "Bearer sk-other"}, {}):
                assert (await client.get("/quick", headers=headers)).text == "já"
            assert (await client.get("/docs", headers=greedy)).text == "já"
            gate.set()
            assert {answer.status_code for answer in await asyncio.gather(*asking)} == {200, 429}

    asyncio.run(run())


@pytest.mark.parametrize("pool, threads", [(2, 1), (3, 1), (6, 4), (100, 16), (None, 16)])
def test_no_more_threads_ask_the_database_than_the_pool_serves(
    settings: Any, monkeypatch: pytest.MonkeyPatch, pool: int | None, threads: int
) -> None:
    """Two connections are the writer's and the housekeeping's."""
    options = {"pool": {"max_size": pool}} if pool else {}
    monkeypatch.setitem(settings.DATABASES["default"], "OPTIONS", options)
    assert django_threads.database_threads() == threads


def test_who_left_the_line_is_not_called() -> None:
    """Even where a thread becomes free before the one that left runs again."""

    async def play(watched: Watched, ask: Callable[[str], Any]) -> None:
        await ask("a")
        leaving, *_ = await ask("bc")
        watched._release.release()
        leaving.cancel()
        await settle()
        assert watched.got == ["a", "c"]

    in_turns(1, play)


def test_a_caller_writes_in_two_threads_at_most(gate: threading.Event) -> None:
    """The fork that runs is one of them, so that the caller's other writes need not wait for its end."""

    async def run() -> None:
        threads, scope = Threads(), {"path": "/sessions/x", "method": "PATCH", "headers": [], "client": ("10.0.0.1", 1)}
        async with threads.one(scope), threads.one(scope):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01), threads.one(scope):
                    pass
            async with threads.one(scope | {"method": "GET"}), threads.one(scope | {"client": ("10.0.0.2", 1)}):
                pass
        async with threads.one(scope), threads.one(scope):
            pass

    asyncio.run(run())


def named(path: str = "/sessions", address: str = "10.1.2.3", **headers: str) -> str:
    sent = {name.encode(): value.encode() for name, value in headers.items()}
    return name_of(path, sent, (address, 1))


def test_a_request_waits_under_its_owners_name_its_logins_or_its_addresses() -> None:
    cookie = "a=b; bancobot_sessionid=xyz"
    names = [
        named(authorization="Bearer sk-a"),
        named(authorization="Bearer sk-b"),
        named(address="10.1.2.4"),
        named("/admin/", cookie=cookie),
        named("/admin/", cookie=cookie + "2"),
        named(address="2001:db8::1"),
    ]
    assert len(set(names)) == len(names)
    assert named(authorization="bearer  sk-a", address="10.9.9.9") == names[0]
    assert named(**{"x-api-key": "sk-a", "authorization": "Basic abc"}) == names[0]
    assert named("/admin/", cookie=cookie, authorization="Basic abc") == names[3]
    made_up = {"authorization": f"Bearer bb_{'a' * 12}_{'b' * 43}"}
    for odd in (
        {"authorization": "Basic abc"},
        {"x-api-key": "", "authorization": "Bearer sk-a"},
        made_up,
        {"cookie": cookie},
    ):
        assert named(**odd) == "address:10.1.2.3"  # what anybody can make up is no name
    assert named(address="2001:db8::2") == names[-1]
    assert not any(secret in name for name in names for secret in ("sk-", "xyz"))


def test_all_keys_of_a_client_wait_as_one() -> None:
    secret, names = "s" * 43, set()
    for identifier in ("a" * 12, "b" * 12):
        caller = Caller("client:c", "client", key_id=identifier)
        keyring.keep(identifier, StoredKey(1, identifier, hash_of(secret), True, None, caller), 0)
        names.add(named(authorization=f"Bearer bb_{identifier}_{secret}"))
        assert named(authorization=f"Bearer bb_{identifier}_{'x' * 43}") == "address:10.1.2.3"
        keyring.keep(identifier, None, 0)
    assert names == {"client:c"}

"""The limit of large answers that wait on the disk for their readers."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.http import HttpResponse
from django.test import override_settings
from django.urls import path

from bancobot_project.server import spool
from bancobot_project.server.application import Application
from bancobot_project.server.spool import IN_MEMORY, Spool
from testing.client import problem
from web.responses import Download

PIECES = 4  # of IN_MEMORY bytes each: the first stays in memory


def call(address: str, ended: list[str]) -> httpx.Response:
    """The answer of the application itself, with this test's own views."""

    def pieces() -> Iterator[bytes]:
        try:
            for _ in range(PIECES):
                yield b"x" * IN_MEMORY
        finally:
            ended.append("large")

    def large(request: Any) -> Download:
        return Download(pieces(), "text/plain", "x.txt")

    def small(request: Any) -> HttpResponse:
        return HttpResponse("pequena")

    async def get() -> httpx.Response:
        application: Any = Application()  # ASGI names no types that two libraries would share
        transport = httpx.ASGITransport(application)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await client.get(address)

    with override_settings(ROOT_URLCONF=(path("large", large), path("small", small))):
        return asyncio.run(get())


def test_an_answer_that_finds_no_room_is_refused_and_small_ones_need_none(monkeypatch: Any) -> None:
    ended: list[str] = []
    monkeypatch.setattr(spool, "MAX_ON_DISK", (PIECES - 1) * IN_MEMORY)
    for _ in range(2):  # what one answer took is free for the next
        assert len(call("/large", ended).content) == PIECES * IN_MEMORY
    monkeypatch.setattr(spool, "MAX_ON_DISK", (PIECES - 1) * IN_MEMORY - 1)
    refused = call("/large", ended)
    assert problem(refused, 503, "overloaded")["retry_after"] == int(refused.headers["retry-after"]) >= 1
    assert ended == ["large"] * 3
    assert call("/small", ended).text == "pequena"
    assert Spool.on_disk == 0


def test_an_answer_that_the_disk_does_not_take_is_refused(tmp_path: Path) -> None:
    ended: list[str] = []
    with override_settings(DATA_DIR=tmp_path / "gone"):  # where large answers wait
        problem(call("/large", ended), 503, "overloaded")
        assert call("/small", ended).text == "pequena"
    assert (ended, Spool.on_disk) == (["large"], 0)


def test_all_answers_that_wait_count_together(monkeypatch: Any) -> None:
    monkeypatch.setattr(spool, "MAX_ON_DISK", IN_MEMORY)
    body = {"type": "http.response.body", "body": b"x" * (IN_MEMORY + 1)}

    async def both() -> int:
        with Spool() as first:
            await first.keep(body | {"body": body["body"][1:]})
            await first.keep(body | {"body": body["body"][1:]})
            with Spool() as second, pytest.raises(asyncio.CancelledError):
                await second.keep(body)
            return Spool.on_disk

    assert asyncio.run(both()) == IN_MEMORY
    assert Spool.on_disk == 0


def test_where_the_memory_is_full_answers_wait_on_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "MAX_IN_MEMORY", 100)
    bodies, sent = [b"a" * 60, b"b" * 60, b"c" * 10], []

    async def send(message: Any) -> None:
        sent.append(message)

    async def play() -> None:
        with Spool() as answer:
            await answer.keep({"type": "http.response.start", "status": 200, "headers": []})
            for body in bodies:
                await answer.keep({"type": "http.response.body", "body": body, "more_body": True})
            await answer.keep({"type": "http.response.body"})
            assert (Spool.in_memory, Spool.on_disk) == (60, 70)
            await answer.send(send)

    asyncio.run(play())
    assert b"".join(message.get("body", b"") for message in sent) == b"".join(bodies)
    assert [message.get("more_body", False) for message in sent] == [False, True, True, False]
    assert (Spool.in_memory, Spool.on_disk) == (0, 0)

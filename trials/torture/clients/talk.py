"""Shared by the clients' steps: questions with replies, both ways to ask, and waiting until no turn runs."""

import asyncio
import threading
from collections.abc import Mapping
from typing import Any

from testing import scenarios
from testing.exchange import Exchange
from testing.scenarios import Scenario
from testing.service import Service
from trials.torture.clients.wire import Answer, Client
from trials.torture.ledger import Asked, Ledger, read_rows

PENDING = "SELECT count(*) FROM sessions_api_message WHERE status = 'pending'"
WORDS = ("ação", "é", "saldo", "às 10h", "🙂", "limite", "Pix\n", "“já”")  # of one, two, three and four bytes
PIECES = 24


def pieces(question: str) -> list[str]:
    """The reply to a question, as the upstream streams it; each question has a different one."""
    marker = question.rpartition(" ")[2]
    return [f"Sobre {marker}: ", *(f"{WORDS[(n + len(question)) % len(WORDS)]} {n} " for n in range(PIECES)), "Fim."]


def reply(question: str) -> str:
    return "".join(pieces(question))


def telling(delay: float = 0.0, interval: float = 0.0, *, joined: int = 1, seen: set[str] | None = None) -> Scenario:
    """Answers each question with its `pieces`; seconds of `delay` before them and `interval` between two.

    `joined`: how many pieces come in one. `seen` is where the questions are put as they come in.
    """

    async def play(exchange: Exchange) -> None:
        question = exchange.request.messages[-1]["content"]
        if seen is not None:
            seen.add(question)
        single = pieces(question)
        said = ["".join(single[place : place + joined]) for place in range(0, len(single), joined)]
        await scenarios.ok("", pieces=said, delay=delay, interval=interval)(exchange)

    return play


def held(gate: threading.Event, seen: set[str]) -> Scenario:
    """Like `telling`, but not before the gate opens."""

    async def play(exchange: Exchange) -> None:
        seen.add(exchange.request.messages[-1]["content"])
        while not gate.is_set() and not exchange.gone:
            await asyncio.sleep(0.02)
        await telling()(exchange)

    return play


def body_of(asked: Asked, **more: Any) -> dict[str, Any]:
    """The request's body; `more` overrides its fields."""
    return {"message": asked.question, "session_id": asked.session, **more}


async def ask(client: Client, asked: Asked, **more: Any) -> Answer | None:
    """Sends the question and records the answer; returns nothing if the connection ended instead."""
    try:
        answer = await client.call("POST", "/chat", body_of(asked, **more))
    except (OSError, TimeoutError):
        asked.cut()
        return None
    note(asked, answer)
    return answer


def note(asked: Asked, answer: Answer) -> None:
    """Records a whole answer, JSON or stream."""
    if not answer.is_stream:
        note_end(asked, answer.status, answer.json)
        return
    *_, last = answer.events
    note_end(asked, 200, last.data)
    if last.name == "done" and text_of(answer) != last.data["response"]:
        asked.contradictions.append(f"{asked.marker}: the stream said {text_of(answer)!r}, its end {last.data!r}")


def note_end(asked: Asked, status: int, told: Mapping[str, Any]) -> None:
    if "response" in told:
        asked.answered(told["response"], told.get("turn_id", ""))
    else:
        asked.failed(status, str(told.get("code", "")), str(told.get("turn_id", "")))


def text_of(answer: Answer) -> str:
    """The pieces of a stream, joined."""
    return "".join(event.data["text"] for event in answer.events if event.name == "delta")


async def quiet(service: Service, seconds: float = 30.0) -> list[str]:
    """Waits until no turn runs; returns a problem if one goes on."""
    left = -1
    for _ in range(int(seconds / 0.1)):
        [(left,)] = await asyncio.to_thread(service.sql, PENDING)
        if left == 0:
            return []
        await asyncio.sleep(0.1)
    return [f"{left} turns still run after {seconds:.0f} s"]


def whole(ledger: Ledger, service: Service) -> int:
    """The number of questions with a complete reply in the database."""
    expected = {(asked.session, asked.question): reply(asked.question) for asked in ledger.asked}
    questions = {row.turn_id: row for row in read_rows(service) if row.role == "user"}
    replies = [row for row in read_rows(service) if row.role == "assistant" and row.status == "completed"]
    return sum(expected.get((row.session, questions[row.turn_id].content)) == row.content for row in replies)

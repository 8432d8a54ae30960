"""Conversations with canary texts that are erased and purged, and the search for remains."""

import asyncio
import json
import random
import re
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import psycopg

from testing import scenarios
from testing.exchange import Exchange
from testing.scenarios import Scenario
from testing.service import Service
from trials.torture.base import Finding, World
from trials.torture.clients.talk import quiet
from trials.torture.clients.wire import PATIENCE, Answer, Client, at_most
from trials.torture.processes import until

CANARY = re.compile(rb"canary-[a-z]+-[0-9a-f]{16}")
LENGTH = 5000  # characters of a text: more than a page of SQLite holds
FATES = ("erased", "erased while it answers", "deleted and purged", "idle and purged", "kept")
LONG_AGO = "2020-01-01 00:00:00"
AGE = {"deleted and purged": "closed_at", "idle and purged": "last_activity_at"}
TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"


@dataclass(frozen=True)
class Conversation:
    """A session, its fate, and the number at the end of its canaries."""

    session: str
    fate: str
    number: str

    def canary(self, place: str) -> str:
        return f"canary-{place}-{self.number}"

    def text(self, place: str) -> str:
        """A long text with the canary at both ends and in the middle."""
        filler = "não é segredo " * (LENGTH // 28)
        return f"{self.canary(place)} {filler}{self.canary(place)} {filler}{self.canary(place)}"

    @property
    def headers(self) -> dict[str, str]:
        return {"Idempotency-Key": self.canary("key")}

    async def talk(self, client: Client) -> list[Answer]:
        """A turn at each endpoint, and every field that a session can have."""
        asked = {"message": self.text("question"), "session_id": self.session}
        prompted = asked | {"system_prompt": self.text("prompt")}
        timed = asked | {"persona_id": self.canary("persona"), "timing_metadata": {"about": self.text("timing")}}
        described = {"title": self.canary("title"), "metadata": {"note": self.text("note")}}
        return [
            await client.call("POST", "/chat", prompted, self.headers),
            await client.call("POST", "/api/message", timed),
            await client.call("PATCH", f"/sessions/{self.session}", described),
        ]

    async def answering(self, client: Client) -> Answer:
        return await client.call("POST", "/chat", {"message": self.text("late"), "session_id": self.session})


def answering_with_canaries(gate: threading.Event, waiting: set[str]) -> Scenario:
    """A reply with its own canary; the reply to a late question comes in two halves, before and after the gate."""

    async def play(exchange: Exchange) -> None:
        question = exchange.request.messages[-1]["content"]
        said = question.replace("canary-question", "canary-reply").replace("canary-late", "canary-rest")
        if "canary-late" not in question:
            await scenarios.ok(said)(exchange)
            return
        await exchange.start_stream()
        await scenarios.stream_text(exchange, [said[: len(said) // 2]])
        waiting.add(question)
        while not gate.is_set() and not exchange.gone:
            await asyncio.sleep(0.02)
        await scenarios.stream_text(exchange, [said[len(said) // 2 :]])
        await scenarios.close_stream(exchange)

    return play


def erasure(world: World) -> Sequence[Finding]:
    """Each conversation ends in one of several ways, beside others that are kept."""
    service = world.service(workers=2, LOG_LEVEL="DEBUG", SESSION_CLOSED_RETENTION_HOURS="87600")
    gate, waiting = threading.Event(), set[str]()
    world.upstream.otherwise = answering_with_canaries(gate, waiting)
    talks = make_conversations(world.random, world.count(100))
    problems = asyncio.run(_live(service, talks, gate, waiting))
    for fate, column in AGE.items():
        for talk in talks:
            if talk.fate == fate:
                query = f"UPDATE sessions_api_session SET {column} = %s WHERE session_id = %s"
                service.sql(query, LONG_AGO, talk.session)
    for option in ((), ("--closed-only",)):
        purged = service.manage("purge_sessions", "--older-than", "30d", *option)
        problems += [] if purged.returncode == 0 else [f"purge_sessions: {purged.stdout} {purged.stderr}"]
    return [_search(world, service, talks, problems)]


def make_conversations(chance: random.Random, count: int) -> list[Conversation]:
    return [Conversation(f"s-{n}", FATES[n % len(FATES)], f"{chance.getrandbits(64):016x}") for n in range(count)]


async def _live(service: Service, talks: Sequence[Conversation], gate: threading.Event, waiting: set[str]) -> list[str]:
    """Talk, and then erase or delete all sessions that are not kept."""
    client = Client(service.port)
    answers = [answer for made in await at_most(8, [talk.talk(client) for talk in talks]) for answer in made]
    late = [talk for talk in talks if talk.fate == "erased while it answers"]
    asking = [asyncio.create_task(talk.answering(client)) for talk in late]
    began = await until(lambda: len(waiting) == len(late), PATIENCE)
    await asyncio.sleep(1.5)  # the first half is stored by then
    erased = [talk for talk in talks if talk.fate.startswith("erased")]
    closed = [talk for talk in talks if talk.fate == "deleted and purged"]
    answers += await at_most(4, [client.call("DELETE", f"/sessions/{talk.session}?erase=true") for talk in erased])
    answers += await at_most(4, [client.call("DELETE", f"/sessions/{talk.session}") for talk in closed])
    gate.set()
    refused = await asyncio.gather(*asking)
    answers += [answer for talk in erased[:5] for answer in await _use_again(client, talk)]
    problems = [f"expected 200: {answer}" for answer in answers if answer.status != 200]
    problems += [f"an erased turn was answered: {answer}" for answer in refused if answer.status == 200]
    problems += [] if began is not None else ["the late questions did not reach the upstream"]
    return problems + await quiet(service)


async def _use_again(client: Client, talk: Conversation) -> list[Answer]:
    """The key of an erased conversation is free: it can begin another one, which is erased too."""
    begun = await client.call("POST", "/chat", {"message": "Outra coisa"}, talk.headers)
    return [begun, await client.call("DELETE", f"/sessions/{begun.json.get('session_id')}?erase=true")]


def _search(world: World, service: Service, talks: Sequence[Conversation], problems: list[str]) -> Finding:
    """Look for all canaries in all stored bytes and in the log."""
    numbers = {talk.number: talk for talk in talks}
    stored = hits(places(world, service))
    logged = hits([service.log().encode()])
    gone = sorted(canary for canary in stored if numbers[canary[-16:]].fate != "kept")
    kept = [talk for talk in talks if talk.fate == "kept"]
    wanted = {talk.canary(place) for talk in kept for place in ("question", "reply", "prompt", "title", "note", "key")}
    wanted |= {talk.canary(place) for talk in kept for place in ("persona", "timing")}
    problems += [f"left of what was {numbers[canary[-16:]].fate}: {canary}" for canary in gone]
    problems += [f"in the log: {canary}" for canary in sorted(logged)]
    problems += [f"missing of what was kept: {canary}" for canary in sorted(wanted - stored)]
    figures: dict[str, int | float | str] = {
        "conversations erased or purged": len(talks) - len(kept),
        "their canaries found": len(gone),
        "canaries in the log": len(logged),
        "conversations kept": len(kept),
        "their canaries found, of": f"{len(wanted & stored)} of {len(wanted)}",
        "searched": "file, WAL, shared memory"
        if world.database == "sqlite"
        else "tables by SQL, files after VACUUM FULL",
    }
    what = f"{len(talks)} conversations with canaries: " + ", ".join(FATES)
    return Finding("22", what, figures, problems)


def hits(places: Iterable[bytes]) -> set[str]:
    return {found.decode() for place in places for found in CANARY.findall(place)}


def places(world: World, service: Service) -> list[bytes]:
    """All bytes in which a text could remain."""
    if world.database == "sqlite":
        file = service.database_file
        return [path.read_bytes() for path in sorted(file.parent.glob(f"{file.name}*"))]
    with psycopg.connect(service.database_url, autocommit=True) as server:
        server.execute("VACUUM FULL")  # as docs/operations.md says
        server.execute("CHECKPOINT")  # removes the files that it replaced
        tables = [name for (name,) in server.execute(TABLES).fetchall()]
        rows = [server.execute(f'SELECT t::text FROM "{name}" t'.encode()).fetchall() for name in tables]
        oid = server.execute("SELECT oid FROM pg_database WHERE datname = current_database()").fetchone()
    assert world.server is not None
    assert oid is not None
    files = (world.server.directory / "data" / "base" / str(oid[0])).iterdir()
    return [json.dumps(rows, ensure_ascii=False).encode(), *(path.read_bytes() for path in files)]

"""Greedy callers, each kind by itself, beside a caller who only wants to talk."""

import asyncio
import itertools
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

from testing import scenarios
from testing.exchange import Exchange
from testing.service import Service
from testing.upstream import Upstream
from trials.torture.base import Finding, World
from trials.torture.clients.circuit import percentile
from trials.torture.clients.talk import ask, pieces, reply
from trials.torture.clients.wire import Client
from trials.torture.greedy.floods import FLOODS
from trials.torture.greedy.load import running
from trials.torture.ledger import MARKER, Ledger, check_database, check_rows, read_rows

SECONDS, LEAST_SECONDS = 15.0, 4.0  # of each kind
PAUSE_SECONDS = 0.05  # between two requests of an innocent caller
MAX_P99 = 500  # milliseconds, on two quiet cores
INNOCENT = "innocent"
INNOCENTS = ("sk-innocent-a", "sk-innocent-b")
GREEDY = "sk-greedy"
LONG_REPLY = ["Saldo disponível. " * 960] * 25  # 430 KB, in few pieces: the model works beside the innocent


async def answers(exchange: Exchange) -> None:
    """A long reply where the question asks for one, else its pieces."""
    question = exchange.request.messages[-1]["content"]
    if question.startswith("long"):
        await scenarios.ok("", pieces=LONG_REPLY)(exchange)
    elif question.startswith("slow"):
        await scenarios.ok("", pieces=pieces(question), interval=0.5)(exchange)
    else:
        await scenarios.ok("", pieces=pieces(question))(exchange)


@dataclass
class Beside:
    """What innocent callers saw for some seconds."""

    service: Service
    ledger: Ledger
    took: list[float] = field(default_factory=list)  # milliseconds of each request
    harmed: list[str] = field(default_factory=list)

    async def run(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        await asyncio.gather(*(self._innocent(Client(self.service.port, key), until) for key in INNOCENTS))

    async def _innocent(self, client: Client, until: float) -> None:
        """Asks in both forms, and reads its conversations, in turn."""
        for number in itertools.count():
            if time.monotonic() > until:
                return
            began = time.monotonic()
            await (self._list(client) if number % 3 == 2 else self._ask(client, stream=bool(number % 3)))
            self.took.append(1000 * (time.monotonic() - began))
            await asyncio.sleep(PAUSE_SECONDS)

    async def _ask(self, client: Client, *, stream: bool) -> None:
        asked = self.ledger.ask(f"{INNOCENT}-{len(self.ledger.asked)}")
        answer = await ask(client, asked, stream=stream)
        if asked.told != reply(asked.question):
            self.harmed.append(f"asked, got {answer}")

    async def _list(self, client: Client) -> None:
        answer = await client.get("/sessions?limit=20")
        if answer.status != 200:
            self.harmed.append(f"listed, got {answer}")


def greedy(world: World) -> Sequence[Finding]:
    """Each kind by itself, beside the same innocent callers; first nobody is greedy."""
    world.upstream.otherwise = answers
    return [_tried(world, "nobody is greedy", None), *(_tried(world, kind, kind) for kind in FLOODS)]


def _tried(world: World, what: str, kind: str | None) -> Finding:
    beside = Beside(world.service(ACCESS_MODE="byok"), Ledger())
    with running(kind, beside.service.url, GREEDY) if kind else nullcontext():
        asyncio.run(beside.run(max(LEAST_SECONDS, SECONDS * world.scale)))
    found = _finding(what, beside)
    found.problems.extend(_check(beside, world.upstream))
    beside.service.kill()
    world.upstream.requests.clear()
    return found


def _check(beside: Beside, upstream: Upstream) -> list[str]:
    """What innocent callers asked is stored, and was asked once. Greedy callers' turns may still run."""
    rows = [row for row in read_rows(beside.service) if row.session.startswith(INNOCENT)]
    asked = [request for request in upstream.requests if MARKER.search(request.messages[-1]["content"])]
    return check_database(beside.service) + check_rows(beside.ledger, rows, asked, reply)


def _finding(what: str, beside: Beside) -> Finding:
    took = sorted(beside.took)
    p99 = percentile(took, 0.99)
    figures: dict[str, int | float | str] = {
        "asked by others": len(took),
        "of these answered": len(took) - len(beside.harmed),
        "p50 (ms)": round(percentile(took, 0.5), 1),
        "p99 (ms)": round(p99, 1),
    }
    slow = [f"p99 is {p99:.0f} ms, more than {MAX_P99}"] if p99 > MAX_P99 else []
    return Finding("23", what, figures, beside.harmed + slow)

"""Streams whose reader leaves, resumes elsewhere, or cancels."""

import asyncio
import random
import time
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from testing import scenarios
from testing.client import Event
from testing.exchange import Exchange as Upstreams
from testing.scenarios import Scenario
from testing.service import Service
from trials.torture.base import Finding, World
from trials.torture.clients.talk import body_of, pieces, quiet, reply, telling, whole
from trials.torture.clients.wire import PATIENCE, Client, Exchange, at_most
from trials.torture.ledger import Asked, Ledger, check
from trials.torture.processes import until

AT_ONCE = 50
UNSEEN = 0.2  # share of leaving clients that leave before the first byte
CANCELS = 40


def drops(world: World) -> Sequence[Finding]:
    """Clients leave in mid-stream at random places; nobody reads the end."""
    return asyncio.run(_drops(world, world.service(workers=2)))


async def _drops(world: World, service: Service) -> list[Finding]:
    ledger, seen, count, client = Ledger(), set[str](), world.count(500), Client(service.port)
    world.upstream.otherwise = telling(delay=0.2, interval=0.01, seen=seen)
    leavers = [Leaver(client, seen, world.random) for _ in range(count)]
    await at_most(AT_ONCE, [leaver.run(ledger.ask(f"drop-{n}")) for n, leaver in enumerate(leavers)])
    problems = await quiet(service)
    problems += check(ledger, world.upstream, service, reply)
    figures = {
        "clients that left": count,
        "before the first byte": sum(leaver.place is None for leaver in leavers),
        "with a reset": sum(leaver.reset for leaver in leavers),
        "complete replies stored": whole(ledger, service),
        "calls upstream": world.upstream.count,
    }
    for name in ("complete replies stored", "calls upstream"):
        if figures[name] != count:
            problems.append(f"{name}: {figures[name]} instead of {count}")
    return [Finding("6", f"{count} clients leave in mid-stream", figures, problems)]


class Leaver:
    """Asks for a stream and disconnects at some character, or as soon as the question is upstream."""

    def __init__(self, client: Client, seen: set[str], chance: random.Random) -> None:
        self.client = client
        self.seen = seen
        self.place = None if chance.random() < UNSEEN else chance.random()
        self.reset = chance.random() < 0.5

    async def run(self, asked: Asked) -> None:
        async with asyncio.timeout(PATIENCE):
            exchange = await self.client.begin("POST", "/chat", body_of(asked, stream=True))
            if self.place is None:
                await until(lambda: asked.question in self.seen, PATIENCE)
            else:
                await exchange.head()
                await read_until(exchange, int(self.place * len(reply(asked.question))))
            exchange.leave(reset=self.reset)
            asked.cut()


async def read_until(exchange: Exchange, offset: int) -> list[Event]:
    """The events up to the one that reaches character `offset`."""
    read: list[Event] = []
    async with aclosing(exchange.events()) as events:
        async for event in events:
            read.append(event)
            if event.id is not None and int(event.id) >= offset:
                break
    return read


@dataclass
class Reader:
    """Reads one reply with interruptions: `cuts` are the places where the connection ends, as shares of the text.

    `late`: comes back only when the turn is over. `parameter`: says where it was by ?after=, from the middle of a
    piece, and not by Last-Event-ID.
    """

    client: Client
    asked: Asked
    cuts: list[float]
    late: bool
    parameter: bool
    text: str = ""
    turn_id: str = ""
    problems: list[str] = field(default_factory=list)

    async def run(self) -> None:
        async with asyncio.timeout(PATIENCE):
            exchange = await self.client.begin("POST", "/chat", body_of(self.asked, stream=True))
            for cut in self.cuts:
                if await self._read(exchange, int(cut * len(reply(self.asked.question)))):
                    return
                if self.late:
                    await self._end_of_turn()
                exchange = await self._again()
            if not await self._read(exchange, 10**9):
                self.problems.append(f"{self.asked.marker}: no end after it was taken up again")

    async def _read(self, exchange: Exchange, offset: int) -> bool:
        """Read up to `offset`; return whether the stream ended."""
        if await exchange.head() != 200:
            self.problems.append(f"{self.asked.marker}: {exchange.status} instead of a stream")
            return True
        events = await read_until(exchange, offset)
        exchange.leave()
        for event in events:
            self._take(event)
        return events[-1].name in ("done", "error")

    def _take(self, event: Event) -> None:
        if event.name == "start":
            self.turn_id = event.data["turn_id"]
        elif event.name == "delta":
            self.text += event.data["text"]
            if event.id != str(len(self.text)):
                self.problems.append(f"{self.asked.marker}: id {event.id} at character {len(self.text)}")
        elif event.name == "done":
            self.asked.answered(self.text, self.turn_id)
            if event.data["response"] != self.text:
                self.problems.append(f"{self.asked.marker}: the end says {event.data!r}")
        else:
            self.asked.failed(200, event.data["code"], self.turn_id)
            self.problems.append(f"{self.asked.marker}: {event.data}")

    async def _again(self) -> Exchange:
        path = f"/turns/{self.turn_id}/events"
        if self.parameter:
            self.text = self.text[: len(self.text) // 2 + 1]
            return await self.client.begin("GET", f"{path}?after={len(self.text)}")
        return await self.client.begin("GET", path, headers={"Last-Event-ID": str(len(self.text))})

    async def _end_of_turn(self) -> None:
        while (await self.client.get(f"/turns/{self.turn_id}")).json["status"] == "pending":
            await asyncio.sleep(0.1)


def cuts(world: World) -> Sequence[Finding]:
    """Streams cut and resumed, and turns cancelled, on any worker."""
    service, ledger = world.service(workers=2), Ledger()
    return [asyncio.run(_cuts(world, service, ledger)), asyncio.run(_cancels(world, service, ledger))]


async def _cuts(world: World, service: Service, ledger: Ledger) -> Finding:
    count, chance = world.count(200), world.random
    world.upstream.otherwise = telling(delay=0.05, interval=0.02)
    readers = [
        Reader(
            Client(service.port, key=f"sk-reader-{n}"),
            ledger.ask(f"cut-{n}"),
            cuts=sorted(chance.random() for _ in range(chance.choice((1, 1, 2)))),
            late=chance.random() < 0.4,
            parameter=chance.random() < 0.5,
        )
        for n in range(count)
    ]
    await at_most(AT_ONCE, [reader.run() for reader in readers])
    strangers = [await Client(service.port, "sk-other").get(f"/turns/{one.turn_id}/events") for one in readers[:10]]
    problems = await quiet(service)
    problems += [problem for reader in readers for problem in reader.problems]
    problems += check(ledger, world.upstream, service, reply)
    problems += [f"a stranger got {answer}" for answer in strangers if answer.code != "turn_not_found"]
    figures = {
        "streams cut": count,
        "cuts": sum(len(reader.cuts) for reader in readers),
        "taken up after the end": sum(reader.late for reader in readers),
        "texts identical": sum(reader.text == reply(reader.asked.question) for reader in readers),
        "further calls upstream": world.upstream.count - count,
    }
    if figures["texts identical"] != count or figures["further calls upstream"]:
        problems.append(f"expected {count} identical texts and no further calls: {figures}")
    return Finding("7", f"{count} streams cut and taken up again, 2 workers", figures, problems)


def half_telling() -> Scenario:
    """Sends half of the reply at once, and then nothing until the service disconnects."""

    async def play(exchange: Upstreams) -> None:
        said = half(exchange.request.messages[-1]["content"])
        await exchange.start_stream()
        await scenarios.stream_text(exchange, [said])
        await exchange.until_gone()

    return play


def half(question: str) -> str:
    said = pieces(question)
    return "".join(said[: len(said) // 2])


async def _cancels(world: World, service: Service, ledger: Ledger) -> Finding:
    count, before = world.count(CANCELS), world.upstream.closed_early
    world.upstream.otherwise = half_telling()
    results = await at_most(10, [_cancel(service, ledger.ask(f"cancel-{n}")) for n in range(count)])
    problems = await quiet(service) + [problem for _, found in results for problem in found]
    if await until(lambda: world.upstream.closed_early - before == count, 10) is None:
        problems.append(f"{world.upstream.closed_early - before} of {count} connections upstream were closed")
    problems += check(ledger, world.upstream, service, reply)
    figures = {
        "turns cancelled": count,
        "connections upstream closed": world.upstream.closed_early - before,
        "slowest (s)": round(max(seconds for seconds, _ in results), 2),
    }
    return Finding("7", f"{count} turns cancelled, 2 workers", figures, problems)


async def _cancel(service: Service, asked: Asked) -> tuple[float, list[str]]:
    """Seconds from the cancellation to the end of the stream, and the problems."""
    client, said = Client(service.port), half(asked.question)
    async with asyncio.timeout(PATIENCE):
        exchange = await client.begin("POST", "/chat", body_of(asked, stream=True))
        await exchange.head()
        async with aclosing(exchange.events()) as stream:
            turn_id = (await anext(stream)).data["turn_id"]
            shown = ""
            while shown != said:
                shown += (await anext(stream)).data["text"]
            began = time.monotonic()
            answer = await client.call("POST", f"/turns/{turn_id}/cancel")
            last = [event async for event in stream][-1]
        seconds = time.monotonic() - began
        exchange.leave()
    asked.cut()
    problems = []
    if (answer.status, answer.json.get("status"), answer.json.get("text")) != (200, "cancelled", said):
        problems.append(f"{asked.marker}: cancelling answered {answer}")
    if last.name != "done" or (last.data["finish_reason"], last.data["response"]) != ("cancelled", said):
        problems.append(f"{asked.marker}: the stream ended with {last}")
    stored = (await client.get(f"/turns/{turn_id}")).json
    if (stored["status"], stored["text"]) != ("cancelled", said):
        problems.append(f"{asked.marker}: stored is {stored}")
    return seconds, problems

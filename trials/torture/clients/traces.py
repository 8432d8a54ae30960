"""The resources of turns in flight, and the leftovers of disconnected clients."""

import asyncio
import random
import threading
from collections import Counter
from collections.abc import Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from pathlib import Path

from testing.measure import memory
from testing.service import Service
from testing.upstream import Upstream
from trials.torture.base import Finding, World
from trials.torture.clients.talk import ask, body_of, held, quiet, reply, telling
from trials.torture.clients.wire import PATIENCE, Client, Exchange, at_most
from trials.torture.ledger import Asked, Ledger, check
from trials.torture.processes import connections, master, until, workers

MAX_CONNECTIONS = 10
LOOKS = 20  # a tenth of a second apart, while texts are stored
AT_ONCE = 64
WARM_UP = 6000  # disconnects before the first look: by then the memory has stopped growing
IDLE_SECONDS = 20.0  # for idle connections, both ways, to be closed
MAX_GROWTH = 1.10
# The stage at which a client disconnects, and its share in percent.
STAGES = {"connected": 10, "head": 10, "body": 15, "waiting": 25, "stream": 25, "following": 10, "list": 5}


@dataclass(frozen=True)
class Holdings:
    """A service's resources. `memory` is in megabytes."""

    descriptors: int
    upstream: int
    database: int
    memory: float


def holdings(service: Service, upstream: Upstream) -> Holdings:
    held_memory = memory(master(service))
    return Holdings(descriptors(service), upstream.open_connections, connections(service), held_memory)


def descriptors(service: Service) -> int:
    return sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in (master(service), *workers(service)))


def in_flight(world: World) -> Sequence[Finding]:
    """Turns that all wait for the upstream at once, while others read lists."""
    return asyncio.run(_in_flight(world, world.service(workers=2)))


async def _in_flight(world: World, service: Service) -> list[Finding]:
    ledger, count, gate, seen = Ledger(), world.count(200), threading.Event(), set[str]()
    world.upstream.otherwise = held(gate, seen)
    client = Client(service.port)
    asking = [asyncio.create_task(ask(client, ledger.ask(f"flight-{n}"))) for n in range(count)]
    began = await until(lambda: len(seen) == count, PATIENCE)
    alone = []
    for _ in range(LOOKS):
        await asyncio.sleep(0.1)
        alone.append(await asyncio.to_thread(connections, service))
    looking = asyncio.gather(*(client.get("/sessions") for _ in range(count)))
    beside = [0]
    while not looking.done():
        beside.append(await asyncio.to_thread(connections, service))
    gate.set()
    await asyncio.gather(*asking)
    problems = await quiet(service) + check(ledger, world.upstream, service, reply)
    problems += [] if began is not None else ["not all turns were in flight at once"]
    problems += [f"a list: {answer}" for answer in await looking if answer.status != 200]
    figures = {
        "turns in flight": count,
        "database connections, at the most": max(alone),
        "when as many lists are asked for at once": max(beside),
        "answered": len(ledger.acknowledged),
    }
    if max(alone) > MAX_CONNECTIONS or len(ledger.acknowledged) != count:
        problems.append(f"expected at most {MAX_CONNECTIONS} connections, and {count} answers: {figures}")
    return [Finding("13", f"{count} turns in flight", figures, problems)]


def disconnects(world: World) -> Sequence[Finding]:
    """Clients disconnect at every stage of a request; afterwards all resources are as before."""
    service = world.service(
        workers=2,
        LLM_PROVIDER="openai",  # closes idle connections after seconds, not after a minute
        OPENAI_BASE_URL=world.upstream.url,
        OPENAI_API_KEY="test-key",
        LOG_LEVEL="WARNING",
    )
    return asyncio.run(_disconnects(world, service))


async def _disconnects(world: World, service: Service) -> list[Finding]:
    ledger, count, told = Ledger(), world.count(10_000), Counter[str]()
    world.upstream.otherwise = telling(delay=0.005, interval=0.01, joined=5)
    await _leave(world.random, service, ledger, world.count(WARM_UP), told)
    # SQLite keeps a closed connection's file for the next one while the process holds a lock: first open the most.
    await at_most(AT_ONCE, [Client(service.port).call("GET", "/sessions?limit=10") for _ in range(8 * AT_ONCE)])
    before = await _after_idle(world, service, None)
    told.clear()
    await _leave(world.random, service, ledger, count, told)
    problems = await quiet(service)
    after = await _after_idle(world, service, before)
    answers = [await ask(Client(service.port), ledger.ask(f"next-{n}")) for n in range(10)]
    problems += [f"a call after it: {answer}" for answer in answers if answer is None or answer.status != 200]
    problems += check(ledger, world.upstream, service, reply)
    figures = {f"left: {stage}": told[stage] for stage in STAGES} | {
        "file descriptors": f"{before.descriptors} → {after.descriptors}",
        "connections upstream": f"{before.upstream} → {after.upstream}",
        "database connections": f"{before.database} → {after.database}",
        "memory (MB)": f"{before.memory:.1f} → {after.memory:.1f}",
    }
    problems += _growth(before, after)
    return [Finding("15", f"{count:,} random disconnects, 2 workers", figures, problems)]


def _growth(before: Holdings, after: Holdings) -> list[str]:
    names = ("descriptors", "upstream", "database")
    grown = [f"{name}: {getattr(before, name)} → {getattr(after, name)}" for name in names]
    problems = [line for name, line in zip(names, grown, strict=True) if getattr(after, name) > getattr(before, name)]
    if after.memory > before.memory * MAX_GROWTH:
        problems.append(f"memory: {before.memory:.1f} → {after.memory:.1f} MB")
    return problems


async def _after_idle(world: World, service: Service, before: Holdings | None) -> Holdings:
    """The resources after a quiet while (waits until they are at most `before`, if given)."""
    last = holdings(service, world.upstream)
    for _ in range(int(IDLE_SECONDS)):
        await asyncio.sleep(1)
        now = holdings(service, world.upstream)
        settled = now.descriptors == last.descriptors and now.upstream == 0
        if settled and (before is None or not _growth(before, now)):
            return now
        last = now
    return last


async def _leave(chance: random.Random, service: Service, ledger: Ledger, count: int, told: Counter[str]) -> None:
    stages = chance.choices(list(STAGES), list(STAGES.values()), k=count)
    leavers = [Leaver(Client(service.port), stage, chance.random(), chance.random() < 0.5) for stage in stages]
    told.update(stages)
    await at_most(AT_ONCE, [leaver.run(ledger) for leaver in leavers])


@dataclass
class Leaver:
    """Disconnects during a stage, at `place` (0 to 1); with an RST if `reset`."""

    client: Client
    stage: str
    place: float
    reset: bool

    async def run(self, ledger: Ledger) -> None:
        with suppress(ConnectionError):
            async with asyncio.timeout(PATIENCE):
                exchange = await self.client.connect()
                try:
                    await getattr(self, f"_{self.stage}")(exchange, ledger)
                finally:
                    exchange.leave(reset=self.reset)

    async def _connected(self, exchange: Exchange, ledger: Ledger) -> None:
        await asyncio.sleep(self.place / 100)

    async def _head(self, exchange: Exchange, ledger: Ledger) -> None:
        head, _, _ = self._whole(exchange).partition(b"\r\n\r\n")
        exchange.send(head[: 1 + int(self.place * len(head))])
        await asyncio.sleep(self.place / 100)

    async def _body(self, exchange: Exchange, ledger: Ledger) -> None:
        head, separator, body = self._whole(exchange).partition(b"\r\n\r\n")
        exchange.send(head + separator + body[: int(self.place * len(body))])
        await asyncio.sleep(self.place / 100)

    async def _waiting(self, exchange: Exchange, ledger: Ledger) -> None:
        self._ask(exchange, ledger, stream=self.place < 0.3)
        await asyncio.sleep(self.place / 50)

    async def _stream(self, exchange: Exchange, ledger: Ledger) -> None:
        asked = self._ask(exchange, ledger, stream=True)
        await exchange.head()
        await self._read(exchange, int(self.place * len(reply(asked.question))))

    async def _following(self, exchange: Exchange, ledger: Ledger) -> None:
        """Leaves a stream at its beginning, and the resumed one in its middle."""
        self._ask(exchange, ledger, stream=True)
        await exchange.head()
        turn_id = await self._read(exchange, 0)
        again = await self.client.begin("GET", f"/turns/{turn_id}/events")
        try:
            await again.head()
            await self._read(again, int(self.place * 100))
        finally:
            again.leave(reset=self.reset)

    async def _list(self, exchange: Exchange, ledger: Ledger) -> None:
        exchange.send(self.client.request("GET", "/sessions?limit=10"))
        await asyncio.sleep(self.place / 50)

    def _ask(self, exchange: Exchange, ledger: Ledger, *, stream: bool) -> Asked:
        asked = ledger.ask(f"gone-{len(ledger.asked)}")
        asked.cut()
        exchange.send(self.client.request("POST", "/chat", body_of(asked, stream=stream)))
        return asked

    def _whole(self, exchange: Exchange) -> bytes:
        return self.client.request("POST", "/chat", {"message": "Nunca chega. " * 20, "session_id": "never"})

    @staticmethod
    async def _read(exchange: Exchange, offset: int) -> str:
        """Reads up to a character; the turn's id."""
        turn_id = ""
        async with aclosing(exchange.events()) as events:
            async for event in events:
                turn_id = event.data.get("turn_id", turn_id)
                if offset == 0 or int(event.id or 0) >= offset:
                    break
        return turn_id

"""Callers who misuse models that fail, and others whom that must not harm."""

import asyncio
import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from testing import scenarios
from testing.exchange import Exchange
from testing.scenarios import Scenario
from testing.service import Service
from trials.torture.base import Finding, World
from trials.torture.clients.circuit import percentile
from trials.torture.clients.talk import ask, pieces, quiet, reply
from trials.torture.clients.wire import Client
from trials.torture.ledger import Ledger, check

MISUSERS = 10
SECONDS, LEAST_SECONDS = 4.0, 1.5  # of each misuse
PAUSE_SECONDS = 0.02  # between two questions of one client
INVENTED = 50  # models
OWN_KEY = "sk-own"
BAD, GOOD = "bad/model", "good/model"
NO_CHANNEL = {"error": {"message": "no available channel for this model", "type": "new_api_error"}}

Models = Callable[[int], str]  # of a misuser's question, by its number


def one(_number: int) -> str:
    return BAD


def invented(number: int) -> str:
    return f"invented/{number % INVENTED}"


async def stops_midway(exchange: Exchange) -> None:
    await scenarios.hang(after=begun(exchange))(exchange)


async def resets_midway(exchange: Exchange) -> None:
    await scenarios.reset(after=begun(exchange))(exchange)


def begun(exchange: Exchange) -> str:
    """The beginning of the reply."""
    return pieces(exchange.request.messages[-1]["content"])[0]


MISUSES: dict[str, tuple[Models, Scenario]] = {
    "a model that always answers 503": (one, scenarios.status(503)),
    "a model that always answers 500": (one, scenarios.status(500)),
    "a model that never answers": (one, scenarios.hang()),
    "a model that stops in mid-answer": (one, stops_midway),
    "a model that resets the connection": (one, scenarios.reset()),
    "a model that resets it in mid-answer": (one, resets_midway),
    "a model with a rate limit": (one, scenarios.status(429, headers={"Retry-After": "20"})),
    "a key that is refused": (one, scenarios.status(401)),
    f"{INVENTED} invented models, 503": (invented, scenarios.status(503, NO_CHANNEL)),
    f"{INVENTED} invented models, never answered": (invented, scenarios.hang()),
}


def misused(fault: Scenario, bad_key: str) -> Scenario:
    """The fault for the misusers' key and models; everybody else's question is answered."""

    async def play(exchange: Exchange) -> None:
        asked = exchange.request
        key = asked.headers.get("authorization", "").removeprefix("Bearer ")
        if key == bad_key and asked.body["model"] != GOOD:
            await fault(exchange)
        else:
            await scenarios.ok("", pieces=pieces(asked.messages[-1]["content"]))(exchange)

    return play


@dataclass
class Misuse:
    """Misusers and innocents at the same time; without a fault, the innocents alone."""

    service: Service
    ledger: Ledger
    bad_key: str
    models: Models | None
    seconds: float
    took: list[float] = field(default_factory=list)  # milliseconds of each of the innocents' answers
    harmed: list[str] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)  # what misusers got

    async def run(self) -> None:
        until = time.monotonic() + self.seconds
        others = [("", ""), (OWN_KEY, GOOD), (OWN_KEY, BAD), (self.bad_key, GOOD)]  # key and model
        innocents = [self._innocent(key, model, until) for key, model in others]
        models = self.models
        misusers = [self._misuser(models, until) for _ in range(MISUSERS)] if models else []
        await asyncio.gather(*innocents, *misusers)

    async def _innocent(self, key: str, model: str, until: float) -> None:
        """Asks in both forms in turn."""
        client = Client(self.service.port, key)
        for number in itertools.count():
            if time.monotonic() > until:
                return
            asked = self.ledger.ask(f"innocent-{len(self.ledger.asked)}")
            began = time.monotonic()
            answer = await ask(client, asked, stream=bool(number % 2), **({"model": model} if model else {}))
            self.took.append(1000 * (time.monotonic() - began))
            if asked.told != reply(asked.question):
                self.harmed.append(f"{key or 'the server’s key'}, {model or 'the usual model'}: {answer}")
            await asyncio.sleep(PAUSE_SECONDS)

    async def _misuser(self, models: Models, until: float) -> None:
        client = Client(self.service.port, self.bad_key)
        while time.monotonic() < until:
            asked = self.ledger.ask(f"misuse-{len(self.ledger.asked)}")
            answer = await ask(client, asked, model=models(len(self.statuses)))
            self.statuses.append(answer.status if answer else 0)
            await asyncio.sleep(PAUSE_SECONDS)


def misuse(world: World) -> Sequence[Finding]:
    """Each misuse by itself, with a key of its own: everybody else is answered."""
    ledger, seconds = Ledger(), max(LEAST_SECONDS, SECONDS * world.scale)
    service = world.service(UPSTREAM_READ_SECONDS="1")
    tried = {"nobody misuses a model": (None, scenarios.echo()), **MISUSES}
    found = []
    for number, (what, (models, fault)) in enumerate(tried.items()):
        misuse = Misuse(service, ledger, f"sk-misuse-{number}", models, seconds)
        world.upstream.otherwise = misused(fault, misuse.bad_key)
        before = world.upstream.count
        asyncio.run(misuse.run())
        found.append(_finding(misuse, what, world.upstream.count - before))
    found[-1].problems.extend(asyncio.run(quiet(service)) + check(ledger, world.upstream, service, reply))
    return found


def _finding(tried: Misuse, what: str, calls: int) -> Finding:
    took = sorted(tried.took)
    figures: dict[str, int | float | str] = {
        "asked by others": len(took),
        "of these answered": len(took) - len(tried.harmed),
        "p50 (ms)": round(percentile(took, 0.5), 1),
        "p99 (ms)": round(percentile(took, 0.99), 1),
    }
    if tried.models:
        figures |= {"misusers asked": len(tried.statuses), "calls upstream for these": calls - len(took)}
    problems = list(tried.harmed)
    problems += ["a misuser got an answer"] if 200 in tried.statuses else []
    return Finding("23", what, figures, problems)

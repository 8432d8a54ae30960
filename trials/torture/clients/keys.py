"""Idempotency keys: any number of repetitions at any time make one turn, and all get its answer."""

import asyncio
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from testing import scenarios
from testing.service import Service
from trials.torture.base import Finding, World
from trials.torture.clients.talk import body_of, note, quiet, reply, telling, text_of
from trials.torture.clients.wire import Answer, Client, at_most
from trials.torture.ledger import Asked, Ledger, check

KEYS_AT_ONCE = 6
RETRIES = 50  # requests with one key
AT_THE_SAME_TIME, WHILE_IT_RUNS = 25, 15  # of them; the others come after the turn's end
RUN_SECONDS = 0.4  # about as long as a turn takes here
SSE = {"Accept": "text/event-stream"}


@dataclass
class Repeated:
    """One question, asked many times under its key, and all answers in the order of the requests."""

    client: Client
    asked: Asked
    answers: list[Answer] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    async def ask(self, delay: float = 0.0, *, stream: bool = False) -> Answer:
        await asyncio.sleep(delay)
        headers = {"Idempotency-Key": self.asked.key, **(SSE if stream else {})}
        answer = await self.client.call("POST", "/chat", body_of(self.asked), headers)
        note(self.asked, answer)
        self.answers.append(answer)
        return answer

    async def ask_otherwise(self, by_a_number: bool) -> Answer:
        """Another request under the same key."""
        body = body_of(self.asked, temperature=0.5) if by_a_number else body_of(self.asked, message="Outra coisa")
        return await self.client.call("POST", "/chat", body, {"Idempotency-Key": self.asked.key})

    async def run(self, delays: Sequence[float], streams: Iterator[bool]) -> None:
        """First the requests before the end of the turn, then the late ones together."""
        await asyncio.gather(*(self.ask(delay, stream=next(streams)) for delay in delays))
        late = await asyncio.gather(*(self.ask(stream=next(streams)) for _ in range(RETRIES - len(delays))))
        self.problems += [
            f"{self.asked.marker}: a late answer is not called a replay: {answer.headers}"
            for answer in late
            if answer.headers.get("idempotent-replayed") != "true"
        ]

    @property
    def bodies(self) -> set[bytes]:
        """The JSON bodies; only one, if all is well."""
        return {answer.body for answer in self.answers if not answer.is_stream}

    def judge(self) -> list[str]:
        """The problems of the answers."""
        name, expected = self.asked.marker, reply(self.asked.question)
        problems = [f"{name}: {answer}" for answer in self.answers if answer.status != 200]
        if len(self.bodies) > 1:
            problems.append(f"{name}: {len(self.bodies)} different bodies: {sorted(self.bodies)[:2]}")
        streams = [answer for answer in self.answers if answer.is_stream]
        problems += [f"{name}: a stream said {answer}" for answer in streams if text_of(answer) != expected]
        ends = [answer.events[-1].data if answer.is_stream else answer.json for answer in self.answers]
        problems += [f"{name}: the same request was answered {ends[0]} and {end}" for end in ends if end != ends[0]]
        return problems + self.problems


def keys(world: World) -> Sequence[Finding]:
    """Many requests with one key: at once, late, after restarts, with another body, by another owner."""
    service, ledger = world.service(workers=2), Ledger()
    world.upstream.otherwise = telling(delay=0.1, interval=0.012)
    count = world.count(100)
    repeated = [
        Repeated(Client(service.port, f"sk-{n % 7}"), ledger.ask(f"key-{n}", key=f"the key {n}")) for n in range(count)
    ]
    first = asyncio.run(_storm(world, service, ledger, repeated))
    service.restart()
    service.kill()
    service.start()
    again = asyncio.run(_afterwards(world, service, ledger, repeated))
    return [first, again, asyncio.run(_failures(world, service, ledger))]


async def _storm(world: World, service: Service, ledger: Ledger, repeated: Sequence[Repeated]) -> Finding:
    await at_most(KEYS_AT_ONCE, [one.run(_delays(world.random), _mixed(world.random)) for one in repeated])
    problems = await quiet(service) + [problem for one in repeated for problem in one.judge()]
    problems += check(ledger, world.upstream, service, reply)
    answers = [answer for one in repeated for answer in one.answers]
    [(turns,)] = service.sql("SELECT count(*) FROM sessions_api_message WHERE role = 'assistant'")
    figures = {
        "keys": len(repeated),
        "requests": len(answers),
        "as streams": sum(answer.is_stream for answer in answers),
        "calls upstream": world.upstream.count,
        "turns stored": turns,
        "keys with different bodies": sum(len(one.bodies) != 1 for one in repeated),
    }
    if {figures["calls upstream"], figures["turns stored"]} != {len(repeated)}:
        problems.append(f"expected one call and one turn for each key: {figures}")
    return Finding("4", f"{len(repeated)} keys, {RETRIES} requests with each, 2 workers", figures, problems)


def _delays(chance: random.Random) -> list[float]:
    return [0.0] * AT_THE_SAME_TIME + [chance.random() * RUN_SECONDS for _ in range(WHILE_IT_RUNS)]


def _mixed(chance: random.Random) -> Iterator[bool]:
    order = [place % 2 == 0 for place in range(RETRIES)]
    chance.shuffle(order)
    return iter(order)


async def _afterwards(world: World, service: Service, ledger: Ledger, repeated: Sequence[Repeated]) -> Finding:
    """After SIGTERM and a start, and SIGKILL and a start: the answers to a retry, another body and another owner."""
    before = world.upstream.count
    replays = await at_most(25, [one.ask() for one in repeated])
    refusals = await at_most(25, [one.ask_otherwise(place % 2 == 0) for place, one in enumerate(repeated)])
    calls = world.upstream.count - before
    strangers = [
        Repeated(Client(service.port, "sk-stranger"), ledger.ask(f"stranger-{n}", key=one.asked.key))
        for n, one in enumerate(repeated)
    ]
    await at_most(25, [one.ask() for one in strangers])
    problems = await quiet(service) + [problem for one in [*repeated, *strangers] for problem in one.judge()]
    problems += [f"not a replay: {answer}" for answer in replays if not _is_replay(answer)]
    problems += [f"not a mismatch: {answer}" for answer in refusals if not _is_mismatch(answer)]
    problems += check(ledger, world.upstream, service, reply)
    figures = {
        "same bytes after the restarts": sum(
            _is_replay(answer) and len(one.bodies) == 1 for one, answer in zip(repeated, replays, strict=True)
        ),
        "other bodies refused with 422": sum(map(_is_mismatch, refusals)),
        "calls upstream": calls,
        "turns of other owners with the same keys": world.upstream.count - before - calls,
    }
    if figures["calls upstream"] or figures["turns of other owners with the same keys"] != len(repeated):
        problems.append(f"expected no call, then one for each stranger: {figures}")
    return Finding("4", f"{len(repeated)} keys after a stop and a kill", figures, problems)


def _is_replay(answer: Answer) -> bool:
    return answer.status == 200 and answer.headers.get("idempotent-replayed") == "true"


def _is_mismatch(answer: Answer) -> bool:
    return (answer.status, answer.code) == (422, "idempotency_mismatch")


FAULTS = (  # few that count as an outage: five in a row would open the circuit, and no turn would begin
    *[scenarios.status(500), scenarios.truncated(), scenarios.reset(), scenarios.error_mid_stream()],
    *[scenarios.ok("", finish="content_filter"), scenarios.status(402)] * 8,
)


async def _failures(world: World, service: Service, ledger: Ledger) -> Finding:
    """A failed turn answers with its error again, and is not retried."""
    faults = FAULTS[: world.count(len(FAULTS))]
    count, before, client = len(faults), world.upstream.count, Client(service.port)
    problems = []
    for n, fault in enumerate(faults):
        world.upstream.script(fault)
        one = Repeated(client, ledger.ask(f"failed-{n}", key=f"failed {n}"))
        told = {_error(answer) for answer in await asyncio.gather(*(one.ask() for _ in range(5)))}
        told |= {_error(await one.ask()) for _ in range(2)}
        if len(told) != 1 or "None" in str(told):
            problems.append(f"{one.asked.marker}: a failed turn was answered as {told}")
    problems += await quiet(service) + check(ledger, world.upstream, service)
    calls = world.upstream.count - before
    if calls != count:
        problems.append(f"{calls} calls upstream for {count} keys")
    figures = {"failed turns": count, "requests": 7 * count, "calls upstream": calls}
    return Finding("4", f"{count} keys whose turn failed", figures, problems)


def _error(answer: Answer) -> tuple[str, int, str, bool]:
    told = answer.json
    return str(told.get("code")), answer.status, str(told.get("turn_id")), bool(told.get("may_have_been_billed"))

"""Two messages at once to one session: one after the other, or a clear refusal."""

import asyncio
import threading
import time
from collections.abc import Sequence
from typing import Any

from testing.exchange import Request
from testing.service import Service
from trials.torture.base import Finding, World
from trials.torture.clients.talk import ask, held, quiet, reply, telling
from trials.torture.clients.wire import PATIENCE, Answer, Client, at_most
from trials.torture.ledger import Asked, Ledger, check
from trials.torture.processes import until

AT_ONCE = 25  # pairs
REFUSED = 50
SHORT_WAIT = "1"
LONG_WAIT = "600"  # a request that waits so long, although it asked not to, counts as a hang


def pairs(world: World) -> Sequence[Finding]:
    """Two messages to one session at once; then again, while the first reply takes longer than the wait."""
    service, ledger = world.service(workers=2, SESSION_BUSY_WAIT_SECONDS=LONG_WAIT), Ledger()
    taken = asyncio.run(_pairs(world, service, ledger))
    rejected = asyncio.run(_refused(world, service, ledger, {"on_busy": "reject"}))
    service.settings["SESSION_BUSY_WAIT_SECONDS"] = SHORT_WAIT
    service.restart()
    return [taken, rejected, asyncio.run(_refused(world, service, ledger, {}))]


async def _pairs(world: World, service: Service, ledger: Ledger) -> Finding:
    count = world.count(500)
    world.upstream.otherwise = telling(delay=0.02, interval=0.001)
    couples = await at_most(AT_ONCE, [_pair(service, ledger, f"pair-{n}", n % 3 == 0) for n in range(count)])
    problems = await quiet(service) + check(ledger, world.upstream, service, reply)
    both = sum(first.told is not None and second.told is not None for first, second in couples)
    refused = [asked for couple in couples for asked in couple if asked.code]
    problems += [f"{asked.marker}: {asked.status} {asked.code}" for asked in refused if asked.code != "session_busy"]
    in_sight = _in_sight(couples, world.upstream.requests)
    figures = {
        "pairs": count,
        "second saw the first's reply": in_sight,
        "second refused with 409": len(refused),
        "interleaved": count - in_sight - len(refused),
    }
    if both != in_sight or both + len(refused) != count:
        problems.append(f"{both} pairs were answered, not all in the sight of each other: {figures}")
    return Finding("5", f"{count} pairs of messages at once, 2 workers", figures, problems)


async def _pair(service: Service, ledger: Ledger, session: str, streaming: bool) -> tuple[Asked, Asked]:
    client = Client(service.port)
    first, second = ledger.ask(session), ledger.ask(session)
    await asyncio.gather(ask(client, first), ask(client, second, stream=streaming))
    return first, second


def _in_sight(couples: Sequence[tuple[Asked, Asked]], requests: Sequence[Request]) -> int:
    """The number of pairs in which the later request had the earlier message and its reply."""
    sent = {request.messages[-1]["content"]: request.messages for request in requests}
    found = 0
    for one, other in couples:
        first, second = sorted((sent.get(one.question, []), sent.get(other.question, [])), key=len)
        said = [message["content"] for message in second]
        found += len(first) == 1 and said[:2] == [first[0]["content"], reply(first[0]["content"])] and len(said) == 3
    return found


async def _refused(world: World, service: Service, ledger: Ledger, more: dict[str, Any]) -> Finding:
    """The gate upstream stays shut until the second message has been refused, so timing does not matter."""
    count, gate, seen, kind = world.count(REFUSED), threading.Event(), set[str](), "reject" if more else "wait"
    world.upstream.otherwise = held(gate, seen)
    first = [ledger.ask(f"{kind}-{n}") for n in range(count)]
    waiting = [asyncio.create_task(ask(Client(service.port), asked)) for asked in first]
    began = await until(lambda: len(seen) == count, PATIENCE)
    second = [ledger.ask(asked.session) for asked in first]
    answers = await at_most(count, [_timed(Client(service.port), asked, more) for asked in second])
    still_shut = not any(asked.told for asked in first)
    gate.set()
    await asyncio.gather(*waiting)
    problems = await quiet(service) + check(ledger, world.upstream, service, reply)
    problems += [] if began is not None and still_shut else ["the first messages' replies were not held back"]
    right = [answer for answer, _ in answers if answer is not None and _is_refusal(answer)]
    figures = {
        "pairs": count,
        "refused with 409 and Retry-After": len(right),
        "first message answered": sum(asked.told is not None for asked in first),
        "slowest refusal (s)": round(max(seconds for _, seconds in answers), 3),
    }
    problems += [f"not refused as busy: {answer}" for answer, _ in answers if answer not in right]
    what = "with on_busy=reject" if more else f"that wait for {SHORT_WAIT} s"
    return Finding("5", f"{count} second messages {what}", figures, problems)


async def _timed(client: Client, asked: Asked, more: dict[str, Any]) -> tuple[Answer | None, float]:
    began = time.monotonic()
    answer = await ask(client, asked, **more)
    return answer, time.monotonic() - began


def _is_refusal(answer: Answer) -> bool:
    wait = answer.headers.get("retry-after", "")
    return (answer.status, answer.code) == (409, "session_busy") and wait.isdigit() and int(wait) >= 1

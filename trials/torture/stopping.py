"""Promise 8: SIGTERM ends no reply within the grace period; a longer reply is stored with its text so far."""

import asyncio
import os
import signal
import socket
import time
from collections import Counter

import aiohttp

from testing import scenarios
from testing.service import Service
from trials.torture import processes
from trials.torture.base import Finding, World
from trials.torture.ledger import Asked, Ledger, check, read_rows
from trials.torture.talk import Talk, talking

STREAMS, LEFT = 50, 10  # LEFT: turns without a client
GRACE = 25  # seconds; the replies take five and ten
WORD, WORDS, INTERVAL = "palavra ", 100, 0.05
LONGER = 200  # words of replies without a client: the server must not stop with its last connection
KEPT_ALIVE = 10  # connections that are idle when the SIGTERM comes
SHORT_GRACE = 3


def stop(world: World) -> list[Finding]:
    return [asyncio.run(_nothing_is_cut(world)), asyncio.run(_too_long_a_reply(world))]


async def _nothing_is_cut(world: World) -> Finding:
    streams, left = world.count(STREAMS), world.count(LEFT)
    world.upstream.script(*[scenarios.ok("", pieces=[WORD] * LONGER, interval=INTERVAL)] * left)
    world.upstream.otherwise = scenarios.ok("", pieces=[WORD] * WORDS, interval=INTERVAL)
    service, ledger = world.service(workers=2, GRACEFUL_TIMEOUT=str(GRACE)), Ledger()
    async with talking(ledger, service.url) as talk:
        leaving = await _begin(talk, left)
        staying = await _begin(talk, streams)
        for going in leaving:
            going.cancel()
        late = await _ask_late(talk, service)
        await asyncio.wait(staying)
    code = await asyncio.to_thread(service.terminate)
    service.start()
    longer = {asked.question for asked in ledger.asked[:left]}
    problems = check(ledger, world.upstream, service, lambda question: WORD * (LONGER if question in longer else WORDS))
    cut = streams - len(ledger.acknowledged)
    given_up = sum(row.role == "assistant" and row.status != "completed" for row in read_rows(service)) - cut
    if cut or given_up or code:
        problems.append(f"{cut} streams were cut, {given_up} replies given up, exit code {code}: {talk.codes}")
    figures = {"streams": streams, "cut": cut, "replies nobody waits for": left, "given up": given_up}
    figures |= {f"new questions: {name}": number for name, number in late.items()}
    return Finding(
        "8",
        f"SIGTERM in the middle of {streams + left} streams",
        figures,
        problems + talk.misshapen + _judge(late),
    )


def _judge(late: Counter[str]) -> list[str]:
    """Idle connections are closed at once; who is heard all the same is told to ask elsewhere."""
    good = not late.keys() - {"overloaded", "hung up"}
    return [] if good else [f"new questions on idle connections, expected 503 overloaded: {dict(late)}"]


async def _begin(talk: Talk, count: int) -> list[asyncio.Task[Asked]]:
    """So many streams, each with some text."""
    before = len(talk.ledger.asked)
    asking = [asyncio.create_task(talk.ask(f"s{before + number}", stream=True)) for number in range(count)]
    await processes.until(lambda: sum(bool(asked.shown) for asked in talk.ledger.asked) == before + count, 30)
    return asking


async def _ask_late(talk: Talk, service: Service) -> Counter[str]:
    """Answers to new questions on connections opened before the SIGTERM."""
    idle = [aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) for _ in range(KEPT_ALIVE)]
    try:
        for http in idle:
            async with http.get(f"{service.url}/health") as answer:
                await answer.read()
        os.kill(processes.master(service), signal.SIGTERM)
        await processes.until(lambda: _refuses(service), 10)
        return Counter([await _question(talk, http, service) for http in idle])
    finally:
        for http in idle:
            await http.close()


def _refuses(service: Service) -> bool:
    """Whether the port accepts no connection any more: then every worker has got its signal."""
    try:
        with socket.create_connection(("127.0.0.1", service.port), 1):
            return False
    except OSError:
        return True


async def _question(talk: Talk, http: aiohttp.ClientSession, service: Service) -> str:
    try:
        async with http.post(f"{service.url}/chat", json={"message": "Tarde demais"}) as answer:
            body = await answer.read()
            return "accepted" if answer.status == 200 else str(talk.error_in(answer, body)["code"])
    except (aiohttp.ClientError, ConnectionError):
        return "hung up"


async def _too_long_a_reply(world: World) -> Finding:
    """A reply that outlasts the grace period is stored with its text so far, and can be read afterwards."""
    world.upstream.clear()
    world.upstream.otherwise = scenarios.ok("", pieces=[WORD] * 1000, interval=INTERVAL)
    service, ledger = world.service(GRACEFUL_TIMEOUT=str(SHORT_GRACE)), Ledger()
    async with talking(ledger, service.url) as talk:
        asking = asyncio.create_task(talk.ask("s", stream=True))
        await processes.until(lambda: bool(ledger.asked and ledger.asked[0].shown), 30)
        began = time.monotonic()
        await asyncio.to_thread(service.terminate)
        seconds, asked = time.monotonic() - began, await asking
        service.start()
        problems = check(ledger, world.upstream, service, lambda _: WORD * 1000) + talk.misshapen
        async with talk.http.get(f"{service.url}/turns/{asked.turn_id}") as answer:
            turn = await answer.json()
    shown, kept = asked.shown[-1][1], len(turn.get("text", ""))
    if turn.get("status") != "interrupted" or kept < shown:
        problems.append(f"{shown} characters were shown; afterwards: {turn}")
    if asked.code != "turn_interrupted":
        problems.append(f"the stream ended with {asked.code or 'nothing'}")
    figures = {"seconds to the end": round(seconds, 1), "characters shown": shown, "kept": kept}
    return Finding("8", f"a reply that outlasts GRACEFUL_TIMEOUT={SHORT_GRACE}", figures, problems)

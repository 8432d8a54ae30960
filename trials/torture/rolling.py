"""Promise 8 again: restarts under load lose nothing for clients that send keys and retry."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable

from testing.service import Service
from trials.torture import processes
from trials.torture.base import Finding, World
from trials.torture.ledger import Ledger, check
from trials.torture.talk import Talk, answering, crowd, reply_to, talking

CLIENTS = 16
RELOADS, RESTARTS = 3, 2
PAUSE = 1.0  # seconds of load between two restarts
NEW_WORKERS_WITHIN = 60.0


def rolling(world: World) -> list[Finding]:
    return [asyncio.run(_reloads(world)), asyncio.run(_two_services(world))]


async def _reloads(world: World) -> Finding:
    """SIGHUP: the master starts new workers, and the old ones finish what they have."""
    world.upstream.otherwise = answering(0.02)
    service = world.service(workers=2)
    problems: list[str] = []

    async def restart() -> None:
        old = processes.workers(service)
        os.kill(processes.master(service), signal.SIGHUP)
        fresh = await processes.until_serving(service, len(old), old)
        if fresh is None or await processes.until_gone(old, NEW_WORKERS_WITHIN) is None:
            problems.append(f"old workers live {NEW_WORKERS_WITHIN:g} s after SIGHUP, or no new ones do")

    finding = await _under_load(world, [service], restart, f"{RELOADS} × SIGHUP, {CLIENTS} clients with keys", RELOADS)
    finding.problems += problems
    return finding


async def _two_services(world: World) -> Finding:
    """Two services on one database, stopped and started one after the other."""
    world.upstream.clear()
    world.upstream.otherwise = answering(0.02)
    first = world.service()
    second = world.service(beside=first)

    async def restart() -> None:
        for service in (first, second):
            await asyncio.to_thread(service.restart)

    what = f"two services on one database, each restarted {RESTARTS} times, {CLIENTS} clients with keys"
    return await _under_load(world, [first, second], restart, what, RESTARTS)


async def _under_load(
    world: World, services: list[Service], restart: Callable[[], Awaitable[None]], what: str, times: int
) -> Finding:
    ledger = Ledger()
    async with talking(ledger, *(service.url for service in services)) as talk:
        restarting = asyncio.create_task(_repeat(restart, times))
        await crowd(talk, world.random, restarting.done, clients=CLIENTS, keys=1)
        await restarting
    figures = {
        "turns asked": len(ledger.asked),
        "answered": len(ledger.acknowledged),
        "longest wait (s)": round(max(asked.told_at - asked.sent_at for asked in ledger.acknowledged), 1),
        "connections cut": talk.cuts,
        "refused": talk.refused,
        **talk.codes,
    }
    return Finding("8", what, figures, _lost(ledger, talk) + check(ledger, world.upstream, services[0], reply_to))


async def _repeat(restart: Callable[[], Awaitable[None]], times: int) -> None:
    for _ in range(times):
        await asyncio.sleep(PAUSE)
        await restart()
    await asyncio.sleep(PAUSE)


def _lost(ledger: Ledger, talk: Talk) -> list[str]:
    """Everybody must get a reply: nothing was killed."""
    lost = [asked for asked in ledger.asked if asked.told is None]
    return [f"{asked.marker} was never answered ({asked.code or 'cut'})" for asked in lost] + talk.misshapen

"""Promise 12: no lock error, whatever the load."""

import asyncio
import re

from trials.torture.base import Finding, World
from trials.torture.ledger import Ledger, check
from trials.torture.talk import crowd, talking

TURNS, CLIENTS, WORKERS = 5000, 32, 2
LOCK_TROUBLE = re.compile(
    r"database is locked|deadlock|OperationalError|could not serialize|lock timeout", re.IGNORECASE
)


def lock_errors(world: World) -> list[Finding]:
    """The upstream answers at once, so that everybody waits for the database."""
    service, ledger, turns = world.service(workers=WORKERS), Ledger(), world.count(TURNS)

    async def run() -> list[str]:
        async with talking(ledger, service.url) as talk:
            await crowd(talk, world.random, lambda: len(ledger.asked) >= turns, clients=CLIENTS)
        return [*talk.misshapen, *(f"{count} answers were {code}" for code, count in talk.codes.items())]

    problems = asyncio.run(run())
    logged = LOCK_TROUBLE.findall(service.log())
    if logged:
        problems.append(f"the log has {logged[:5]}")
    if len(ledger.acknowledged) != len(ledger.asked):
        problems.append(f"{len(ledger.asked) - len(ledger.acknowledged)} questions were not answered")
    figures = {"turns answered": len(ledger.acknowledged), "lock errors in answers and log": len(logged)}
    what = f"{len(ledger.asked)} turns, {CLIENTS} clients, {WORKERS} workers"
    return [Finding("12", what, figures, problems + check(ledger, world.upstream, service))]

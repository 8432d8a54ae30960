"""A real model on a llama.cpp server, which is killed in the middle of replies and started again."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from testing.llama import server as llama
from testing.service import Service
from trials.torture.base import Finding, World
from trials.torture.ledger import Ledger, check, read_rows
from trials.torture.processes import runner_pids, until
from trials.torture.talk import Talk, crowd, talking

CLIENTS, WORKERS, KILLS = 6, 2, 8
UP_SECONDS = (1.0, 4.0)  # between a good answer and the next kill
DOWN_SECONDS = (0.0, 1.0)
WORKS_WITHIN = 5.0  # seconds after a start
MAX_TOKENS = 24  # of every reply: the model goes on until then
CONTEXT = 512
EXPECTED = {"provider_unreachable", "provider_unavailable", "provider_invalid_response"}
WHOLE = """
    SELECT count(*) FROM sessions_api_message WHERE role = 'assistant' AND status = 'completed'
    AND completion_tokens = %s AND NOT usage_estimated AND finish_reason = 'length'
"""


@dataclass
class Killer:
    """Kills the model server under load, and measures how soon it answers again."""

    world: World
    server: llama.Llama
    ledger: Ledger
    kills: int = 0
    slowest: float = 0.0
    problems: list[str] = field(default_factory=list)

    async def run(self) -> None:
        for number in range(self.world.count(KILLS)):
            await asyncio.sleep(self.world.random.uniform(*UP_SECONDS))
            if number % 2:  # the others may hit the reading of a prompt
                await until(self._writes, WORKS_WITHIN)
            await asyncio.to_thread(self.server.kill)
            self.kills += 1
            await asyncio.sleep(self.world.random.uniform(*DOWN_SECONDS))
            await asyncio.to_thread(self.server.start)
            took = await until(self._answered_more_than(len(self.ledger.acknowledged)), 2 * WORKS_WITHIN)
            self.slowest = max(self.slowest, took or 2 * WORKS_WITHIN)
            if took is None or took > WORKS_WITHIN:
                self.problems.append(f"no good answer within {WORKS_WITHIN:g} s of a start")

    async def _writes(self) -> bool:
        """Whether the model is in the middle of a reply."""
        slot = await asyncio.to_thread(self.server.slot)
        return bool(slot["is_processing"]) and 3 < slot["next_token"][0]["n_decoded"] < MAX_TOKENS // 2

    def _answered_more_than(self, before: int) -> Callable[[], bool]:
        return lambda: len(self.ledger.acknowledged) > before


def model(world: World) -> Sequence[Finding]:
    """Nothing that was acknowledged is lost, and no reply that a kill has cut counts as complete."""
    llama.install()
    world.directory.mkdir(parents=True, exist_ok=True)
    with llama.Llama(world.directory, context=CONTEXT, endless=True) as server:
        settings: dict[str, Any] = {"MAX_TOKENS_DEFAULT": str(MAX_TOKENS), "HISTORY_MAX_MESSAGES": "6"}
        service = world.service(workers=WORKERS, **llama.settings(server.url), **settings)
        return asyncio.run(_under_load(world, server, service, Ledger()))


async def _under_load(world: World, server: llama.Llama, service: Service, ledger: Ledger) -> Sequence[Finding]:
    killer = Killer(world, server, ledger)
    async with talking(ledger, service.url) as talk:
        killing = asyncio.create_task(killer.run())
        await crowd(talk, world.random, killing.done, clients=CLIENTS)  # without keys: they would repeat the failure
        await killing
    await until(lambda: not runner_pids(service), 30)
    return findings(killer, talk, service)


def findings(killer: Killer, talk: Talk, service: Service) -> Sequence[Finding]:
    what = f"{killer.kills} kills of a real model's server, {CLIENTS} clients, {WORKERS} workers"
    replies = [row for row in read_rows(service) if row.role == "assistant"]
    completed = sum(row.status == "completed" for row in replies)
    cut = sum(row.status == "failed" and bool(row.content) for row in replies)
    kept = check(killer.ledger, None, service) + talk.misshapen
    if unexpected := talk.codes.keys() - EXPECTED:
        kept.append(f"errors of another kind: {sorted(unexpected)}")
    [(whole,)] = service.sql(WHOLE, MAX_TOKENS)
    broken = [] if whole == completed else [f"{completed - whole} replies are complete and not whole"]
    if not cut:
        broken.append("no reply was cut: the kills hit nothing")
    return [
        Finding("1", what, {"turns acknowledged": len(killer.ledger.acknowledged), **talk.codes}, kept),
        Finding("9", what, {"replies complete": completed, "cut, with their text": cut}, broken),
        Finding("11", what, {"slowest return after a start (s)": round(killer.slowest, 1)}, killer.problems),
    ]

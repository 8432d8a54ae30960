"""Promises 1 to 3: turns of many clients while processes are killed at random moments."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from testing.service import Service
from testing.upstream import Upstream
from trials.torture import processes
from trials.torture.base import Finding, World
from trials.torture.ledger import Asked, Ledger, Row, check, read_rows, sent_again
from trials.torture.talk import Talk, answering, crowd, reply_to, talking

TURNS, KILLS = 1000, 50
SHARES = {"worker": 36, "master": 4, "all": 10}  # of the kills
CLIENTS, WORKERS = 24, 2
MARKED_WITHIN = 10.0  # seconds after a restart
GRACE = 3
ORPHANS_LEAVE_WITHIN = GRACE + 10.0  # seconds; running replies may finish first
TEXT_KEPT_UNTIL = 2.5  # seconds before the kill; the text is stored about once a second
LONG_CALM, EVERY = 4.0, 12  # seconds before one kill in so many, so that there are long texts to lose


@dataclass
class Killer:
    """Kills processes of a service under load, and checks what becomes of their turns."""

    service: Service
    world: World
    kills: Counter[str] = field(default_factory=Counter)
    slowest_mark: float = 0.0
    slowest_orphan: float = 0.0
    problems: list[str] = field(default_factory=list)

    async def run(self) -> None:
        shares = {"all": KILLS} if processes.is_one(self.service) else SHARES
        wanted = [kind for kind, share in shares.items() for _ in range(share)]
        self.world.random.shuffle(wanted)
        for number, kind in enumerate(wanted[: self.world.count(KILLS)]):
            await asyncio.sleep(self.world.random.uniform(0.05, 0.8) if number % EVERY else LONG_CALM)
            dead = await {"worker": self._worker, "master": self._master, "all": self._all}[kind]()
            self.kills[kind] += 1
            await self._see_marked(kind, dead)

    async def _worker(self) -> set[int]:
        """One worker; the master starts another."""
        pids = processes.workers(self.service)
        victim = self.world.random.choice(pids)
        os.kill(victim, signal.SIGKILL)
        if await processes.until_serving(self.service, len(pids), [victim]) is None:
            self.problems.append("a killed worker was not replaced within 30 s")
        return {victim}

    async def _master(self) -> set[int]:
        """Only the master: its workers must end by themselves, or they would hold the port for ever."""
        orphans = set(processes.workers(self.service))
        os.kill(processes.master(self.service), signal.SIGKILL)
        left = await processes.until_gone(orphans, ORPHANS_LEAVE_WITHIN)
        if left is None:
            self.problems.append(f"workers went on {ORPHANS_LEAVE_WITHIN:g} s after their master's death")
        self.slowest_orphan = max(self.slowest_orphan, left or ORPHANS_LEAVE_WITHIN)
        await self._start_again()
        return orphans

    async def _all(self) -> set[int]:
        dead = set(processes.workers(self.service))
        await self._start_again()
        return dead

    async def _start_again(self) -> None:
        await asyncio.to_thread(self.service.kill)
        await asyncio.to_thread(self.service.start)

    async def _see_marked(self, kind: str, dead: set[int]) -> None:
        took = await processes.until_marked(self.service, dead, MARKED_WITHIN)
        if took is None:
            self.problems.append(f"kill of {kind}: turns of the dead pending {MARKED_WITHIN:g} s after the restart")
        self.slowest_mark = max(self.slowest_mark, took or MARKED_WITHIN)


async def torment(world: World, service: Service, ledger: Ledger) -> tuple[Talk, Killer]:
    killer = Killer(service, world)
    async with talking(ledger, service.url) as talk:
        killing = asyncio.create_task(killer.run())
        await crowd(
            talk,
            world.random,
            lambda: killing.done() and len(ledger.acknowledged) >= world.count(TURNS),
            clients=CLIENTS,
            keys=0.5,
        )
        await killing
    if await processes.until(lambda: not processes.runner_pids(service), MARKED_WITHIN) is None:
        killer.problems.append("turns are pending after everything")
    return talk, killer


def oldest_lost_text(ledger: Ledger, rows: Sequence[Row]) -> float:
    """The age at the kill of the oldest text that was shown but not stored, over all interrupted turns."""
    stored = {row.turn_id: row for row in rows if row.role == "assistant"}
    return max((_lost(asked, stored[asked.turn_id]) for asked in ledger.asked if asked.turn_id in stored), default=0.0)


def _lost(asked: Asked, reply: Row) -> float:
    beyond = [at for at, characters in asked.shown if characters > len(reply.content)]
    return asked.cut_at - min(beyond) if reply.status == "interrupted" and asked.cut_at and beyond else 0.0


def crashes(world: World) -> list[Finding]:
    world.upstream.otherwise = answering(0.04)
    ledger = Ledger()
    service = world.service(workers=WORKERS, GRACEFUL_TIMEOUT=str(GRACE))
    talk, killer = asyncio.run(torment(world, service, ledger))
    return findings(ledger, talk, killer, service, world.upstream)


def findings(ledger: Ledger, talk: Talk, killer: Killer, service: Service, upstream: Upstream) -> list[Finding]:
    rows = read_rows(service)
    replies = Counter(row.status for row in rows if row.role == "assistant")
    what = f"{sum(killer.kills.values())} kills under load of {CLIENTS} clients, {WORKERS} workers"
    kills = {f"kills: {kind}": killer.kills[kind] for kind in SHARES}
    kept = Finding(
        "1",
        what,
        {
            "turns acknowledged": len(ledger.acknowledged),
            "answers cut": talk.cuts,
            "asked again with their key": sum(bool(asked.key and asked.cut_at) for asked in ledger.asked),
            **kills,
        },
        check(ledger, upstream, service, reply_to) + talk.misshapen,
    )
    lost = oldest_lost_text(ledger, rows)
    marked = Finding(
        "2",
        what,
        {
            "turns interrupted": replies["interrupted"],
            "pending": replies["pending"],
            "slowest mark after a restart (s)": round(killer.slowest_mark, 1),
            "slowest end of a worker without its master (s)": round(killer.slowest_orphan, 1),
            "oldest text lost (s before the kill)": round(lost, 2),
        },
        killer.problems,
    )
    if lost > TEXT_KEPT_UNTIL:
        marked.problems.append(f"text that had been shown {lost:.1f} s before the kill was not stored")
    if not replies["interrupted"]:
        marked.problems.append("no turn was interrupted: the kills hit nothing")
    again = sent_again(upstream.requests)
    problems = [f"{again} requests were sent again"] if again else []
    return [kept, marked, Finding("3", what, {"upstream calls": upstream.count, "sent again": again}, problems)]

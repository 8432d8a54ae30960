"""Promises 13 and 14: a database that goes away, is locked or has no room left, under load."""

import asyncio
import contextlib
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from testing.postgres import Server
from testing.service import Service
from trials.torture import processes
from trials.torture.base import Finding, World
from trials.torture.ledger import Ledger, check
from trials.torture.talk import Talk, answering, crowd, reply_to, talking

CLIENTS, WORKERS = 24, 2
CALM = 2.0  # seconds of load before, between and after
AWAY, LONG_AWAY = 3.0, 8.0  # seconds
LOCKED = 10.0
WORKS_WITHIN = 10.0  # seconds after the database is back
MAX_CONNECTIONS = 10
EXPECTED = {"database_unavailable", "session_busy", "turn_interrupted"}
DISK = "32m"
HURT = 50  # failed answers before the full disk gets room again
HURT_WITHIN = 60.0  # seconds; clients whose replies were being stored wait for half of that
LOCK = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)
connection.execute("BEGIN EXCLUSIVE")
time.sleep(float(sys.argv[2]))
connection.execute("COMMIT")
"""

Storm = Callable[[Talk], Awaitable[str]]  # returns when the database is back; a text if the outage did not happen


@dataclass
class Weather:
    """The results of one step's outages."""

    service: Service
    recovery: float = 0.0  # the slowest, in seconds
    connections: int = 0  # the most
    problems: list[str] = field(default_factory=list)

    async def pass_over(self, talk: Talk, storms: Mapping[str, Storm]) -> None:
        pids = processes.workers(self.service)
        for name, storm in storms.items():
            await asyncio.sleep(CALM)
            if nothing := await storm(talk):
                self.problems.append(f"{name}: {nothing}")
            took = await processes.until(lambda: self._works(talk), WORKS_WITHIN)
            self.recovery = max(self.recovery, took or WORKS_WITHIN)
            if took is None:
                self.problems.append(f"after {name}: no good answer within {WORKS_WITHIN:g} s")
        await asyncio.sleep(CALM)
        self.connections = processes.connections(self.service)
        if processes.workers(self.service) != pids:
            self.problems.append("a worker has died")

    @staticmethod
    async def _works(talk: Talk) -> bool:
        return (await talk.ask("probe")).told is not None


def database_weather(world: World) -> list[Finding]:
    world.upstream.otherwise = answering(0.01)
    if world.server is not None:
        return [asyncio.run(_under_load(world, world.service(workers=WORKERS), postgres_storms(world.server)))]
    with small_disk(world.directory) as disk:
        place = disk or world.directory
        service = world.service(workers=WORKERS, DATABASE_URL=f"sqlite:///{place}/bancobot.sqlite3")
        try:
            return [asyncio.run(_under_load(world, service, sqlite_storms(service, disk)))]
        finally:
            service.kill()  # before the disk goes


async def _under_load(world: World, service: Service, storms: Mapping[str, Storm]) -> Finding:
    ledger, weather = Ledger(), Weather(service)
    async with talking(ledger, service.url) as talk:
        passing = asyncio.create_task(weather.pass_over(talk, storms))
        await crowd(talk, world.random, passing.done, clients=CLIENTS, keys=0.5)
        await passing
    await processes.until(lambda: not processes.runner_pids(service), 30)
    figures = {
        "turns acknowledged": len(ledger.acknowledged),
        "slowest recovery (s)": round(weather.recovery, 1),
        "connections cut": talk.cuts + talk.refused,
        "database connections afterwards": weather.connections,
        **talk.codes,
    }
    problems = weather.problems + talk.misshapen + check(ledger, world.upstream, service, reply_to)
    if talk.cuts + talk.refused:
        problems.append(f"{talk.cuts} connections were cut, {talk.refused} refused")
    if unexpected := talk.codes.keys() - EXPECTED:
        problems.append(f"errors of another kind: {sorted(unexpected)}")
    if weather.connections > MAX_CONNECTIONS:
        problems.append(f"{weather.connections} database connections")
    return Finding("14", f"{', '.join(storms)}; {CLIENTS} clients, {WORKERS} workers", figures, problems)


def postgres_storms(server: Server) -> dict[str, Storm]:
    def restart(order: signal.Signals, away: float) -> Storm:
        async def storm(_: Talk) -> str:
            if server.process is None:
                return "the server does not run"
            server.process.send_signal(order)
            await asyncio.to_thread(server.process.wait, 30)
            await asyncio.sleep(away)
            await asyncio.to_thread(server.start)
            return ""

        return storm

    return {
        f"PostgreSQL stopped (fast) for {LONG_AWAY:g} s": restart(signal.SIGINT, LONG_AWAY),
        f"stopped (immediate) for {AWAY:g} s": restart(signal.SIGQUIT, AWAY),
        "restarted at once (immediate)": restart(signal.SIGQUIT, 0),
    }


def sqlite_storms(service: Service, disk: Path | None) -> dict[str, Storm]:
    async def locked(_: Talk) -> str:
        command = [sys.executable, "-c", LOCK, str(service.database_file), str(LOCKED)]
        process = await asyncio.create_subprocess_exec(*command)
        try:
            return "the lock was not had" if await process.wait() else ""
        finally:
            if process.returncode is None:
                process.kill()

    async def full(talk: Talk) -> str:
        with no_room(disk) if disk else no_writing(service):
            enough = talk.codes["database_unavailable"] + HURT
            hurt = await processes.until(lambda: talk.codes["database_unavailable"] >= enough, HURT_WITHIN)
        return f"cost fewer than {HURT} answers in {HURT_WITHIN:g} s" if hurt is None else ""

    how = "full disk" if disk else "full disk (no file may grow: a small file system needs root)"
    return {f"lock held by another process for {LOCKED:g} s": locked, how: full, "full again": full}


@contextmanager
def small_disk(directory: Path) -> Iterator[Path | None]:
    """A file system of a few megabytes, if this process may mount one."""
    place = directory / "disk"
    place.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        yield None
        return
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@contextmanager
def no_room(disk: Path) -> Iterator[None]:
    """Fills the file system to the last byte."""
    filler = disk / "filler"
    try:
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            for size in (2**20, 2**12, 1):
                with contextlib.suppress(OSError):
                    while file.write(bytes(size)) == size:
                        pass
        yield
    finally:
        filler.unlink()


@contextmanager
def no_writing(service: Service) -> Iterator[None]:
    """The workers may not write to any file, as if the disk were full."""
    pids = processes.workers(service)
    try:
        for pid in pids:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        yield
    finally:
        for pid in pids:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

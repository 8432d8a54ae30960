"""The processes of a service, from outside: their pids, whether they live, and their open files."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

import psycopg

from testing.service import Service

PENDING_RUNNERS = "SELECT DISTINCT runner FROM sessions_api_message WHERE status = 'pending'"


def master(service: Service) -> int:
    assert service.process is not None
    return service.process.pid


def is_one(service: Service) -> bool:
    """Whether uvicorn serves, in one process."""
    return "uvicorn" in service.options


def workers(service: Service) -> list[int]:
    pid = master(service)
    if is_one(service):
        return [pid]
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def until(condition: Callable[[], bool | Awaitable[bool]], seconds: float) -> float | None:
    """The seconds until the condition held; None if it never did."""
    began = time.monotonic()
    while True:
        answer = condition()
        if answer if isinstance(answer, bool) else await answer:
            return time.monotonic() - began
        if time.monotonic() - began > seconds:
            return None
        await asyncio.sleep(0.05)


async def until_gone(pids: Iterable[int], seconds: float) -> float | None:
    left = list(pids)
    return await until(lambda: not any(map(is_alive, left)), seconds)


async def until_serving(service: Service, count: int, old: Iterable[int] = (), seconds: float = 30) -> float | None:
    """Waits until so many new workers (not in `old`) run and are ready."""
    gone = set(old)
    return await until(lambda: len([pid for pid in workers(service) if pid not in gone]) >= count, seconds)


def runner_pids(service: Service) -> set[int]:
    """The processes that run turns according to the database."""
    return {int(name.split(":")[1]) for (name,) in service.sql(PENDING_RUNNERS)}


async def until_marked(service: Service, dead: set[int], seconds: float) -> float | None:
    """Waits until no turn of those processes is pending."""
    return await until(lambda: not runner_pids(service) & dead, seconds)


def connections(service: Service) -> int:
    """The number of the service's database connections."""
    if service.database_url.startswith("postgres"):
        with psycopg.connect(service.database_url) as server:
            row = server.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            ).fetchone()
        return int(row[0]) if row else 0
    return sum(_opens(pid, service.database_file) for pid in (master(service), *workers(service)))


def _opens(pid: int, file: Path) -> int:
    count = 0
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            count += link.samefile(file)
    return count

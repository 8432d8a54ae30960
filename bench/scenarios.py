"""What is measured: the contestants, the runs, and the check after each that nothing was lost or made up."""

import asyncio
import contextlib
import gc
import re
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from bench import load, measure, services
from bench.databases import Database

UPSTREAM_SECONDS = 2.0
IN_FLIGHT = 1000
PREFILL_TURNS = 5
PREFILL_SECONDS = 60.0
WARM_UP_SECONDS = 2.0
DRAIN_SECONDS = 10.0
EXCEPTION = re.compile(r"[\w.]+(Error|Exception)\b")  # the last line of a traceback


@dataclass(frozen=True)
class Contestant:
    """A service under test. `database` opens a new database for one run; the baseline has none."""

    name: str
    database: Callable[[], AbstractContextManager[Database]] | None = None


@dataclass(frozen=True)
class Plan:
    """One scenario: clients, how slow the upstream is, and for how long (seconds)."""

    name: str
    clients: int
    seconds: float
    delay: float = 0.0
    prefill: int = 0


@dataclass
class Run:
    """What one run gave. `problems` is empty where every turn was answered, stored and asked for exactly once."""

    contestant: str
    window: load.Window
    usage: measure.Usage
    tally: load.Tally
    problems: list[str] = field(default_factory=list)

    @property
    def cpu_ms_per_turn(self) -> float:
        return self.usage.service * 1000 / max(1, len(self.window.latencies))

    @property
    def database_ms_per_turn(self) -> float:
        return self.usage.database * 1000 / max(1, len(self.window.latencies))

    @property
    def disturbance(self) -> float:
        """The share of the service's core that others used meanwhile."""
        return max(0.0, self.usage.core - self.usage.service) / self.window.seconds


@dataclass(frozen=True)
class Bench:
    """What all runs have in common."""

    cores: services.Cores
    scratch: Path
    upstream_port: int

    def run(self, plan: Plan, contestant: Contestant) -> Run:
        with contextlib.ExitStack() as stack:
            database = stack.enter_context(contestant.database()) if contestant.database else None
            run = self._run_service(plan, contestant.name, database)
            run.problems += logged_problems(self._log.read_text(errors="replace"))
            if database is not None:
                run.problems += stored_problems(database.counts(), run.tally.acknowledged)
        return run

    def _run_service(self, plan: Plan, name: str, database: Database | None) -> Run:
        port = services.free_port()
        if database is None:
            command, env = services.baseline_command(port), services.provider_settings(self.upstream_port)
        else:
            command = services.bancobot_command(port)
            env = services.bancobot_settings(self.upstream_port, database.url)
        ready = f"http://127.0.0.1:{port}/health"
        with services.running(command, env, self.cores.service, ready, self._log) as process:
            return asyncio.run(self._measure(plan, name, port, process.pid, database.server if database else None))

    @property
    def _log(self) -> Path:
        return self.scratch / "service.log"

    async def _measure(self, plan: Plan, name: str, port: int, pid: int, database_pid: int | None) -> Run:
        def usage() -> measure.Usage:
            return measure.usage(pid, min(self.cores.service), database_pid)

        before = await self._upstream_tally()
        tally = load.Tally()
        window, used = await self._drive(plan, port, tally, usage)
        after = await self._upstream_tally()
        run = Run(name, window, used, tally)
        run.problems += told_problems(tally, after[0] - before[0], after[1] - before[1])
        if name == BASELINE.name and not run.problems:
            held = (await load.ask_once(port, "GET", "/health"))["messages"]
            run.problems += [] if held == 2 * tally.acknowledged else [f"{held} messages held in memory"]
        return run

    async def _upstream_tally(self) -> tuple[int, int]:
        tally = await load.ask_once(self.upstream_port, "GET", "/tally")
        return int(str(tally["calls"])), int(str(tally["messages"]))

    async def _drive(
        self, plan: Plan, port: int, tally: load.Tally, usage: Callable[[], measure.Usage]
    ) -> tuple[load.Window, measure.Usage]:
        clients = load.make_clients(port, tally, plan.clients)
        await self._delay(0)
        if plan.prefill:
            for client in clients:
                client.conversation_turns = 1_000_000  # the session that is filled now is the one that is measured
            await load.prefill(clients, plan.prefill, PREFILL_SECONDS)
            await self._delay(plan.delay)
        return await drive(clients, plan, usage)

    async def _delay(self, seconds: float) -> None:
        await load.ask_once(self.upstream_port, "POST", "/delay", {"seconds": seconds})

    async def direct(self, plan: Plan) -> load.Window:
        """The load generator against the upstream, nothing in between."""
        await self._delay(0)
        tally = load.Tally()
        clients = [load.DirectClient(self.upstream_port, tally) for _ in range(plan.clients)]
        window, _ = await drive(clients, plan, lambda: measure.Usage(0, 0, 0))
        return window


BASELINE = Contestant("FastAPI baseline")


async def drive(
    clients: Sequence[load.Client], plan: Plan, usage: Callable[[], measure.Usage]
) -> tuple[load.Window, measure.Usage]:
    """Lets the clients talk; the clock runs after the warm-up. They start spread evenly over the upstream's delay."""
    tasks = [
        asyncio.create_task(client.talk(plan.delay * number / len(clients))) for number, client in enumerate(clients)
    ]
    gc.collect()
    gc.freeze()
    await asyncio.sleep(max(WARM_UP_SECONDS, 2 * plan.delay))
    usage_before, start = usage(), time.perf_counter()
    await asyncio.sleep(plan.seconds)
    used, end = usage().since(usage_before), time.perf_counter()
    await load.finish(clients, tasks, DRAIN_SECONDS)
    gc.unfreeze()
    return clients[0].tally.between(start, end), used


def told_problems(tally: load.Tally, calls: int, messages: int) -> list[str]:
    """What the clients were told, against what the upstream saw."""
    problems = []
    if tally.failures:
        problems.append(f"{len(tally.failures)} turns failed, the first with: {tally.failures[0]}")
    if tally.unanswered:
        problems.append(f"{tally.unanswered} turns unanswered {DRAIN_SECONDS:.0f} s after the end")
    if not problems and calls != tally.acknowledged:
        problems.append(f"{tally.acknowledged} turns acknowledged, {calls} calls upstream")
    if not problems and messages != tally.messages:
        problems.append(f"{messages} messages sent upstream instead of {tally.messages}: not the whole history")
    return problems


def logged_problems(log: str) -> list[str]:
    """A service that answers well and complains in its log is not well."""
    lines = log.splitlines()
    errors = [line for line in lines if "ERROR" in line or line.startswith("Traceback")]
    if not errors:
        return []
    raised = next((line for line in lines if EXCEPTION.match(line)), "no exception")
    return [f"{len(errors)} errors in the log, the first: {errors[0][:200]} ({raised[:200]})"]


def stored_problems(counts: dict[tuple[str, str], int], acknowledged: int) -> list[str]:
    """What the clients were told, against what the database holds."""
    expected = {("user", "completed"): acknowledged, ("assistant", "completed"): acknowledged}
    if counts == expected:
        return []
    found = ", ".join(f"{count} {role} {status}" for (role, status), count in sorted(counts.items()))
    return [f"{acknowledged} turns acknowledged, the database holds {found or 'nothing'}"]


def median(values: Sequence[float]) -> float:
    return statistics.median(values) if values else 0.0

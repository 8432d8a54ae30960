"""Measurements under load: the contestants, the plans, and the runs, each with a check at its end."""

import asyncio
import contextlib
import gc
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from testing import measure
from testing.environment import free_port
from trials.bench import checks, load, sampler, services, streams
from trials.bench.databases import Database
from trials.bench.drip import PAUSE, PIECES
from trials.bench.fill import Filling

UPSTREAM_SECONDS = 2.0
STREAM_SECONDS = PIECES * PAUSE
PREFILL_MESSAGES = 10
WARM_UP_SECONDS = 2.0
DRAIN_SECONDS = 30.0
NONE: Mapping[str, str] = {}


@dataclass(frozen=True)
class Contestant:
    """A service under test. `database` opens a new database for one run; the baseline has none.

    `access`: the options of the client whose key its callers use; `None` where they need none.
    """

    name: str
    database: Callable[[], AbstractContextManager[Database]] | None = None
    stream_path: str = "/chat"
    access: tuple[str, ...] | None = None


BASELINE = Contestant("FastAPI baseline", stream_path="/chat/stream")


@dataclass(frozen=True)
class Plan:
    """One load: clients, duration (seconds), the upstream's delay, and the sessions' messages at the start."""

    name: str
    clients: int
    seconds: float
    delay: float = 0.0
    prefill: int = 0
    streamed: bool = False
    profiled: bool = False

    @property
    def ideal(self) -> float:
        """Turns per second if a turn took only its upstream's time."""
        return self.clients / self.delay


@dataclass
class Run:
    """The result of one run. `problems` is empty if every turn was answered, stored and sent exactly once."""

    contestant: str
    window: load.Window
    usage: measure.Usage
    tally: load.CallCounts
    problems: list[str] = field(default_factory=list)
    profile: sampler.Profile | None = None

    @property
    def cpu_ms_per_turn(self) -> float:
        return self.usage.service * 1000 / max(1, len(self.window.latencies))

    @property
    def database_ms_per_turn(self) -> float:
        return self.usage.database * 1000 / max(1, len(self.window.latencies))

    @property
    def disturbance(self) -> float:
        """The share of the service's core that other processes used."""
        return max(0.0, self.usage.core - self.usage.service) / self.window.seconds


@dataclass(frozen=True)
class Served:
    """A service that runs."""

    port: int
    pid: int
    database: Database | None
    log: Path

    def problems(self) -> list[str]:
        return checks.logged_problems(self.log.read_text(errors="replace"))


class Meter:
    """Reads the usage while the clock ran; this one measures nothing."""

    def begin(self) -> None:
        pass

    def end(self) -> measure.Usage:
        return measure.Usage(0, 0, 0)


class ServiceMeter(Meter):
    def __init__(self, served: Served, core: int, profiled: bool) -> None:
        self.served, self.core, self.profiled = served, core, profiled
        self.before = measure.Usage(0, 0, 0)

    def begin(self) -> None:
        if self.profiled:
            sampler.begin(self._worker)
        self.before = self._usage()

    def end(self) -> measure.Usage:
        used = self._usage().since(self.before)
        if self.profiled:
            sampler.end(self._worker)
        return used

    @property
    def _worker(self) -> int:
        return measure.process_tree(self.served.pid)[-1]

    def _usage(self) -> measure.Usage:
        database = self.served.database
        return measure.usage(self.served.pid, self.core, database.server if database else None)


@dataclass(frozen=True)
class Bench:
    """Shared by all runs."""

    cores: services.Cores
    scratch: Path
    upstream_port: int

    def run(self, plan: Plan, contestant: Contestant) -> Run:
        filling = Filling("prefilled", plan.clients, plan.prefill)
        with contextlib.ExitStack() as stack:
            database = stack.enter_context(contestant.database()) if contestant.database else None
            before = self.prepare(database, filling) if database and plan.prefill else {}
            output = self.scratch / "profile.json" if plan.profiled else None
            key = self.make_key(database, contestant.access) if database and contestant.access is not None else ""
            asking = {"ACCESS_MODE": "keys"} if key else NONE
            with self.serving(database, asking, sampled_to=output) as served:
                run = asyncio.run(self.measure(plan, contestant, served, filling, key))
            run.problems += served.problems()
            if database is not None:
                run.problems += self.gains(database, before, [run.tally])
        run.profile = sampler.read(output) if output else None
        return run

    def prepare(self, database: Database, *fillings: Filling) -> checks.Counts:
        """Create the tables and a scenario's first rows; return the counts in the database."""
        services.migrate(services.bancobot_settings(self.upstream_port, database.url))
        database.fill(*fillings)
        return database.counts()

    def make_key(self, database: Database, options: Sequence[str]) -> str:
        """The key of a new client."""
        settings = services.bancobot_settings(self.upstream_port, database.url)
        services.migrate(settings)
        return services.create_client(settings, options)

    def gains(self, database: Database, before: checks.Counts, told: Sequence[load.CallCounts]) -> list[str]:
        """The problems of the database's new rows."""
        return checks.stored_problems(before, database.counts(), checks.total(told).acknowledged)

    @contextlib.contextmanager
    def serving(
        self, database: Database | None, settings: Mapping[str, str] = NONE, sampled_to: Path | None = None
    ) -> Iterator[Served]:
        """The baseline, or BancoBot on a database."""
        port = free_port()
        if database is None:
            command, env = services.baseline_command(port), services.provider_settings(self.upstream_port)
        else:
            command = services.bancobot_command(port, sampled_to)
            env = {**services.bancobot_settings(self.upstream_port, database.url), **settings}
        log, ready = self.scratch / f"service-{port}.log", f"http://127.0.0.1:{port}/health"
        with services.running(command, env, self.cores.service, ready, log) as process:
            yield Served(port, process.pid, database, log)

    @contextlib.asynccontextmanager
    async def accounted(self, tallies: Sequence[load.CallCounts], problems: list[str]) -> AsyncIterator[None]:
        """Within the block, the clients' answers must agree with the upstream's requests."""
        before = await load.ask_once(self.upstream_port, "GET", "/tally")
        yield
        after = await load.ask_once(self.upstream_port, "GET", "/tally")
        calls, messages = (int(str(after[name])) - int(str(before[name])) for name in ("calls", "messages"))
        problems += checks.told_problems(checks.total(tallies), calls, messages)

    async def pace(self, seconds: float = 0.0, drip: bool = False) -> None:
        await load.ask_once(self.upstream_port, "POST", "/pace", {"seconds": seconds, "drip": drip})

    async def measure(self, plan: Plan, contestant: Contestant, served: Served, filling: Filling, key: str = "") -> Run:
        await self._pace_of(plan)
        clients = await make_clients(plan, contestant, served, filling)
        for client in clients:
            client.key = key
        tally, problems = clients[0].tally, list[str]()
        async with self.accounted([tally], problems):
            meter = ServiceMeter(served, min(self.cores.service), plan.profiled)
            window, used = await drive(clients, plan, meter)
        run = Run(contestant.name, window, used, tally, problems)
        if contestant == BASELINE and not run.problems:
            held = int(str((await load.ask_once(served.port, "GET", "/health"))["messages"]))
            gained = held - filling.sessions * filling.messages
            run.problems += [] if gained == 2 * tally.acknowledged else [f"{gained} messages kept in memory"]
        return run

    async def _pace_of(self, plan: Plan) -> None:
        await self.pace(0.0 if plan.streamed else plan.delay, plan.streamed)

    async def direct(self, plan: Plan) -> load.Window:
        """The load generator against the upstream, nothing in between."""
        await self._pace_of(plan)
        tally = load.CallCounts()
        kind = streams.DirectStreamClient if plan.streamed else load.DirectClient
        clients: list[load.Client] = [kind(self.upstream_port, tally) for _ in range(plan.clients)]
        window, _ = await drive(clients, plan, Meter())
        if problems := checks.told_problems(tally, tally.acknowledged, tally.messages):
            raise RuntimeError(f"The load generator and the upstream alone fail: {problems}")
        return window


@contextlib.contextmanager
def open_bench() -> Iterator[Bench]:
    """The bench with its scratch directory and its upstream. This process leaves the service's core to the service."""
    cores = services.Cores.divide()
    os.sched_setaffinity(0, cores.others)
    allow_many_connections()
    with tempfile.TemporaryDirectory(prefix="bancobot-bench-") as directory:
        scratch, port = Path(directory), free_port()
        command = [sys.executable, "-m", "trials.bench.upstream", "--port", str(port)]
        ready = f"http://127.0.0.1:{port}/v1/models"
        with services.running(command, {}, cores.others, ready, scratch / "upstream.log"):
            yield Bench(cores, scratch, port)


def allow_many_connections() -> None:
    """A turn in flight holds two file descriptors of the service; many systems allow 1,024 by default."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def make_clients(plan: Plan, contestant: Contestant, served: Served, filling: Filling) -> list[load.Client]:
    kind = streams.StreamClient if plan.streamed else load.Client
    path = contestant.stream_path if plan.streamed else "/chat"
    tally = load.CallCounts()
    clients = [kind(served.port, tally, path=path) for _ in range(plan.clients)]
    load.stagger(clients)
    if plan.prefill:
        if served.database is None:
            await fill_baseline(served.port, filling)
        for client, session_id in zip(clients, filling.session_ids, strict=True):
            client.take_up(session_id, plan.prefill)
    return list(clients)


async def fill_baseline(port: int, *fillings: Filling) -> None:
    for filling in fillings:
        body = {"session_ids": filling.session_ids, "conversation": filling.conversation}
        await load.ask_once(port, "POST", "/fill", body)


async def drive(clients: Sequence[load.Client], plan: Plan, meter: Meter) -> tuple[load.Window, measure.Usage]:
    """Lets the clients talk; the clock runs after the warm-up. They start spread evenly over the upstream's delay."""
    tasks = [
        asyncio.create_task(client.talk(plan.delay * number / len(clients))) for number, client in enumerate(clients)
    ]
    gc.collect()
    gc.freeze()
    await asyncio.sleep(max(WARM_UP_SECONDS, 2 * plan.delay))
    meter.begin()
    start = time.monotonic()
    await asyncio.sleep(plan.seconds)
    used, end = meter.end(), time.monotonic()
    await load.finish(clients, tasks, DRAIN_SECONDS)
    gc.unfreeze()
    return clients[0].tally.between(start, end), used


def median(values: Sequence[float]) -> float:
    return statistics.median(values) if values else 0.0

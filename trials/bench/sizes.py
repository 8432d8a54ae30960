"""What a turn costs in long sessions and in large tables.

The machine's speed drifts, so what is compared is measured at the same time: one client goes round the lengths, or
round services on tables of different sizes, and asks each in turn.
"""

import asyncio
import contextlib
import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from trials.bench import load
from trials.bench.databases import Database
from trials.bench.fill import Filling
from trials.bench.scenarios import BASELINE, Bench, Contestant, Served, fill_baseline, median
from trials.bench.wire import request

LENGTHS = (Filling("short", 40, 10), Filling("long", 40, 1_000), Filling("longest", 40, 10_000))
DEFAULT_WINDOW, EQUAL_WINDOW = 100, 10  # HISTORY_MAX_MESSAGES
TABLES = (1_000, 100_000, 1_000_000)  # messages
MINE = Filling("mine", 100, 10)  # the sessions that are talked to and looked at; all tables have these
OTHERS_MESSAGES = 50
POST, LIST, SESSION, MESSAGES = "POST /chat", "GET /sessions", "GET /sessions/{id}", "GET /sessions/{id}/messages"
OPERATIONS = (POST, LIST, SESSION, MESSAGES)
WARM_UP_ROUNDS = 5
MIN_ROUNDS = 20
CLIENTS = 32
BLOCK_SECONDS = 2.0
BLOCKS = 3
T = TypeVar("T")


@dataclass
class Histories:
    """Seconds of each turn by the length of its session. `window`: HISTORY_MAX_MESSAGES, if the service has it."""

    contestant: str
    window: int | None
    latencies: dict[int, list[float]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def middle(self, length: int) -> float:
        return median(self.latencies.get(length, []))

    @property
    def growth(self) -> float:
        """The longest session's turn over the shortest one's; 0 if unknown."""
        shortest = self.middle(LENGTHS[0].messages)
        return self.middle(LENGTHS[-1].messages) / shortest if shortest else 0.0


@dataclass
class Tables:
    """By the table's messages: seconds of each operation, and turns per second with CLIENTS clients, by block."""

    contestant: str
    latencies: dict[int, dict[str, list[float]]] = field(default_factory=dict)
    rates: dict[int, list[float]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def middle(self, size: int, operation: str) -> float:
        return median(self.latencies.get(size, {}).get(operation, []))


def histories(bench: Bench, contestant: Contestant, window: int | None, seconds: float) -> Histories:
    """Turns in sessions of each length in LENGTHS."""
    result = Histories(contestant.name, window)
    with contextlib.ExitStack() as stack:
        database = stack.enter_context(contestant.database()) if contestant.database else None
        before = bench.prepare(database, *LENGTHS) if database else {}
        settings = {} if window is None else {"HISTORY_MAX_MESSAGES": str(window)}
        with bench.serving(database, settings) as served:
            tallies = asyncio.run(_talk_in_turns(bench, served, result, seconds))
        result.problems += served.problems()
        if database is not None:
            result.problems += bench.gains(database, before, tallies)
    return result


async def _talk_in_turns(bench: Bench, served: Served, result: Histories, seconds: float) -> list[load.CallCounts]:
    await bench.pace()
    if served.database is None:
        await fill_baseline(served.port, *LENGTHS)
    talkers = [Talker(served.port, filling, result.window) for filling in LENGTHS]
    tallies = [talker.client.tally for talker in talkers]
    async with bench.accounted(tallies, result.problems):
        for order in orders(talkers, seconds):
            for talker in order:
                await talker.turn()
            if any(tally.failures for tally in tallies):
                break
    for filling, talker in zip(LENGTHS, talkers, strict=True):
        result.latencies[filling.messages] = talker.latencies
        talker.client.disconnect()
    return tallies


def orders(each: Sequence[T], seconds: float) -> Iterator[Sequence[T]]:
    """The order in each round: forwards and backwards, so that none always comes after the same one."""
    end = time.monotonic() + seconds
    for number in itertools.count():
        if number >= MIN_ROUNDS and time.monotonic() >= end:
            return
        yield each if number % 2 == 0 else each[::-1]


class Talker:
    """One client that goes round prefilled sessions, so that none grows much."""

    def __init__(self, port: int, filling: Filling, window: int | None) -> None:
        self.client = load.Client(port, load.CallCounts(), most_sent=window)
        self.held = dict.fromkeys(filling.session_ids, filling.messages)
        self.sessions: Iterator[str] = itertools.cycle(self.held)

    async def turn(self) -> None:
        session_id = next(self.sessions)
        self.client.take_up(session_id, self.held[session_id])
        await self.client.turn()
        self.held[session_id] += 2

    @property
    def latencies(self) -> list[float]:
        return [seconds for _, seconds, _ in self.client.tally.turns[WARM_UP_ROUNDS:]]


def tables(bench: Bench, contestant: Contestant, seconds: float) -> Tables:
    """Common calls on tables of each size in TABLES: a service for each, all up at the same time."""
    result = Tables(contestant.name)
    with contextlib.ExitStack() as stack:
        stored = [stack.enter_context(_filled(bench, contestant, size)) for size in TABLES]
        before = [database.counts() for database in stored]
        with contextlib.ExitStack() as services:
            served = [services.enter_context(bench.serving(database)) for database in stored]
            tallies = asyncio.run(_look_and_talk(bench, served, result, seconds))
        for service in served:
            result.problems += service.problems()
        for database, counts, told in zip(stored, before, tallies, strict=True):
            result.problems += bench.gains(database, counts, told)
    return result


@contextlib.contextmanager
def _filled(bench: Bench, contestant: Contestant, size: int) -> Iterator[Database]:
    assert contestant.database is not None and contestant != BASELINE
    others = (size - MINE.sessions * MINE.messages) // OTHERS_MESSAGES
    with contestant.database() as database:
        bench.prepare(database, *([Filling("others", others, OTHERS_MESSAGES)] if others else []), MINE)
        yield database


async def _look_and_talk(
    bench: Bench, served: Sequence[Served], result: Tables, seconds: float
) -> list[list[load.CallCounts]]:
    """All tallies by service."""
    await bench.pace()
    tallies: list[list[load.CallCounts]] = [[load.CallCounts()] for _ in served]
    result.rates = {size: [] for size in TABLES}
    async with bench.accounted([told[0] for told in tallies], result.problems):
        visitors = [Visitor(service.port, told[0]) for service, told in zip(served, tallies, strict=True)]
        await _look(visitors, seconds)
    result.latencies = {size: visitor.latencies for size, visitor in zip(TABLES, visitors, strict=True)}
    for _ in range(BLOCKS):
        for size, service, told in zip(TABLES, served, tallies, strict=True):
            told.append(load.CallCounts())
            async with bench.accounted(told[-1:], result.problems):
                result.rates[size].append(await _talk(service, told[-1]))
    return tallies


async def _look(visitors: Sequence["Visitor"], seconds: float) -> None:
    for order in orders(visitors, seconds):
        for visitor in order:
            await visitor.visit()
        if any(visitor.talker.client.tally.failures for visitor in visitors):
            break
    for visitor in visitors:
        visitor.leave()


async def _talk(service: Served, tally: load.CallCounts) -> float:
    """Turns per second of CLIENTS clients; the first half second does not count."""
    clients = [load.Client(service.port, tally) for _ in range(CLIENTS)]
    load.stagger(clients)
    tasks = [asyncio.create_task(client.talk()) for client in clients]
    start = time.monotonic() + 0.5
    await asyncio.sleep(0.5 + BLOCK_SECONDS)
    end = time.monotonic()
    await load.finish(clients, tasks, 10)
    return tally.between(start, end).turns_per_second


class Visitor:
    """Takes a turn in a session, then reads the list, that session and its messages."""

    def __init__(self, port: int, tally: load.CallCounts) -> None:
        self.port = port
        self.talker = Talker(port, MINE, DEFAULT_WINDOW)
        self.talker.client.tally = tally
        self.connection: load.Connection | None = None
        self.looks: dict[str, list[float]] = {operation: [] for operation in OPERATIONS[1:]}

    async def visit(self) -> None:
        await self.talker.turn()
        session_id = self.talker.client.session_id
        for operation in OPERATIONS[1:]:
            path = operation.removeprefix("GET ").replace("{id}", session_id or "-")
            self.looks[operation].append(await self._get(path))

    async def _get(self, path: str) -> float:
        start = time.monotonic()
        try:
            if self.connection is None:
                self.connection = await load.Connection.open(self.port)
            answer = await self.connection.ask(request("GET", path))
            if b" 200 " not in answer.first_line:
                raise load.TurnFailed(answer.first_line.decode())
        except (load.TurnFailed, OSError) as error:
            self.talker.client.tally.failures.append(f"GET {path}: {error}")
        return time.monotonic() - start

    def leave(self) -> None:
        self.talker.client.disconnect()
        if self.connection is not None:
            self.connection.close()

    @property
    def latencies(self) -> dict[str, list[float]]:
        looks = {operation: seconds[WARM_UP_ROUNDS:] for operation, seconds in self.looks.items()}
        return {POST: self.talker.latencies, **looks}

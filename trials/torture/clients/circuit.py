"""A provider outage: how fast clients fail, how often the provider is asked, and how soon its return is noticed."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType

from testing import scenarios
from testing.exchange import Request
from testing.service import Service
from testing.upstream import Upstream
from trials.torture.base import Finding, World
from trials.torture.clients.talk import ask, quiet, reply, telling
from trials.torture.clients.wire import PATIENCE, Answer, Client, at_most
from trials.torture.ledger import Ledger, check
from trials.torture.processes import until

CLIENTS = 8
PAUSE_SECONDS = 0.05  # between a client's questions
DOWN_SECONDS = 4.5
FAST_MS, RECOVERY_SECONDS, MAX_CALLS_A_SECOND = 100, 5, 1
BAD_KEYS = 30
REFUSING, HANGING, FAILING = "refuses connections", "takes requests and says nothing", "answers 503"


class Provider:
    """The step's own upstream, which fails in one of three ways and returns at the same address."""

    def __init__(self) -> None:
        self.upstream = Upstream(otherwise=telling())
        self._stack = ExitStack()
        self._before: list[Request] = []  # requests to the closed servers

    def __enter__(self) -> "Provider":
        self._stack.enter_context(self.upstream)
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self._stack.close()

    @property
    def url(self) -> str:
        return self.upstream.url

    @property
    def requests(self) -> list[Request]:
        """All chat completions, over all restarts."""
        return [*self._before, *self.upstream.requests]

    def go(self, how: str) -> None:
        if how == REFUSING:
            self._stack.close()
        else:
            self.upstream.otherwise = scenarios.hang() if how == HANGING else scenarios.status(503)
            self.upstream.models = self.upstream.otherwise

    def come_back(self, how: str) -> None:
        """Answers new requests; hanging ones stay hanging."""
        if how == REFUSING:
            self._before = self.requests
            self.upstream = self._stack.enter_context(Upstream(self.upstream.port, telling()))
        self.upstream.otherwise, self.upstream.models = telling(), scenarios.models()


@dataclass(frozen=True)
class Told:
    """One answer: when it was asked for, when it came (time.monotonic()), and whether it failed without a call."""

    asked_at: float
    came_at: float
    status: int
    fast: bool


@dataclass
class Outage:
    """Clients that keep asking while the provider fails and returns."""

    service: Service
    ledger: Ledger
    how: str
    told: list[Told] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    over: bool = False
    back_at: float = 0.0

    async def run(self, provider: Provider) -> Finding:
        """Normal operation, the outage, and the time until recovery."""
        clients = [asyncio.create_task(self._client()) for _ in range(CLIENTS)]
        await until(lambda: len(self._good_since(0)) > 2 * CLIENTS, PATIENCE)
        provider.go(self.how)
        if await until(lambda: self._open_at < float("inf"), PATIENCE) is None:
            self.problems.append("the circuit did not open")
        await asyncio.sleep(DOWN_SECONDS)
        self.back_at = time.monotonic()
        provider.come_back(self.how)
        await until(lambda: len(self._good_since(self.back_at)) > 3 * CLIENTS, 15)
        self.over = True
        await asyncio.gather(*clients)
        return self._finding(provider.requests)

    async def _client(self) -> None:
        while not self.over:
            asked = self.ledger.ask(f"outage-{len(self.ledger.asked)}")
            began = time.monotonic()
            answer = await ask(Client(self.service.port), asked)
            if answer is None:
                self.problems.append(f"{asked.marker}: no answer")
                return
            self.told.append(Told(began, time.monotonic(), answer.status, self._failed_fast(answer)))
            await asyncio.sleep(PAUSE_SECONDS)

    def _failed_fast(self, answer: Answer) -> bool:
        """Refused by the circuit at once: no turn was made."""
        fast = (answer.status, answer.code) == (503, "provider_unavailable") and "turn_id" not in answer.json
        if fast and int(answer.headers.get("retry-after", "0")) < 1:
            self.problems.append(f"no Retry-After: {answer}")
        return fast

    @property
    def _open_at(self) -> float:
        return min((told.came_at for told in self.told if told.fast), default=float("inf"))

    def _good_since(self, moment: float) -> list[Told]:
        return [told for told in self.told if told.asked_at > moment and told.status == 200]

    def _finding(self, requests: Sequence[Request]) -> Finding:
        opened, back = self._open_at, self.back_at
        during = [told for told in self.told if opened <= told.asked_at and told.came_at < back]
        fast = sorted(1000 * (told.came_at - told.asked_at) for told in during if told.fast)
        first = min((told.came_at for told in self._good_since(back)), default=float("inf"))
        last = max((told.came_at for told in self.told if told.status != 200), default=back)
        calls = sum(opened <= request.received_at < back for request in requests)
        figures: dict[str, int | float | str] = {
            "failed at once": len(fast),
            "p50 (ms)": round(percentile(fast, 0.5), 1),
            "p99 (ms)": round(percentile(fast, 0.99), 1),
            "slowest (ms)": round(percentile(fast, 1.0), 1),
            "let through to try": len(during) - len(fast),
            "calls upstream a second": "uncounted" if self.how == REFUSING else round(calls / DOWN_SECONDS, 2),
            "first good answer after (s)": round(first - back, 2),
            "last refusal after (s)": round(max(0.0, last - back), 2),
        }
        return Finding("11", f"the provider {self.how}", figures, self.problems + missed(figures))


def missed(figures: dict[str, int | float | str]) -> list[str]:
    limits = {
        "p99 (ms)": FAST_MS,
        "calls upstream a second": MAX_CALLS_A_SECOND,
        "first good answer after (s)": RECOVERY_SECONDS,
        "last refusal after (s)": RECOVERY_SECONDS,
    }
    measured = [(name, figures[name], limit) for name, limit in limits.items()]
    return [
        f"{name}: {value}, at most {limit} expected"
        for name, value, limit in measured
        if not isinstance(value, str) and value > limit
    ]


def percentile(ascending: Sequence[float], share: float) -> float:
    return ascending[min(len(ascending) - 1, int(len(ascending) * share))] if ascending else float("inf")


def circuit(world: World) -> Sequence[Finding]:
    """The provider fails in three ways under load; one caller's bad key affects nobody else."""
    ledger = Ledger()
    with Provider() as provider:
        service = world.service(OPENROUTER_BASE_URL=provider.url, UPSTREAM_READ_SECONDS="2")
        found = [asyncio.run(_bad_key(service, ledger, provider))]
        for how in (FAILING, HANGING, REFUSING):
            found.append(asyncio.run(Outage(service, ledger, how).run(provider)))
        world.upstream.requests.extend(provider.requests)
        found[-1].problems.extend(asyncio.run(quiet(service)) + check(ledger, world.upstream, service, reply))
    return found


async def _bad_key(service: Service, ledger: Ledger, provider: Provider) -> Finding:
    """One caller's key is refused again and again; everybody else is served."""
    provider.upstream.script(*[scenarios.status(401)] * BAD_KEYS)
    bad, good = Client(service.port, "sk-bad"), Client(service.port)
    refused = await at_most(1, [ask(bad, ledger.ask(f"bad-{n}")) for n in range(BAD_KEYS)])
    served = await at_most(1, [ask(good, ledger.ask(f"good-{n}")) for n in range(3)])
    problems = [f"expected 401: {one}" for one in refused if one is None or one.code != "provider_auth_failed"]
    problems += [f"somebody else got {one}" for one in served if one is None or one.status != 200]
    figures: dict[str, int | float | str] = {
        "refusals of one key": sum(one is not None and one.status == 401 for one in refused),
        "others served after it": sum(one is not None and one.status == 200 for one in served),
    }
    return Finding("11", "one caller's key is refused", figures, problems)

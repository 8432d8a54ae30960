"""Models that refuse parts of a request by name: how often each is asked, and never again once it accepted."""

import asyncio
import itertools
from collections import defaultdict
from collections.abc import Sequence

from testing import scenarios
from testing.exchange import Exchange, Request
from trials.torture.base import Finding, World
from trials.torture.clients.talk import ask, quiet, telling
from trials.torture.clients.wire import Client
from trials.torture.ledger import Asked, Ledger, check

MAX_CALLS = 1 + 3  # for one turn
ROUNDS = 20
PARAMETERS = ("max_tokens", "max_completion_tokens", "temperature", "stream_options", "session_id")
UNNAMED, BROKEN = "unnamed", "broken"  # refuses and names nothing; accepts what is right, and breaks off

Trial = tuple[Asked, str]  # and the model's name, which says what it refuses: "3.temperature.broken"


async def refusing(exchange: Exchange) -> None:
    """Names the first parameter that the model's own name has."""
    body = exchange.request.body
    wanted = body["model"].split(".")[1:]
    if UNNAMED in wanted:
        await scenarios.status(400, {"error": {"message": "This request is not supported."}})(exchange)
        return
    found = next((name for name in PARAMETERS if name in wanted and name in body), None)
    if found:
        error = {"error": {"message": f"Unsupported parameter: '{found}' is not supported with this model."}}
        await scenarios.status(400, error)(exchange)
        return
    await (scenarios.truncated() if BROKEN in wanted else telling())(exchange)


def refusals(world: World) -> Sequence[Finding]:
    """Each choice of refused parameters, in both forms, twice: the second turn knows what the first one learned."""
    world.upstream.otherwise = refusing
    service, ledger = world.service(), Ledger()
    trials = asyncio.run(_ask_all(Client(service.port), ledger, world.count(ROUNDS)))
    problems = asyncio.run(quiet(service)) + check(ledger, world.upstream, service)
    return [_counted(trials, world.upstream.requests, problems)]


async def _ask_all(client: Client, ledger: Ledger, rounds: int) -> list[Trial]:
    kinds = [".".join(some) for size in (1, 2, 3) for some in itertools.combinations(PARAMETERS, size)]
    kinds += [UNNAMED, f"temperature.{BROKEN}", f"max_tokens.stream_options.{BROKEN}", ".".join(PARAMETERS)]
    trials: list[Trial] = []
    for number in range(rounds):
        pair = [(f"{number}-{kind}", f"{number}.{kind}") for kind in kinds]
        for stream in (False, True):
            asked = [(ledger.ask(session), model) for session, model in pair]
            await asyncio.gather(
                *(ask(client, one, model=model, temperature=0.3, stream=stream) for one, model in asked)
            )
            trials += asked
    return trials


def _counted(trials: Sequence[Trial], requests: Sequence[Request], problems: list[str]) -> Finding:
    calls: dict[str, list[int]] = defaultdict(list)
    for request in requests:
        calls[request.messages[-1]["content"]].append(request.status or 0)
    answered = 0
    for asked, model in trials:
        made = calls[asked.question]
        most = 1 if UNNAMED in model else MAX_CALLS
        answered += asked.told is not None
        if not 1 <= len(made) <= most:
            problems.append(f"{model}: {len(made)} calls, at most {most} are right")
        if any(status != 400 for status in made[:-1]):
            problems.append(f"{model}: asked again after {made}")
        if asked.told is None and not any(kind in model for kind in (UNNAMED, BROKEN, ".".join(PARAMETERS))):
            problems.append(f"{model}: no reply, but {asked.status} {asked.code}")
    figures = {
        "turns": len(trials),
        "answered": answered,
        "calls upstream": sum(map(len, calls.values())),
        "most calls for one turn": max(map(len, calls.values())),
        "asked again after an acceptance": sum(any(status != 400 for status in made[:-1]) for made in calls.values()),
    }
    return Finding("10", "models that refuse parts of a request by name", figures, problems)

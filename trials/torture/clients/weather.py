"""Every fault of a provider: the clients' errors, and the repeated requests."""

import asyncio
import itertools
import socket
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from testing import scenarios
from testing.exchange import Exchange, Request, event
from testing.scenarios import Scenario
from testing.service import Service
from trials.torture.base import Finding, World
from trials.torture.clients.talk import ask, quiet
from trials.torture.clients.wire import Answer, Client
from trials.torture.ledger import Asked, Ledger, check, read_rows

CONNECT_SECONDS, READ_SECONDS, DEADLINE_SECONDS = 0.3, 1.5, 4
SLACK_SECONDS = 3.0  # for a busy machine
FLOOR_SECONDS = 0.1  # between two tries
MAX_CALLS = 3
ONCE_ONLY = {400, 401, 402, 403}
MESSAGE = "the provider's own words"


@dataclass(frozen=True)
class Fault:
    """The upstream's fault, and the code that clients must get; empty if the reply is good.

    `billed`: whether the provider may have charged for it. `calls`: how often it must be asked, in all.
    """

    name: str
    scenarios: tuple[Scenario, ...]
    code: str
    billed: bool = True
    calls: int = 1


def no_http() -> Scenario:
    async def play(exchange: Exchange) -> None:
        await exchange.raw(b"\x16\x03\x01 what is this\r\n\r\n")
        exchange.close()

    return play


def hung_up() -> Scenario:
    async def play(exchange: Exchange) -> None:
        exchange.close()

    return play


def refusal(status: int, code: str, *, billed: bool = False, calls: int = 1, **more: Any) -> Fault:
    return Fault(f"status {status}", (scenarios.status(status, **more),) * calls, code, billed, calls)


def broken(name: str, scenario: Scenario, code: str = "provider_invalid_response") -> Fault:
    return Fault(name, (scenario,), code)


INVALID = {"error": {"code": 400, "message": "This model's maximum context length is 4096 tokens."}}
MODERATED = {"error": {"code": 403, "message": MESSAGE, "metadata": {"reasons": ["violence"]}}}
FAULTS = (
    broken("reset", scenarios.reset(), "provider_unreachable"),
    broken("hung up", hung_up(), "provider_unreachable"),
    broken("reset in mid-stream", scenarios.reset(after="Até aqui")),
    broken("hang", scenarios.hang(), "provider_timeout"),
    broken("hang in mid-stream", scenarios.hang(after="Até aqui"), "provider_timeout"),
    broken("trickle", scenarios.trickle(), "provider_timeout"),
    broken("no HTTP", no_http()),
    broken("bad JSON", scenarios.raw(b"data: {not json}\n\n", scenarios.DONE)),
    broken("bad JSON in mid-stream", scenarios.raw(event({"choices": []}), b"data: {\n\n", scenarios.DONE)),
    broken("unknown shape", scenarios.raw(b'data: {"choices": 7}\n\n', scenarios.DONE)),
    broken("HTML with 200", scenarios.html(200), "provider_error"),
    broken("HTML with 502", scenarios.html(502), "provider_error"),
    broken("truncated stream", scenarios.truncated()),
    broken("truncated connection", scenarios.truncated(clean=False)),
    broken("an end mark alone", scenarios.ok("Metade", finish=None, usage=None)),
    broken("null content", scenarios.null_content()),
    broken("null content in JSON", scenarios.plain_json(None)),
    broken("error 502 in a 200", scenarios.error_in_200(502), "provider_error"),
    broken("error 429 in a 200", scenarios.error_in_200(429), "provider_rate_limited"),
    broken("error in mid-stream", scenarios.error_mid_stream(502), "provider_error"),
    broken("content filter", scenarios.ok("", finish="content_filter"), "content_moderated"),
    refusal(400, "invalid_request"),
    refusal(400, "context_length_exceeded", body=INVALID),
    refusal(401, "provider_auth_failed"),
    refusal(402, "provider_payment_required"),
    refusal(403, "permission_denied"),
    refusal(403, "content_moderated", body=MODERATED),
    refusal(404, "provider_error"),  # a wrong address
    refusal(404, "unsupported_model", body=scenarios.UNKNOWN_MODEL),
    refusal(408, "provider_timeout", billed=True),
    refusal(413, "invalid_request"),
    refusal(422, "invalid_request"),
    refusal(429, "provider_rate_limited", calls=3),
    refusal(429, "provider_rate_limited", headers={"Retry-After": "30"}),
    refusal(500, "provider_error", billed=True),
    refusal(502, "provider_error", billed=True),
    refusal(503, "provider_unavailable", calls=3),
    refusal(524, "provider_timeout", billed=True),
    refusal(529, "provider_unavailable"),
    Fault("missing usage", (scenarios.no_usage(),), ""),
    Fault("keep-alives", (scenarios.comments(),), ""),
    Fault("split characters", (scenarios.split_utf8(),), ""),
    Fault("JSON instead of a stream", (scenarios.plain_json("Olá"),), ""),
    Fault(
        "429, 503, then a reply",
        (scenarios.status(429, headers={"Retry-After": "1"}), scenarios.status(503), scenarios.ok("Olá")),
        "",
        calls=3,
    ),
)


@dataclass
class Trial:
    """One fault for one client, as JSON or as a stream, and its result."""

    fault: Fault
    asked: Asked
    stream: bool
    answer: Answer | None = None
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"{self.fault.name} ({'stream' if self.stream else 'JSON'})"

    async def run(self, service: Service) -> None:
        began = time.monotonic()
        self.answer = await ask(Client(service.port), self.asked, stream=self.stream)
        self.seconds = time.monotonic() - began

    @property
    def told(self) -> dict[str, Any]:
        """The reply or the error object; in a stream that had begun, its last event."""
        if self.answer is None:
            return {}
        return dict(self.answer.events[-1].data) if self.answer.is_stream else self.answer.json

    def judge(self) -> list[str]:
        problems, told, code = [], self.told, self.fault.code
        if told.get("code", "") != code or (not code and "response" not in told):
            problems.append(f"{self.name}: expected {code or 'a reply'}, got {self.answer}")
        elif code and not (told.get("detail") and told.get("request_id") and MESSAGE not in str(told)):
            problems.append(f"{self.name}: not the shape of an error: {told}")
        elif code and told.get("may_have_been_billed") is not self.fault.billed:
            problems.append(f"{self.name}: may_have_been_billed is {told.get('may_have_been_billed')}")
        if self.seconds > DEADLINE_SECONDS + SLACK_SECONDS:
            problems.append(f"{self.name}: took {self.seconds:.1f} s")
        return problems


def faults(world: World) -> Sequence[Finding]:
    """Each fault in both forms, with good turns in between: five failures in a row would open the circuit."""
    service = world.service(
        UPSTREAM_CONNECT_SECONDS=str(CONNECT_SECONDS),
        UPSTREAM_READ_SECONDS=str(READ_SECONDS),
        TURN_DEADLINE_SECONDS=str(DEADLINE_SECONDS),
    )
    ledger = Ledger()
    trials = asyncio.run(_faults(world, service, ledger))
    trials += _unreachable(service, ledger)
    problems = asyncio.run(quiet(service)) + check(ledger, world.upstream, service)
    return [
        _codes(trials, service, problems),
        _retries(trials, world.upstream.requests),
        _resends(trials, world.upstream.requests),
    ]


async def _faults(world: World, service: Service, ledger: Ledger) -> list[Trial]:
    trials = []
    for number, fault in enumerate(FAULTS):
        pair = [Trial(fault, ledger.ask(f"fault-{number}-{form}"), form) for form in (False, True)]
        if fault.calls == 1:
            world.upstream.script(*fault.scenarios * 2)
            await asyncio.gather(*(trial.run(service) for trial in pair))
        for trial in pair if fault.calls > 1 else ():
            world.upstream.script(*fault.scenarios)
            await trial.run(service)
            await _good_turn(service, ledger)
        await _good_turn(service, ledger)
        trials += pair
    return trials


async def _good_turn(service: Service, ledger: Ledger) -> None:
    asked = ledger.ask(f"good-{len(ledger.asked)}")
    await ask(Client(service.port), asked)
    if asked.told is None:
        asked.contradictions.append(f"{asked.marker}: a good turn after a fault got {asked.status} {asked.code}")


def _unreachable(service: Service, ledger: Ledger) -> list[Trial]:
    """A closed port, and one with a full queue: the upstream can't count these calls."""
    trials = []
    for name, code, listening in (("refused", "provider_unreachable", False), ("no room", "provider_timeout", True)):
        with deaf_port(listening) as port:
            service.settings["OPENROUTER_BASE_URL"] = f"http://127.0.0.1:{port}/v1"
            for form in (False, True):
                service.restart()  # with a closed circuit: a turn that can't connect is tried three times
                fault = Fault(name, (), code, billed=False, calls=0)
                trials.append(Trial(fault, ledger.ask(f"{name}-{form}".replace(" ", "-")), form))
                asyncio.run(trials[-1].run(service))
    return trials


@contextmanager
def deaf_port(listening: bool) -> Iterator[int]:
    """A port that refuses connections, or never accepts them."""
    with ExitStack() as stack:
        server = stack.enter_context(socket.socket())
        server.bind(("127.0.0.1", 0))
        if listening:
            server.listen(0)
            for _ in range(4):
                waiting = stack.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex(server.getsockname())
        yield int(server.getsockname()[1])


def _codes(trials: Sequence[Trial], service: Service, problems: list[str]) -> Finding:
    rows = read_rows(service)
    completed = {row.turn_id for row in rows if row.role == "assistant" and row.status == "completed"}
    answered = {row.content for row in rows if row.role == "user" and row.turn_id in completed}
    bad = [trial for trial in trials if trial.fault.code]
    complete = [trial.name for trial in bad if trial.asked.question in answered]
    wrong = [problem for trial in trials for problem in trial.judge()]
    figures = {
        "faults": len({id(trial.fault.scenarios) for trial in bad}),
        "oddities that are no fault": len(trials) // 2 - len({id(trial.fault.scenarios) for trial in bad}),
        "asked": len(trials),
        "not as they should be": len(wrong),
        "incomplete replies called complete": len(complete),
        "slowest answer (s)": round(max(trial.seconds for trial in trials), 1),
        "deadline (s)": DEADLINE_SECONDS,
    }
    return Finding("9", "every fault, as JSON and as a stream", figures, problems + wrong + complete)


def _retries(trials: Sequence[Trial], requests: Sequence[Request]) -> Finding:
    calls, problems, pauses, most, once = _calls(requests), [], [], 0, 0
    for trial in trials:
        made = calls[trial.asked.question]
        most = max(most, len(made))
        once += any(request.status in ONCE_ONLY for request in made)
        if trial.fault.calls != len(made):
            problems.append(f"{trial.name}: {len(made)} calls instead of {trial.fault.calls}")
        for earlier, later in itertools.pairwise(made):
            pauses.append(later.received_at - earlier.received_at)
    if most > MAX_CALLS or min(pauses) < FLOOR_SECONDS:
        problems.append(f"at most {most} calls, at least {min(pauses):.3f} s apart")
    figures = {
        "most calls for one turn": most,
        "turns that were sent again": sum(len(calls[trial.asked.question]) > 1 for trial in trials),
        "shortest pause (s)": round(min(pauses), 2),
        "answered 400, 401, 402 or 403": once,
        "of these sent again": sum(
            len(made) > 1 for made in calls.values() if any(request.status in ONCE_ONLY for request in made)
        ),
    }
    return Finding("10", "the same faults: calls upstream", figures, problems)


def _resends(trials: Sequence[Trial], requests: Sequence[Request]) -> Finding:
    calls = _calls(requests)
    accepted = {question: [r for r in made if r.status not in (429, 503)] for question, made in calls.items()}
    again = [question for question, made in accepted.items() if len(made) > 1]
    billed = [trial for trial in trials if trial.fault.code and trial.fault.billed]
    said = [trial for trial in billed if trial.told.get("may_have_been_billed") is True]
    figures = {
        "questions that the provider had taken on": len(accepted),
        "sent again": len(again),
        "failed turns that may have been billed": len(billed),
        "that say so": len(said),
    }
    problems = [f"sent again: {question}" for question in again]
    problems += [f"does not say that it may have been billed: {trial.name}" for trial in billed if trial not in said]
    return Finding("3", "the same faults: nothing is sent twice", figures, problems)


def _calls(requests: Sequence[Request]) -> dict[str, list[Request]]:
    calls: dict[str, list[Request]] = defaultdict(list)
    for request in requests:
        calls[request.messages[-1]["content"]].append(request)
    return calls

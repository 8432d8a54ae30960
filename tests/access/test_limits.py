"""Limits are exact for any number of processes: of 200 calls at once on two of them, not one is too many."""

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from testing import scenarios
from testing.client import Caller, good, new_id, problem, wait_until
from testing.service import Service
from testing.upstream import Upstream
from tests.conftest import MakeService
from tests.support.keys import Answer, Client, burst, made_up_key, statuses
from tests.support.services import Services

AT_ONCE = 200
# A turn with the message "Oi" reserves 12 tokens for its prompt, and max_tokens; it uses 30 tokens, or 0.0003 USD.
OI: dict[str, Any] = {"message": "Oi"}
TURN: dict[str, Any] = {"message": "Oi", "model": "scripted/small", "max_tokens": 100}
SET_ASIDE, TAKEN = 112, 30
BUDGETS: list[tuple[str, dict[str, Any]]] = [
    ("tokens_per_day", {"tokens_per_day": 1000}),
    ("cost_per_month", {"cost_per_month": Decimal("0.01")}),
]
NO_LIMITS = {"requests_per_minute": 0, "turns_in_flight": 0, "tokens_per_day": 0, "cost_per_month": 0} | {
    "sessions": 0,
    "stored_mb": 0,
}


@pytest.fixture(scope="module")
def workers(services: Services) -> Iterator[list[Service]]:
    """Two processes on one database. Owners without own limits may send ten requests per minute."""
    with services.pair(OWNER_REQUESTS_PER_MINUTE="10") as both:
        yield both


@pytest.fixture
def cheap(upstream: Upstream) -> Upstream:
    """Each reply uses 30 tokens, for 0.0003 USD."""
    upstream.otherwise = scenarios.ok("Olá", usage=scenarios.usage(20, 10, 0.0003))
    return upstream


def limited(workers: list[Service], **limits: Any) -> Client:
    """A client with only these limits."""
    own = {name: str(value) if isinstance(value, Decimal) else value for name, value in (NO_LIMITS | limits).items()}
    return Client(workers[0], **own)


# Requests per minute


def check_headers(answers: list[Answer], limit: int) -> None:
    """The answered requests count down to 0; the refused ones say when to retry."""
    answered = [answer for answer in answers if answer.status != 429]
    refused = [answer for answer in answers if answer.status == 429]
    assert {answer.headers["ratelimit-limit"] for answer in answers} == {str(limit)}
    assert {int(answer.headers["ratelimit-remaining"]) for answer in answered} == set(range(limit))
    assert len(answered) == limit
    for answer in refused:
        reset = int(answer.headers["ratelimit-reset"])
        assert 1 <= reset <= 60
        assert answer.headers["ratelimit-remaining"] == "0"
        assert int(answer.headers["retry-after"]) == reset == answer.body["retry_after"]
        assert (answer.body["code"], answer.body["limit"]) == ("rate_limited", "requests_per_minute")
    assert all(0 <= int(answer.headers["ratelimit-reset"]) <= 60 for answer in answered)


@pytest.mark.parametrize("path", ["/chat", "/sessions"])
@pytest.mark.parametrize("kind", ["client", "provider"])
def test_exactly_so_many_requests_are_answered_in_a_minute(
    workers: list[Service], upstream: Upstream, kind: str, path: str
) -> None:
    client = limited(workers, requests_per_minute=10)
    keys = [client.key().whole, client.key().whole] if kind == "client" else [Caller(workers[0]).key]
    method, body = ("POST", OI) if path == "/chat" else ("GET", None)
    answers = burst(workers, keys * (AT_ONCE // len(keys)), method, path, body=body)
    assert statuses(answers) == {200: 10, 429: AT_ONCE - 10}
    check_headers(answers, 10)
    assert upstream.count == (10 if path == "/chat" else 0)


def test_callers_without_a_key_are_one_and_count_on_all_ways_together(workers: list[Service]) -> None:
    with ThreadPoolExecutor(2) as pool:
        halves = [
            pool.submit(
                burst, workers, [""] * (AT_ONCE // 2), method, path, lambda n: {"X-Forwarded-For": f"10.0.0.{n}"}
            )
            for method, path in (("GET", "/turns/missing"), ("GET", "/api/sessions"))
        ]
        answers = [answer for half in halves for answer in half.result()]
    assert sum(answer.status != 429 for answer in answers) == 10
    check_headers(answers, 10)


def test_who_has_no_limits_is_told_none_and_counted_nowhere(workers: list[Service]) -> None:
    client = limited(workers)
    answers = burst(workers, [client.key().whole] * 50, body=OI)
    assert statuses(answers) == {200: 50}
    assert not any(name.startswith("ratelimit") for answer in answers for name in answer.headers)
    for table, column in (("requestwindow", "counted"), ("account", "owner"), ("reservation", "owner")):
        assert workers[0].sql(f"SELECT * FROM access_{table} WHERE {column} = %s", client.owner) == []


def test_pages_of_other_origins_can_read_the_headers(workers: list[Service]) -> None:
    client = limited(workers, requests_per_minute=1)
    caller = Caller(workers[0], client.key().whole, Origin="http://localhost:5173")
    for status in (200, 429):
        answer = caller.get("/sessions")
        assert answer.status_code == status
        exposed = {name.strip().lower() for name in answer.headers["access-control-expose-headers"].split(",")}
        assert exposed >= {"ratelimit-limit", "ratelimit-remaining", "ratelimit-reset", "retry-after"}


def test_addresses_are_counted_for_who_comes_without_a_good_key(services: Services, upstream: Upstream) -> None:
    """Whatever they make up: BancoBot's keys, provider's keys, or addresses in X-Forwarded-For."""
    with services.own(2, ADDRESS_REQUESTS_PER_MINUTE="10", ACCESS_MODE="keys+byok") as one:
        keys = [made_up_key() if number % 2 else Caller(one).key for number in range(AT_ONCE)]
        answers = burst(
            [one], keys, body=OI, headers=lambda n: {"X-Forwarded-For": f"10.0.{n}.1", "X-Real-IP": f"10.0.{n}.1"}
        )
        assert len([answer for answer in answers if answer.status != 429]) == 10
        assert {answer.status for answer in answers} <= {200, 401, 429}
        assert upstream.count == sum(answer.status == 200 for answer in answers)
        for path in ("/sessions", "/turns/missing"):
            problem(Caller(one).get(path), 429, "rate_limited")
            problem(Caller(one, "").get(path), 429, "rate_limited")
        good(Client(one).caller().get("/sessions"))  # a valid key is not limited by its neighbours


# What is stored


def test_exactly_so_many_sessions_begin(workers: list[Service], upstream: Upstream) -> None:
    client = limited(workers, sessions=7)
    answers = burst(workers, [client.key().whole] * 100, body=OI)
    assert statuses(answers) == {200: 7, 402: 93}
    assert upstream.count == 7
    [[sessions]] = workers[0].sql("SELECT COUNT(*) FROM sessions_api_session WHERE owner = %s", client.owner)
    assert sessions == 7


def test_exactly_so_much_text_is_stored(workers: list[Service], upstream: Upstream) -> None:
    client = limited(workers, stored_mb=1)
    answers = burst(workers, [client.key().whole] * 40, body={"message": "x" * 97_000})
    assert statuses(answers) == {200: 10, 402: 30}  # of 99,000 bytes each, with two rows and a session


def test_who_asks_for_lists_while_another_copies_is_answered(workers: list[Service], upstream: Upstream) -> None:
    greedy, others = limited(workers), [limited(workers) for _ in range(4)]
    session = greedy.caller().chat("x" * 90_000)["session_id"]
    key = greedy.key().whole
    with ThreadPoolExecutor(1) as pool:
        copying = pool.submit(burst, workers, [key] * 60, path=f"/sessions/{session}/fork", body={})
        answers = burst(workers, [other.key().whole for other in others] * 15, "GET", "/sessions")
        assert statuses(copying.result()).keys() <= {201, 429}
    assert statuses(answers) == {200: 60}


def test_an_owner_s_forks_run_one_at_a_time(workers: list[Service], upstream: Upstream) -> None:
    client = limited(workers)
    caller = client.caller()
    session = caller.chat("Oi")["session_id"]
    answers = burst(workers, [client.key().whole for _ in range(2)] * 20, path=f"/sessions/{session}/fork", body={})
    assert statuses(answers).keys() <= {201, 429}
    refused = [answer for answer in answers if answer.status == 429]
    assert all(answer.body["limit"] == "forks_at_once" and answer.headers["retry-after"] == "1" for answer in refused)
    good_ones = len(answers) - len(refused)
    assert good_ones == len(caller.get("/api/sessions").json()["sessions"]) - 1 >= 1
    assert caller.post(f"/sessions/{session}/fork").status_code == 201  # the last one is over


# Turns in flight


def in_background(
    pool: ThreadPoolExecutor, workers: list[Service], key: str, came: list[Answer], body: dict[str, Any]
) -> "Future[list[Answer]]":
    return pool.submit(burst, workers, [key] * AT_ONCE, came=came, body=body)


@pytest.mark.parametrize("stream", [True, False])
def test_exactly_so_many_turns_run_at_once(workers: list[Service], upstream: Upstream, stream: bool) -> None:
    client, gate, came = limited(workers, turns_in_flight=5), threading.Event(), list[Answer]()
    key = client.key().whole
    upstream.otherwise = scenarios.gated(gate, scenarios.ok("Enfim"))
    with ThreadPoolExecutor(1) as pool:
        asking = in_background(pool, workers, key, came, OI | {"stream": stream})
        try:
            wait_until(lambda: upstream.count == 5 and len(came) == AT_ONCE - 5)
        finally:
            gate.set()
        answers = asking.result()
    assert statuses(answers) == {200: 5, 429: AT_ONCE - 5}
    assert upstream.count == 5
    for answer in answers:
        if answer.status == 429:
            assert (answer.body["code"], answer.body["limit"]) == ("rate_limited", "turns_in_flight")
            assert answer.headers["retry-after"] == "1"
            assert (answer.headers["ratelimit-limit"], answer.headers["ratelimit-remaining"]) == ("5", "0")
    sessions = workers[0].sql("SELECT id, message_count FROM sessions_api_session WHERE owner = %s", client.owner)
    assert [count for _, count in sessions] == [2] * 5
    upstream.clear()
    assert statuses(burst(workers, [key] * 5, body=OI)) == {200: 5}  # the turns have ended


def test_a_refusal_tells_of_the_limit_that_refused(workers: list[Service], upstream: Upstream) -> None:
    caller, gate = limited(workers, requests_per_minute=100, turns_in_flight=1).caller(), threading.Event()
    upstream.otherwise = scenarios.gated(gate, scenarios.ok("Enfim"))
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(caller.chat, "Oi")
        upstream.wait_until(lambda: upstream.count == 1)
        refused = caller.post("/chat", message="Oi")
        gate.set()
        assert asking.result()
    assert problem(refused, 429, "rate_limited")["limit"] == "turns_in_flight"
    assert refused.headers["ratelimit-limit"] == "1"


@pytest.mark.parametrize("end", ["cancelled", "erased"])
def test_a_turn_that_is_stopped_makes_room(workers: list[Service], upstream: Upstream, end: str) -> None:
    client, session, gate = limited(workers, turns_in_flight=1), new_id(), threading.Event()
    caller = client.caller()
    upstream.script(scenarios.gated(gate, scenarios.rest("fim"), after="O começo "))
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(caller.post, "/chat", message="Oi", session_id=session)
        wait_until(lambda: "O começo" in caller.get(f"/sessions/{session}/messages").text)
        other = Caller(workers[1], caller.key)
        problem(other.post("/chat", message="Oi"), 429, "rate_limited")
        turn = other.messages(session)[1]["turn_id"]
        if end == "cancelled":
            good(other.post(f"/turns/{turn}/cancel"))
        else:
            good(other.call("DELETE", f"/sessions/{session}?erase=true"))
        wait_until(lambda: other.post("/chat", message="Oi").status_code == 200, 20)
        gate.set()
        asking.result()


# Tokens per day, cost per month


def used(workers: list[Service], client: Client) -> int:
    """The tokens of the client's turns, according to the record."""
    query = "SELECT COALESCE(SUM(prompt_tokens + completion_tokens), 0) FROM sessions_api_session WHERE owner = %s"
    return int(workers[0].sql(query, client.owner)[0][0])


def seconds_left(limit: str) -> float:
    now = datetime.now(UTC)
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    tomorrow, next_month = midnight + timedelta(days=1), (midnight.replace(day=1) + timedelta(days=32)).replace(day=1)
    return ((tomorrow if limit == "tokens_per_day" else next_month) - now).total_seconds()


@pytest.mark.parametrize("limit, limits", BUDGETS)
def test_calls_at_once_cannot_overspend(workers: list[Service], upstream: Upstream, limit: str, limits: Any) -> None:
    """A running turn keeps its reservation; the unused rest is free again when it ends."""
    client, gate, came = limited(workers, **limits), threading.Event(), list[Answer]()
    key = client.key().whole
    upstream.otherwise = scenarios.gated(gate, scenarios.ok("Enfim", usage=scenarios.usage(20, 10, 0.0003)))
    with ThreadPoolExecutor(1) as pool:
        asking = in_background(pool, workers, key, came, TURN)
        try:
            wait_until(lambda: upstream.count == 8 and len(came) == AT_ONCE - 8)
        finally:
            gate.set()
        answers = asking.result()
    assert statuses(answers) == {200: 8, 402: AT_ONCE - 8}  # 8 × 112 tokens fit into 1000
    refused = next(answer for answer in answers if answer.status == 402)
    assert (refused.body["code"], refused.body["limit"]) == ("budget_exhausted", limit)
    assert refused.headers["retry-after"] == "1"  # a running turn may leave something
    more = 0
    while (answer := Caller(workers[more % 2], key).post("/chat", **TURN)).status_code == 200:
        more += 1
    assert 8 + more == 30  # 29 × 30 used and 112 reserved fit, 30 × 30 and 112 do not
    assert used(workers, client) == 30 * TAKEN
    assert problem(answer, 402, "budget_exhausted")["limit"] == limit
    assert abs(int(answer.headers["retry-after"]) - seconds_left(limit)) < 60
    assert answer.headers["ratelimit-limit"] in ("1000", "0.01")
    assert upstream.count == 30


@pytest.mark.parametrize("limit, limits", BUDGETS)
def test_small_turns_at_once_use_the_budget_up_and_no_more(
    workers: list[Service], cheap: Upstream, limit: str, limits: Any
) -> None:
    client = limited(workers, **limits)
    keys = [client.key().whole] * 60
    while 200 in (seen := statuses(burst(workers, keys, body=TURN))):
        assert used(workers, client) == cheap.count * TAKEN <= 1000
    assert seen == {402: len(keys)}
    assert cheap.count == 30


def test_failures_that_cost_nothing_give_back(workers: list[Service], upstream: Upstream) -> None:
    caller = limited(workers, tokens_per_day=SET_ASIDE + 10, turns_in_flight=1).caller()
    for _ in range(3):
        upstream.script(scenarios.status(400))
        problem(caller.post("/chat", **TURN), 400, "invalid_request")
    good(caller.post("/chat", **TURN))


def test_a_repetition_is_answered_without_a_budget_and_costs_nothing(workers: list[Service], cheap: Upstream) -> None:
    client = limited(workers, tokens_per_day=SET_ASIDE + 10, turns_in_flight=1)
    caller, named = client.caller(), {"Idempotency-Key": new_id()}
    first = good(caller.call("POST", "/chat", json=TURN, headers=named))
    problem(caller.post("/chat", **TURN), 402, "budget_exhausted")
    for worker in workers:
        again = Caller(worker, caller.key).call("POST", "/chat", json=TURN, headers=named)
        assert again.headers["idempotent-replayed"] == "true"
        assert good(again) == first
    assert (cheap.count, used(workers, client)) == (1, TAKEN)


def test_what_another_providers_key_costs_counts(workers: list[Service], upstream: Upstream) -> None:
    """OpenRouter names its own fee as the cost, and beside it what the account pays to the other provider."""
    usage = {**scenarios.usage(20, 10, 0), "is_byok": True, "cost_details": {"upstream_inference_cost": 0.0036}}
    upstream.otherwise = scenarios.ok("Olá", usage=usage)
    caller = limited(workers, cost_per_month=Decimal("0.01")).caller()
    assert [caller.post("/chat", **TURN).status_code for _ in range(4)] == [200, 200, 200, 402]


def test_thinking_without_a_reply_is_counted_and_not_held(workers: list[Service], upstream: Upstream) -> None:
    client = limited(workers, tokens_per_day=500)
    upstream.otherwise = scenarios.ok("", finish="length", usage=scenarios.usage(20, 100, 0))
    caller = client.caller()
    problem(caller.post("/chat", **TURN), 502, "provider_invalid_response")
    assert used(workers, client) == 120


def test_a_limit_that_is_changed_counts_within_a_second(workers: list[Service], cheap: Upstream) -> None:
    client = limited(workers, tokens_per_day=10)
    callers = [Caller(worker, client.key().whole) for worker in workers]
    for change, status in (
        ({"tokens_per_day": 1000}, 402),
        ({"tokens_per_day": 20}, 200),
        ({"tokens_per_day": None}, 402),
    ):
        assert {caller.post("/chat", **TURN).status_code for caller in callers} == {status}
        client.set(**change)
        threading.Event().wait(1.05)  # a worker may use the earlier limits for so long
    assert {caller.post("/chat", **TURN).status_code for caller in callers} == {200}


def test_a_killed_process_leaves_no_place_taken_and_nothing_uncounted(
    make_service: MakeService, upstream: Upstream
) -> None:
    service = make_service()
    client, gate = limited([service], turns_in_flight=1, tokens_per_day=1000), threading.Event()
    caller = client.caller()
    upstream.script(scenarios.gated(gate, scenarios.ok("Nie")))
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(caller.post, "/chat", **TURN)
        upstream.wait_until(lambda: upstream.count == 1)
        problem(caller.post("/chat", **TURN), 429, "rate_limited")
        service.kill()
        assert asking.exception() is not None
    gate.set()
    service.start()
    wait_until(lambda: caller.post("/chat", **TURN).status_code == 200, 20)
    used = good(caller.post("/chat", **TURN))["tokens_used"]  # as the turn before, which it counts
    counted = service.sql("SELECT tokens FROM access_account WHERE owner = %s", client.owner)
    assert counted == [(SET_ASIDE + used,)]  # the lost turn's usage is unknown

"""The deadline of a turn: however the provider delays it, the turn ends, and says why."""

import asyncio

import pytest

from testing import scenarios
from testing.client import Caller, new_id, problem
from testing.exchange import Exchange
from testing.upstream import Upstream
from tests.conftest import TUNED
from tests.support.services import Services

AN_HOUR = "3600"  # seconds; so nothing but the deadline can end a turn here


@pytest.fixture
def caller(fronts: Services, upstream: Upstream) -> Caller:
    """Of a service where nothing but the deadline of two seconds can end a turn, on no particular database."""
    return Caller(fronts.shared(**TUNED))


async def headers_without_end(exchange: Exchange) -> None:
    await exchange.raw(b"HTTP/1.1 200 OK\r\n")
    number = 0
    while not exchange.gone:
        await exchange.raw(b"X-Header-%d: later\r\n" % number)
        number += 1
        await asyncio.sleep(0.05)


async def an_error_without_end(exchange: Exchange) -> None:
    await exchange.start(500)
    await exchange.until_gone()


async def text_without_end(exchange: Exchange) -> None:
    await exchange.start_stream()
    while not exchange.gone:
        await exchange.event(scenarios.chunk(exchange, "e "))
        await asyncio.sleep(0.05)


ENDLESS = [
    scenarios.hang(),
    scenarios.hang(after="Até aqui"),
    scenarios.trickle(),
    headers_without_end,
    an_error_without_end,
    text_without_end,
]


@pytest.mark.parametrize("scenario", ENDLESS, ids=lambda scenario: scenario.__qualname__.split(".")[0])
def test_a_provider_without_an_end_is_a_time_out(
    caller: Caller, upstream: Upstream, scenario: scenarios.Scenario
) -> None:
    session = new_id()
    upstream.script(scenario)
    error = problem(caller.post("/chat", message="Oi", session_id=session), 504, "provider_timeout")
    assert error["may_have_been_billed"] is True
    assert caller.messages(session)[1]["status"] == "failed"
    upstream.wait_until(lambda: upstream.closed_early == 1)
    assert upstream.count == 1
    assert caller.chat("E agora?", session_id=session)["response"].endswith(": E agora?")


def test_a_stream_that_is_ended_by_the_deadline_says_so(caller: Caller, upstream: Upstream) -> None:
    session = new_id()
    upstream.script(text_without_end)
    *deltas, last = caller.stream("/chat", message="Oi", session_id=session)[1:]
    assert (last.name, last.data["code"]) == ("error", "provider_timeout")
    text = "".join(delta.data["text"] for delta in deltas)
    assert text.startswith("e e ")
    assert caller.texts(session) == ["Oi", text]

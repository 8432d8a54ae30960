"""Every upstream fault: its stable code, whether it may have been billed, and whether the request is repeated."""

import asyncio
import socket
import sys
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from chat.providers import ChatMessage, Options, ProviderError
from chat.providers.errors import parse_retry_after
from testing import scenarios
from testing.environment import free_port
from testing.exchange import Exchange, event
from testing.upstream import Upstream
from tests.support.replies import ask, collect, list_models, provider_for

WORDS = "the provider's own words"


@pytest.mark.parametrize(
    ("status", "code", "retryable", "billed"),
    [
        (301, "provider_error", False, False),
        (302, "provider_error", False, False),
        (400, "invalid_request", False, False),
        (401, "provider_auth_failed", False, False),
        (402, "provider_payment_required", False, False),
        (403, "permission_denied", False, False),
        (404, "provider_error", False, False),
        (408, "provider_timeout", True, True),
        (409, "provider_error", False, False),
        (413, "invalid_request", False, False),
        (422, "invalid_request", False, False),
        (429, "provider_rate_limited", True, False),
        (500, "provider_error", True, True),
        (502, "provider_error", True, True),
        (503, "provider_unavailable", True, False),
        (524, "provider_timeout", True, True),
        (529, "provider_unavailable", True, False),
    ],
)
def test_a_status_has_its_code(upstream: Upstream, status: int, code: str, retryable: bool, billed: bool) -> None:
    upstream.otherwise = scenarios.status(status, headers={"Location": upstream.url})
    failure = ask(provider_for(upstream)).failure
    assert (failure.code, failure.retryable, failure.may_have_been_billed) == (code, retryable, billed)
    assert WORDS not in f"{failure} {failure.detail}"


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 408, 413, 422, 500, 502, 524, 529, 302])
def test_what_was_refused_or_may_have_been_done_is_not_sent_again(upstream: Upstream, status: int) -> None:
    upstream.otherwise = scenarios.status(status)
    ask(provider_for(upstream))
    assert upstream.count == 1


@pytest.mark.parametrize("status", [429, 503])
def test_what_was_not_accepted_is_sent_again_twice_at_most(upstream: Upstream, status: int) -> None:
    upstream.otherwise = scenarios.status(status)
    ask(provider_for(upstream))
    assert upstream.count == 3


def test_a_retry_can_succeed(upstream: Upstream) -> None:
    upstream.script(scenarios.status(503), scenarios.status(429), scenarios.ok("na terceira"))
    assert ask(provider_for(upstream)).text == "na terceira"


def test_between_attempts_it_waits_at_least_the_floor_and_what_the_provider_asks(upstream: Upstream) -> None:
    upstream.script(scenarios.status(429), scenarios.status(429, headers={"Retry-After": "1"}))
    ask(provider_for(upstream))
    first, second, third = (request.received_at for request in upstream.requests)
    assert second - first >= 0.1
    assert third - second >= 1.0


def test_a_long_retry_after_is_passed_on_instead_of_waited_for(upstream: Upstream) -> None:
    upstream.otherwise = scenarios.status(429, headers={"Retry-After": "30"})
    failure = ask(provider_for(upstream)).failure
    assert (failure.retry_after, upstream.count) == (30.0, 1)


def test_a_model_that_is_not_available_says_when_to_come_back(upstream: Upstream) -> None:
    error = {"error": {"code": 503, "message": WORDS, "availability": {"code": "cold", "retry_after": 20}}}
    upstream.otherwise = scenarios.status(503, error)
    assert ask(provider_for(upstream)).failure.retry_after == 20.0


def test_retry_after_is_seconds_or_a_date_and_nothing_else() -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    assert 50 < (parse_retry_after(soon) or 0) <= 60
    assert parse_retry_after("1.5") == 1.5
    assert parse_retry_after("Wed, 01 Jan 2020 00:00:00 GMT") == 0
    for value in ("-1", "soon", "", None, "nan", "Wed, 99 Jan 2020"):
        assert parse_retry_after(value) is None
    assert parse_retry_after("1e30") == 24 * 3600


@pytest.mark.parametrize(
    "body",
    [
        {
            "error": {
                "message": WORDS,
                "type": "invalid_request_error",
                "param": None,
                "code": "context_length_exceeded",
            }
        },
        {"error": {"message": "This model's maximum context length is 4096 tokens. However, …", "code": 400}},
        {"object": "error", "message": "… maximum context length is 2048 …", "type": "BadRequestError", "code": 400},
        {"error": {"code": 400, "type": "exceed_context_size_error", "message": WORDS, "n_ctx": 512}},
        {
            "error": {
                "code": 400,
                "message": "Provider returned error",
                "metadata": {"raw": "prompt is too long: 9 > 8"},
            }
        },
        {"error": "input exceeds the context window"},
    ],
)
def test_a_history_that_does_not_fit_is_named_so(upstream: Upstream, body: Any) -> None:
    upstream.script(scenarios.status(400, body))
    assert ask(provider_for(upstream)).failure.code == "context_length_exceeded"


def test_a_refusal_that_gives_reasons_is_moderation(upstream: Upstream) -> None:
    metadata = {"reasons": ["violence"], "flagged_input": "text of the user"}
    upstream.script(scenarios.status(403, {"error": {"code": 403, "message": WORDS, "metadata": metadata}}))
    failure = ask(provider_for(upstream)).failure
    assert failure.code == "content_moderated"
    assert "violence" not in str(failure)
    assert "text of the user" not in str(failure)


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({"error": {"message": WORDS, "type": "server_error", "code": None}}, "HTTP 500, server_error"),
        ({"object": "error", "message": WORDS, "type": "InternalError", "code": 500}, "HTTP 500, InternalError, 500"),
        ({"error": WORDS}, "HTTP 500"),
        ({"detail": WORDS}, "HTTP 500"),
        ({"error": {"code": "sk-or-v1-abcdef0123", "type": f"{WORDS} " * 9}}, "HTTP 500"),
        (b"not JSON", "HTTP 500"),
        (b"[" * 100_000, "HTTP 500"),
        (b"", "HTTP 500"),
    ],
)
def test_every_shape_of_error_is_read_and_only_names_and_numbers_are_kept(
    upstream: Upstream, body: Any, detail: str
) -> None:
    upstream.script(scenarios.status(500, body))
    failure = ask(provider_for(upstream)).failure
    assert (failure.code, failure.detail) == ("provider_error", detail)


@pytest.mark.parametrize("status", [200, 400, 403, 404, 500, 502])
def test_an_html_page_is_an_error_of_something_in_between(upstream: Upstream, status: int) -> None:
    upstream.script(scenarios.html(status))
    assert ask(provider_for(upstream)).failure.code == "provider_error"


@pytest.mark.parametrize(("status", "code"), [(429, "provider_rate_limited"), (503, "provider_unavailable")])
def test_an_html_page_whose_status_says_enough_keeps_its_meaning(upstream: Upstream, status: int, code: str) -> None:
    upstream.otherwise = scenarios.html(status)
    assert ask(provider_for(upstream)).failure.code == code


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (502, "provider_error"),
        ("502", "provider_error"),
        (429, "provider_rate_limited"),
        ("429", "provider_rate_limited"),
        ("rate_limit_exceeded", "provider_rate_limited"),
        ("context_length_exceeded", "context_length_exceeded"),
        (402, "provider_payment_required"),
        ("server_error", "provider_error"),
        ("whatever", "provider_error"),
        (None, "provider_error"),
        ([], "provider_error"),
    ],
)
@pytest.mark.parametrize("scenario", [scenarios.error_in_200, scenarios.error_mid_stream])
def test_an_error_inside_a_200_has_the_code_that_it_names(
    upstream: Upstream, scenario: Any, error: Any, code: str
) -> None:
    upstream.script(scenario(error))
    failure = ask(provider_for(upstream)).failure
    assert (failure.code, failure.may_have_been_billed, upstream.count) == (code, True, 1)
    assert WORDS not in str(failure)


def test_text_before_an_error_is_given_before_the_error(upstream: Upstream) -> None:
    upstream.script(scenarios.error_mid_stream(502, "Até aqui"))
    answer = ask(provider_for(upstream))
    assert (answer.text, answer.failure.code) == ("Até aqui", "provider_error")


@pytest.mark.parametrize(
    "said",
    [
        {"object": "error", "message": WORDS, "type": "InternalServerError", "code": 500},
        {"error": WORDS},
        {"choices": [{"delta": {"content": ""}, "finish_reason": "error"}]},
        {"choices": [{"delta": {}, "finish_reason": "error", "error": {"code": 500, "message": WORDS}}]},
    ],
)
def test_other_shapes_of_an_error_in_mid_stream_are_errors(upstream: Upstream, said: Any) -> None:
    upstream.script(scenarios.raw(event(said), scenarios.DONE))
    assert ask(provider_for(upstream)).failure.code == "provider_error"


@pytest.mark.parametrize("clean", [True, False])
def test_a_stream_without_an_end_is_never_a_complete_reply(upstream: Upstream, clean: bool) -> None:
    upstream.script(scenarios.truncated("Uma resposta que", clean=clean))
    answer = ask(provider_for(upstream))
    assert answer.text == "Uma resposta que"
    assert (answer.failure.code, answer.failure.may_have_been_billed) == ("provider_invalid_response", True)


def test_an_end_mark_alone_is_no_end(upstream: Upstream) -> None:
    upstream.script(scenarios.ok("Metade", finish=None, usage=None))
    assert ask(provider_for(upstream)).failure.code == "provider_invalid_response"


def test_an_end_mark_with_counts_is_an_end(upstream: Upstream) -> None:
    upstream.script(scenarios.ok("Inteira", finish=None))
    answer = ask(provider_for(upstream))
    assert (answer.text, answer.last.finish_reason) == ("Inteira", "stop")


def test_ollamas_empty_end_is_no_reply(upstream: Upstream) -> None:
    upstream.script(scenarios.ok("", finish=None, usage=scenarios.usage(0, 0)))
    assert ask(provider_for(upstream)).failure.code == "provider_invalid_response"


def test_a_reply_that_broke_off_after_its_end_is_complete(upstream: Upstream) -> None:
    said = {"choices": [{"delta": {"content": "Inteira"}, "finish_reason": "stop"}]}
    upstream.script(scenarios.raw(event(said), end=False))
    answer = ask(provider_for(upstream))
    assert (answer.text, answer.last.finish_reason, answer.usage.estimated) == ("Inteira", "stop", True)


@pytest.mark.parametrize("scenario", [scenarios.null_content(), scenarios.plain_json(None), scenarios.plain_json("")])
def test_null_content_is_no_reply(upstream: Upstream, scenario: scenarios.Scenario) -> None:
    upstream.script(scenario)
    failure = ask(provider_for(upstream)).failure
    assert (failure.code, failure.may_have_been_billed) == ("provider_invalid_response", True)


def test_null_content_with_a_tool_call_is_a_reply(upstream: Upstream) -> None:
    upstream.script(scenarios.plain_json(None, tool_calls=[{"id": "1", "type": "function", "function": {"name": "f"}}]))
    assert ask(provider_for(upstream)).last.finish_reason == "stop"


@pytest.mark.parametrize(
    "said",
    [
        b"data: {not json}\n\n",
        b"data: 5\n\n",
        b"data: null\n\n",
        b"data: []\n\n",
        b'data: {"choices": 7}\n\n',
        b'data: {"choices": ["a"]}\n\n',
        b'data: {"choices": [{"delta": 5}]}\n\n',
        b'data: {"choices": [{"delta": {"content": 5}}]}\n\n',
        b'data: {"choices": [{"delta": {"content": "a"}, "finish_reason": 7}]}\n\n',
        b'data: {"a": 1} {"b": 2}\n\n',
        b"data: " + b"[" * 50_000 + b"\n\n",
        b'data: {"n": ' + b"9" * 10_000 + b"}\n\n",
    ],
)
def test_what_cannot_be_understood_is_an_invalid_response(upstream: Upstream, said: bytes) -> None:
    upstream.script(scenarios.raw(said, scenarios.DONE))
    assert ask(provider_for(upstream)).failure.code == "provider_invalid_response"


def test_an_endless_line_is_given_up(upstream: Upstream) -> None:
    async def play(exchange: Exchange) -> None:
        await exchange.start_stream()
        while not exchange.gone:
            await exchange.send(b"x" * 1_000_000)

    upstream.script(play)
    failure = ask(provider_for(upstream)).failure
    assert (failure.code, failure.detail) == ("provider_invalid_response", "event too large")


def test_an_answer_that_is_no_http_is_an_invalid_response(upstream: Upstream) -> None:
    async def play(exchange: Exchange) -> None:
        await exchange.raw(b"\x16\x03\x01 what is this\r\n\r\n")
        exchange.close()

    upstream.script(play)
    assert ask(provider_for(upstream)).failure.code == "provider_invalid_response"
    assert upstream.count == 1


def test_a_refused_connection_costs_nothing_and_is_tried_again(upstream: Upstream) -> None:
    failure = ask(provider_for(upstream, base_url=f"http://127.0.0.1:{free_port()}/v1")).failure
    assert (failure.code, failure.retryable, failure.may_have_been_billed) == ("provider_unreachable", True, False)


def test_a_reset_is_unreachable_and_never_sent_again(upstream: Upstream) -> None:
    upstream.otherwise = scenarios.reset()
    failure = ask(provider_for(upstream)).failure
    assert (failure.code, failure.may_have_been_billed, upstream.count) == ("provider_unreachable", True, 1)


def test_a_connection_that_ends_without_an_answer_is_never_sent_again(upstream: Upstream) -> None:
    async def play(exchange: Exchange) -> None:
        exchange.close()

    upstream.otherwise = play
    failure = ask(provider_for(upstream)).failure
    assert (failure.code, failure.may_have_been_billed, upstream.count) == ("provider_unreachable", True, 1)


def test_a_reset_in_mid_stream_keeps_the_text_and_is_never_sent_again(upstream: Upstream) -> None:
    upstream.otherwise = scenarios.reset(after="Até aqui")
    answer = ask(provider_for(upstream))
    assert (answer.text, answer.failure.code, upstream.count) == ("Até aqui", "provider_invalid_response", 1)


@pytest.mark.parametrize("after", [None, "Até aqui"])
def test_silence_is_a_timeout_and_never_sent_again(upstream: Upstream, after: str | None) -> None:
    upstream.otherwise = scenarios.hang(after=after)
    answer = ask(provider_for(upstream, read_timeout=0.2))
    assert (answer.text, answer.failure.code) == (after or "", "provider_timeout")
    assert (answer.failure.may_have_been_billed, upstream.count) == (True, 1)


def test_a_provider_that_takes_no_connection_is_a_timeout_that_costs_nothing(upstream: Upstream) -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for sock in waiting:  # the queue of connections is full now; further ones get no answer
            sock.setblocking(False)
            sock.connect_ex(full.getsockname())
        url = f"http://127.0.0.1:{full.getsockname()[1]}/v1"
        failure = ask(provider_for(upstream, base_url=url, connect_timeout=0.2, retries=1)).failure
        for sock in waiting:
            sock.close()
    assert (failure.code, failure.may_have_been_billed) == ("provider_timeout", False)


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@pytest.mark.skipif(sys.platform != "linux", reason="the socket option and /proc are Linux's")
def test_a_provider_that_does_not_take_the_body_is_a_timeout_and_leaves_no_socket(upstream: Upstream) -> None:
    async def run(url: str) -> ProviderError:
        provider = provider_for(upstream, base_url=url, write_timeout=0.2)
        before = open_files()
        answer = await collect(provider, [ChatMessage("user", "x" * 30_000_000)], Options("m"))
        while open_files() > before:
            await asyncio.sleep(0.01)
        await provider.aclose()
        return answer.failure

    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(5)
        failure = asyncio.run(asyncio.wait_for(run(f"http://127.0.0.1:{deaf.getsockname()[1]}/v1"), 30))
    assert (failure.code, failure.may_have_been_billed) == ("provider_timeout", True)


def test_an_answer_before_the_whole_body_has_gone_is_taken(upstream: Upstream) -> None:
    async def run() -> ProviderError:
        over = asyncio.Event()

        async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            await reader.read()
            writer.close()
            over.set()

        server = await asyncio.start_server(refuse, "127.0.0.1", 0)
        provider = provider_for(upstream, base_url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1")
        answer = await collect(provider, [ChatMessage("user", "x" * 30_000_000)], Options("m"))
        await over.wait()
        await provider.aclose()
        server.close()
        return answer.failure

    assert asyncio.run(run()).code == "invalid_request"


def test_an_error_whose_body_never_comes_is_known_by_its_status(upstream: Upstream) -> None:
    async def play(exchange: Exchange) -> None:
        await exchange.start(402)
        await exchange.until_gone()

    upstream.script(play)
    assert ask(provider_for(upstream, read_timeout=0.2)).failure.code == "provider_payment_required"


def test_a_turn_that_is_cancelled_leaves_no_connection(upstream: Upstream) -> None:
    async def run() -> None:
        provider = provider_for(upstream)
        turn = asyncio.create_task(collect(provider, [ChatMessage("user", "Oi")], Options("m")))
        await asyncio.to_thread(upstream.wait_until, lambda: upstream.count == 1)
        turn.cancel()
        with pytest.raises(asyncio.CancelledError):
            await turn
        await asyncio.to_thread(upstream.wait_until, lambda: upstream.closed_early == 1)
        assert (await collect(provider, [ChatMessage("user", "Oi")], Options("m"))).text == "Eco (1): Oi"
        await provider.aclose()

    upstream.script(scenarios.hang())
    asyncio.run(run())


def test_a_trickle_of_comments_can_be_given_up(upstream: Upstream) -> None:
    async def run() -> None:
        provider = provider_for(upstream)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await collect(provider, [ChatMessage("user", "Oi")], Options("m"))
        await asyncio.to_thread(upstream.wait_until, lambda: upstream.closed_early == 1)
        await provider.aclose()

    upstream.script(scenarios.trickle(0.01))
    asyncio.run(run())


@pytest.mark.parametrize(
    ("scenario", "code"),
    [
        (scenarios.status(401), "provider_auth_failed"),
        (scenarios.html(502), "provider_error"),
        (scenarios.status(200, b"{"), "provider_invalid_response"),
        (scenarios.status(200, {"models": []}), "provider_invalid_response"),
        (scenarios.status(200, b"[" + b" " * 17_000_000 + b"]"), "provider_invalid_response"),
    ],
)
def test_a_list_of_models_that_does_not_come_is_a_provider_error(
    upstream: Upstream, scenario: scenarios.Scenario, code: str
) -> None:
    upstream.models = scenario
    with pytest.raises(ProviderError) as caught:
        list_models(provider_for(upstream))
    assert caught.value.code == code

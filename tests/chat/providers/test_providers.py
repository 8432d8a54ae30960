"""The providers' requests, and how they read a good answer."""

import asyncio
import gzip
import json
import threading
from decimal import Decimal
from typing import Any

import pytest

from chat.providers import PROVIDERS, ChatMessage, Options, Piece, Provider, make_provider
from chat.providers.openai_compatible import OpenAICompatible
from testing import scenarios
from testing.exchange import Exchange, event
from testing.upstream import Upstream
from tests.support.replies import ask, collect, list_models, provider_for


def counted(counts: Any) -> scenarios.Scenario:
    return scenarios.ok("um texto qualquer", usage=counts)


def whole_body(body: bytes, **headers: str) -> scenarios.Scenario:
    async def play(exchange: Exchange) -> None:
        await exchange.answer(200, body, {"Content-Type": "text/event-stream", **headers})

    return play


def test_it_gives_the_text_in_pieces_and_closes_with_what_it_took(upstream: Upstream) -> None:
    upstream.reply("Olá, tudo bem?", usage=scenarios.usage(12, 7, 0.000123))
    answer = ask(provider_for(upstream))
    assert answer.text == "Olá, tudo bem?"
    assert answer.last.finish_reason == "stop"
    assert (answer.last.model, answer.last.provider, answer.last.generation_id) == (
        "scripted/small",
        "Scripted",
        "gen-1",
    )
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (12, 7)
    assert (answer.usage.cached_tokens, answer.usage.reasoning_tokens) == (4, 2)
    assert answer.usage.cost == Decimal("0.000123")
    assert not answer.usage.estimated


def test_the_first_piece_comes_before_the_reply_is_over(upstream: Upstream) -> None:
    async def run() -> str:
        provider = provider_for(upstream)
        stream = provider.stream([ChatMessage("user", "Oi")], Options("m"))
        first = await anext(aiter(stream))
        gate.set()
        rest = [piece.text async for piece in stream]
        await provider.aclose()
        return first.text + "|" + "".join(rest)

    gate = threading.Event()
    upstream.script(scenarios.gated(gate, scenarios.rest("mundo"), after="Olá "))
    assert asyncio.run(run()) == "Olá |mundo"


def test_it_always_asks_for_a_stream_with_usage(upstream: Upstream) -> None:
    ask(provider_for(upstream, "openai"), "Oi", "Olá", "Tudo bem?", model="m1", temperature=0.3, max_tokens=50)
    body = upstream.requests[0].body
    assert body == {
        "model": "m1",
        "messages": [
            {"role": "user", "content": "Oi"},
            {"role": "assistant", "content": "Olá"},
            {"role": "user", "content": "Tudo bem?"},
        ],
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.3,
        "max_tokens": 50,
    }


def test_openrouter_is_told_the_app_and_the_session_and_not_to_cut_the_history(upstream: Upstream) -> None:
    ask(provider_for(upstream, app_url="https://banco.example", app_title="Banco"), session_id="s" * 300)
    request = upstream.requests[0]
    assert request.headers["http-referer"] == "https://banco.example"
    assert request.headers["x-openrouter-title"] == "Banco"
    assert request.body["session_id"] == "s" * 256
    assert request.body["plugins"] == [{"id": "context-compression", "enabled": False}]


def test_openai_itself_gets_the_parameter_that_its_newer_models_want(upstream: Upstream) -> None:
    assert OpenAICompatible(default_model="m").max_tokens_parameter == "max_completion_tokens"
    assert OpenAICompatible(default_model="m", base_url=upstream.url).max_tokens_parameter == "max_tokens"


def test_the_callers_key_takes_the_place_of_the_servers_for_one_request(upstream: Upstream) -> None:
    provider = provider_for(upstream)
    ask(provider, api_key="callers-key")
    ask(provider)
    assert [r.headers["authorization"] for r in upstream.requests] == ["Bearer callers-key", "Bearer server-key"]


def test_without_any_key_there_is_no_authorization(upstream: Upstream) -> None:
    ask(provider_for(upstream, "openai", api_key=""))
    assert "authorization" not in upstream.requests[0].headers


@pytest.mark.parametrize("key", ["a\nb", "a\r\nX-Evil: 1", "a\0b", "chave-ção", "", "a b"])
def test_a_key_that_cannot_be_a_header_is_refused_before_anything_is_sent(upstream: Upstream, key: str) -> None:
    failure = ask(provider_for(upstream), api_key=key).failure
    assert (failure.code, failure.may_have_been_billed) == ("invalid_request", False)
    assert upstream.count == 0


def test_a_servers_key_that_cannot_be_a_header_stops_the_start() -> None:
    with pytest.raises(ValueError, match="key"):
        make_provider("openai", default_model="m", api_key="a\nb")


@pytest.mark.parametrize("url", ["ftp://a", "http://u:p@host/v1", "/v1", "http://host/v1?key=1"])
def test_a_base_url_that_is_none_stops_the_start(url: str) -> None:
    with pytest.raises(ValueError, match="URL"):
        make_provider("openai", default_model="m", base_url=url)


def test_comments_and_keepalives_are_no_text(upstream: Upstream) -> None:
    upstream.script(scenarios.comments("Olá meu mundo"))
    assert ask(provider_for(upstream)).text == "Olá meu mundo"


def test_characters_and_events_may_be_split_over_reads(upstream: Upstream) -> None:
    upstream.script(scenarios.split_utf8("é \u2028\u2029\x85 🙂 você"))
    assert ask(provider_for(upstream)).text == "é \u2028\u2029\x85 🙂 você"


def test_lines_may_end_in_crlf_and_data_may_span_lines(upstream: Upstream) -> None:
    body = (
        b'event: message\r\nid: 7\r\ndata:{"choices":\r\ndata: [{"delta": {"content": "a"},\r\n'
        b'data: "finish_reason": "stop"}]}\r\n\r\ndata: [DONE]\r\n\r\n'
    )
    upstream.script(scenarios.raw(body[:40], body[40:41], body[41:]))
    answer = ask(provider_for(upstream))
    assert (answer.text, answer.last.finish_reason) == ("a", "stop")


def test_a_last_event_without_an_empty_line_counts(upstream: Upstream) -> None:
    upstream.script(scenarios.raw(b'data: {"choices": [{"delta": {"content": "fim"}, "finish_reason": "stop"}]}'))
    assert ask(provider_for(upstream)).text == "fim"


def test_a_plain_completion_is_understood_too(upstream: Upstream) -> None:
    upstream.script(scenarios.plain_json("Resposta inteira"))
    answer = ask(provider_for(upstream))
    assert (answer.text, answer.last.finish_reason, answer.usage.prompt_tokens) == ("Resposta inteira", "stop", 10)


def test_a_compressed_answer_is_understood_too(upstream: Upstream) -> None:
    body = event({"choices": [{"delta": {"content": "compacto"}, "finish_reason": "stop"}]}) + scenarios.DONE
    upstream.script(whole_body(gzip.compress(body), **{"Content-Encoding": "gzip"}))
    assert ask(provider_for(upstream)).text == "compacto"
    assert upstream.requests[0].headers["accept-encoding"] == "identity"


def test_text_that_no_database_takes_is_made_storable(upstream: Upstream) -> None:
    bad = rb'data: {"choices": [{"delta": {"content": "a\u0000b\ud800c"}}]}' + b"\n\n"
    end = rb'data: {"choices": [{"delta": {"content": "d\udc00 \ud83d\ude42"}, "finish_reason": "stop"}]}' + b"\n\n"
    upstream.script(scenarios.raw(bad, end, scenarios.DONE))
    text = ask(provider_for(upstream)).text
    assert text == "a\ufffdb\ufffdcd\ufffd 🙂"
    assert text.encode()


def test_a_character_whose_halves_come_in_two_events_is_put_together(upstream: Upstream) -> None:
    first = rb'data: {"choices": [{"delta": {"content": "a\ud83d"}}]}' + b"\n\n"
    second = rb'data: {"choices": [{"delta": {"content": "\ude42b"}, "finish_reason": "stop"}]}' + b"\n\n"
    upstream.script(scenarios.raw(first, second, scenarios.DONE))
    assert ask(provider_for(upstream)).text == "a🙂b"


def test_a_half_character_at_the_end_is_replaced(upstream: Upstream) -> None:
    only = rb'data: {"choices": [{"delta": {"content": "a\ud83d"}, "finish_reason": "stop"}]}' + b"\n\n"
    upstream.script(scenarios.raw(only, scenarios.DONE))
    assert ask(provider_for(upstream)).text == "a\ufffd"


def test_bytes_that_are_no_utf8_are_replaced(upstream: Upstream) -> None:
    only = b'data: {"choices": [{"delta": {"content": "a\xff"}, "finish_reason": "stop"}]}\n\n'
    upstream.script(scenarios.raw(only, scenarios.DONE))
    assert ask(provider_for(upstream)).text == "a\ufffd"


def test_text_in_parts_is_put_together(upstream: Upstream) -> None:
    parts = [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "Olá"}]
    upstream.script(scenarios.raw(event({"choices": [{"delta": {"content": parts}, "finish_reason": "stop"}]})))
    assert ask(provider_for(upstream)).text == "Olá"


def test_a_call_of_a_tool_needs_no_text(upstream: Upstream) -> None:
    upstream.script(scenarios.ok("", finish="tool_calls"))
    answer = ask(provider_for(upstream))
    assert (answer.text, answer.last.finish_reason) == ("", "tool_calls")


def test_missing_usage_is_estimated_and_marked(upstream: Upstream) -> None:
    upstream.script(scenarios.no_usage("doze letras!"))
    usage = ask(provider_for(upstream), "abcdefgh").usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.cost, usage.estimated) == (2, 3, None, True)


@pytest.mark.parametrize("bad", [-1, 1.5, "12", None, True, 10**12, [], {}, float("nan")])
def test_senseless_counts_are_estimated_and_marked(upstream: Upstream, bad: Any) -> None:
    details = {"cached_tokens": bad}
    upstream.script(counted({"prompt_tokens": bad, "completion_tokens": bad, "prompt_tokens_details": details}))
    usage = ask(provider_for(upstream), "abcd").usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens, usage.estimated) == (1, 5, 0, True)


def test_whole_counts_written_with_a_point_are_counts(upstream: Upstream) -> None:
    upstream.script(counted({"prompt_tokens": 3.0, "completion_tokens": 4}))
    usage = ask(provider_for(upstream)).usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.estimated) == (3, 4, False)


@pytest.mark.parametrize("bad", ["usage", 7, [1], {"prompt_tokens_details": 3, "completion_tokens_details": []}])
def test_usage_of_another_shape_breaks_nothing(upstream: Upstream, bad: Any) -> None:
    upstream.script(counted(bad))
    assert ask(provider_for(upstream)).usage.estimated


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        (0.1, "0.1"),
        ("0.000001", "0.000001"),
        (3, "3"),
        (1e-7, "1E-7"),
        ("1e-20", "0E-12"),
        (None, None),
        (-1, None),
        ("free", None),
        (True, None),
        (float("nan"), None),
        ("NaN", None),
        (1e300, None),
        ({}, None),
    ],
)
def test_the_price_is_exact_or_none(upstream: Upstream, sent: Any, kept: str | None) -> None:
    upstream.script(counted({**scenarios.usage(), "cost": sent}))
    assert ask(provider_for(upstream)).usage.cost == (Decimal(kept) if kept is not None else None)


def test_usage_in_every_chunk_counts_once_and_the_last_holds(upstream: Upstream) -> None:
    def said(text: str, count: int, finish: str | None = None) -> bytes:
        choice = {"delta": {"content": text}, "finish_reason": finish}
        return event({"choices": [choice], "usage": {"prompt_tokens": 2, "completion_tokens": count}})

    upstream.script(scenarios.raw(said("a", 1), said("b", 2), said("c", 3, "stop"), scenarios.DONE))
    answer = ask(provider_for(upstream))
    assert [piece.usage.completion_tokens for piece in answer.pieces if piece.usage] == [3]


def test_labels_from_outside_are_made_storable_and_short(upstream: Upstream) -> None:
    chunk = {
        "id": "g" * 500,
        "model": "m\0",
        "provider": 7,
        "choices": [{"delta": {"content": "a"}, "finish_reason": "stop"}],
    }
    upstream.script(scenarios.raw(event(chunk), scenarios.DONE))
    last = ask(provider_for(upstream)).last
    assert (last.generation_id, last.model, last.provider) == ("g" * 200, "m\ufffd", None)


def test_one_connection_serves_one_request_after_the_other(upstream: Upstream) -> None:
    async def run() -> None:
        provider = provider_for(upstream)
        for _ in range(5):
            await collect(provider, [ChatMessage("user", "Oi")], Options("m"))
        await provider.aclose()

    before = upstream.connections
    asyncio.run(run())
    assert upstream.connections - before == 1


def test_there_is_no_limit_of_a_hundred_connections(upstream: Upstream) -> None:
    async def run() -> None:
        provider = provider_for(upstream)
        turns = [asyncio.create_task(collect(provider, [ChatMessage("user", "Oi")], Options("m"))) for _ in range(150)]
        await asyncio.to_thread(upstream.wait_until, lambda: upstream.count == 150)
        gate.set()
        assert {answer.text for answer in await asyncio.gather(*turns)} == {"pronto"}
        await provider.aclose()

    gate = threading.Event()
    upstream.otherwise = scenarios.gated(gate, scenarios.ok("pronto"))
    asyncio.run(run())


def test_cookies_are_not_carried_from_one_request_to_the_next(upstream: Upstream) -> None:
    async def run() -> None:
        provider = provider_for(upstream)
        for _ in range(2):
            await collect(provider, [ChatMessage("user", "Oi")], Options("m"))
        await provider.aclose()

    upstream.otherwise = scenarios.ok("a", headers={"Set-Cookie": "who=first; Path=/"})
    asyncio.run(run())
    assert "cookie" not in upstream.requests[1].headers


def test_closing_the_iterator_closes_the_connection_upstream(upstream: Upstream) -> None:
    async def run() -> Piece:
        provider = provider_for(upstream)
        stream = provider.stream([ChatMessage("user", "Oi")], Options("m"))
        first = await anext(aiter(stream))
        await stream.aclose()
        await asyncio.to_thread(upstream.wait_until, lambda: upstream.closed_early == 1)
        await provider.aclose()
        return first

    upstream.script(scenarios.hang(after="Olá"))
    assert asyncio.run(run()).text == "Olá"


def test_a_large_history_goes_out_whole(upstream: Upstream) -> None:
    text = "ção" * 400_000
    ask(provider_for(upstream), text)
    assert upstream.requests[0].messages[0]["content"] == text


def test_the_models_are_listed_as_the_provider_shows_them(upstream: Upstream) -> None:
    models = list_models(provider_for(upstream))
    assert [model["id"] for model in models] == ["scripted/small", "scripted/large"]
    assert models[0]["context_length"] == 8192


def test_a_bare_list_of_models_will_do_and_what_has_no_id_is_left_out(upstream: Upstream) -> None:
    upstream.models = scenarios.models([{"id": "a"}, {"id": 7}, {"name": "b"}, "c", {"id": ""}])
    assert list_models(provider_for(upstream)) == [{"id": "a"}]


def test_a_list_of_models_can_be_sent_on(upstream: Upstream) -> None:
    upstream.models = scenarios.status(200, rb'{"data": [{"id": "a", "name": "\ud800x", "price": NaN}]}')
    models = list_models(provider_for(upstream))
    assert json.dumps(models, ensure_ascii=False, allow_nan=False).encode()


def test_every_provider_is_made_by_its_name(upstream: Upstream) -> None:
    assert list(PROVIDERS) == ["openrouter", "openai", "demo"]
    made: list[Provider] = [provider_for(upstream), provider_for(upstream, "openai"), make_provider("demo")]
    assert [provider.name for provider in made] == list(PROVIDERS)

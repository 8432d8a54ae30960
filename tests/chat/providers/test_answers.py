"""What bodies are, when a reply ends and what is its text: recorded shapes, each whatever its header says."""

import asyncio
import json
import threading
from typing import Any

import pytest

from testing import scenarios
from testing.exchange import Exchange, event
from testing.upstream import Upstream
from tests.support.replies import Answer, ask, provider_for

STREAM, JSON = "text/event-stream", "application/json"


def chunk(text: Any = None, finish: Any = None, **more: Any) -> dict[str, Any]:
    delta = {} if text is None else {"content": text}
    return {"model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more}


def whole(text: str | None, finish: Any = "stop", **more: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    return {"model": "m", "choices": [{"index": 0, "message": message, "finish_reason": finish}], **more}


def lines(*documents: Any, before: str = "data: ", between: str = "\n\n") -> bytes:
    texts = [each if isinstance(each, str) else json.dumps(each, ensure_ascii=False) for each in documents]
    return "".join(before + text + between for text in texts).encode()


def sent(body: bytes, content_type: str | None = STREAM, status: int = 200) -> scenarios.Scenario:
    """The whole body with its length."""

    async def play(exchange: Exchange) -> None:
        await exchange.answer(status, body, {"Content-Type": content_type} if content_type else {})

    return play


def answered(upstream: Upstream, scenario: scenarios.Scenario) -> Answer:
    upstream.script(scenario)
    return ask(provider_for(upstream, "openai"))


OLA = chunk("Olá ")
MUNDO = chunk("mundo", "stop")
USED = {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3}}
SSE = lines(OLA, MUNDO, USED, "[DONE]")
GOOD: dict[str, bytes] = {
    "events": SSE,
    "byte order mark": b"\xef\xbb\xbf" + SSE,
    "byte order mark, blank lines": b"\xef\xbb\xbf\r\n\n" + SSE,
    "two byte order marks": b"\xef\xbb\xbf\xef\xbb\xbf" + SSE,
    "byte order marks in between": SSE.replace(b"data:", b"\xef\xbb\xbfdata:"),
    "fields in capitals": SSE.replace(b"data:", b"Data:"),
    "spaces before the field": SSE.replace(b"data:", b"  data :"),
    "a text sequence": b"".join(b"\x1e" + json.dumps(each).encode() + b"\n" for each in (OLA, MUNDO, USED)),
    "texts in parts": lines(
        chunk([{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "Olá"}]),
        chunk([" ", {"text": "mun"}]),
        chunk({"type": "output_text", "text": "do"}, "stop"),
        USED,
    ),
    "carriage returns and newlines": SSE.replace(b"\n", b"\r\n"),
    "carriage returns alone": SSE.replace(b"\n", b"\r"),
    "no space after data": lines(OLA, MUNDO, USED, "[DONE]", before="data:"),
    "a newline between events": lines(OLA, MUNDO, USED, "[DONE]", between="\n"),
    "documents in lines": lines(OLA, MUNDO, USED, before="", between="\n"),
    "documents in lines, with the end mark": lines(OLA, MUNDO, USED, "[DONE]", before="", between="\n"),
    "documents in lines, blank lines between": lines(OLA, MUNDO, USED, before="", between="\r\n\r\n"),
    "documents in lines, byte order mark": b"\xef\xbb\xbf" + lines(OLA, MUNDO, USED, before="", between="\n"),
    "documents without anything between": lines(OLA, MUNDO, USED, before="", between=""),
    "a list of chunks": json.dumps([OLA, MUNDO, USED]).encode(),
    "a list of chunks over lines": json.dumps([OLA, MUNDO, USED], indent=1).encode(),
    "whole": json.dumps(whole("Olá mundo", usage=USED["usage"])).encode(),
    "whole over lines": json.dumps(whole("Olá mundo", usage=USED["usage"]), indent=2).encode(),
    "whole after blank lines": b"\n  \n" + json.dumps(whole("Olá mundo", usage=USED["usage"])).encode() + b"\n",
    "whole with a byte order mark": b"\xef\xbb\xbf" + json.dumps(whole("Olá mundo", usage=USED["usage"])).encode(),
    "whole in an event": lines(whole("Olá mundo", usage=USED["usage"])),
    "whole without a reason": json.dumps(whole("Olá mundo", None, usage=USED["usage"])).encode(),
    "whole in a list": json.dumps([whole("Olá mundo", usage=USED["usage"])]).encode(),
    "keep-alives": b": hi\n\ndata: : keepalive\n\ndata: ping\n\nevent: ping\n\n" + SSE,
    "events with ids and names": SSE.replace(b"data:", b"event: chunk\nid: 5\nretry: 10\ndata:"),
    "an event over lines": b'data: {"choices":\ndata: [{"delta": {"content": "Ol\xc3\xa1 mundo"},\n'
    b'data: "finish_reason": "stop"}],\ndata: "usage": {"prompt_tokens": 7, "completion_tokens": 3}}\n\n',
    "no end mark": lines(OLA, MUNDO, USED),
    "no empty line at the end": lines(OLA, MUNDO, USED).rstrip(),
    "reason in camel case": lines(
        OLA, {"choices": [{"delta": {"content": "mundo"}, "finish_reason": None, "finishReason": "stop"}]}, USED
    ),
    "a null error beside the text": lines(chunk("Olá ", error=None), chunk("mundo", "stop", error=None), USED),
    "the whole text again in a message": lines(
        OLA, chunk("mundo"), {"choices": [{"message": {"content": "Olá mundo"}, "finish_reason": "stop"}]}, USED
    ),
    "the whole text again beside an empty piece": lines(
        OLA,
        chunk("mundo"),
        {"choices": [{"delta": {"content": ""}, "message": {"content": "Olá mundo"}, "finish_reason": "stop"}]},
        USED,
    ),
    "a piece and the whole text in each": lines(
        {"choices": [{"delta": {"content": "Olá "}, "message": {"content": "Olá "}}]},
        {"choices": [{"delta": {"content": "mundo"}, "message": {"content": "Olá mundo"}, "finish_reason": "stop"}]},
        USED,
    ),
    "messages that grow": lines(
        {"choices": [{"message": {"content": "Olá "}}]},
        {"choices": [{"message": {"content": "Olá mundo"}, "finish_reason": "stop"}]},
        USED,
    ),
    "messages as pieces": lines(
        {"choices": [{"message": {"content": "Olá "}}]},
        {"choices": [{"message": {"content": "mundo"}, "finish_reason": "stop"}]},
        USED,
    ),
    "another choice first": lines(
        {"choices": [{"index": 1, "delta": {"content": "Hello "}}]},
        OLA,
        {"choices": [{"index": 1, "delta": {"content": "world"}, "finish_reason": "stop"}]},
        chunk("mundo", "stop"),
        USED,
    ),
    "two choices in a chunk": lines(
        {"choices": [{"index": 1, "delta": {"content": "x"}}, {"index": 0, "delta": {"content": "Olá "}}]},
        {
            "choices": [
                {"index": 1, "delta": {}, "finish_reason": "length"},
                {"index": 0, "delta": {"content": "mundo"}, "finish_reason": "stop"},
            ]
        },
        USED,
    ),
    "two whole choices": json.dumps(
        {
            "choices": [
                {"index": 1, "message": {"content": "Olá"}, "finish_reason": "length"},
                {"index": 0, "message": {"content": "Olá mundo"}, "finish_reason": "stop"},
            ],
            "usage": USED["usage"],
        }
    ).encode(),
    "one choice of another index": lines(
        {"choices": [{"index": 1, "delta": {"content": "Olá "}}]},
        {"choices": [{"index": 1, "delta": {"content": "mundo"}, "finish_reason": "stop"}]},
        USED,
    ),
    "indexes that count the pieces": lines(
        {"choices": [{"index": 1, "delta": {"content": "Olá "}}]},
        {"choices": [{"index": 2, "delta": {"content": "mundo"}, "finish_reason": "stop"}]},
        USED,
        "[DONE]",
    ),
    "no index": lines(
        {"choices": [{"delta": {"content": "Olá "}}]},
        {"choices": [{"delta": {"content": "mundo"}, "finish_reason": "stop"}]},
        USED,
    ),
    "thinking beside the text": lines(
        {"choices": [{"delta": {"reasoning_content": "hm", "reasoning": "hm"}}]}, OLA, MUNDO, USED
    ),
    "a placeholder for the reason": lines(chunk("Olá ", "null"), chunk("mundo", ""), chunk("", "stop"), USED),
    "text behind the end": lines(OLA, MUNDO, chunk("?"), USED),
    "a second reason": lines(OLA, MUNDO, chunk("", "length"), USED),
    "an error behind the end": lines(OLA, MUNDO, USED, {"error": {"code": 500, "message": "late"}}),
    "garbage behind the end": lines(OLA, MUNDO, USED, "{what", "<html>"),
    "counts behind an error behind the end": lines(OLA, MUNDO, {"error": {"code": 500, "message": "late"}}, USED),
}


@pytest.mark.parametrize("content_type", [STREAM, JSON, "text/plain; charset=utf-8", "text/html", None])
@pytest.mark.parametrize("name", GOOD)
def test_the_bytes_decide_what_a_body_is(upstream: Upstream, name: str, content_type: str | None) -> None:
    answer = answered(upstream, sent(GOOD[name], content_type))
    assert (answer.text, answer.error) == ("Olá mundo", None)
    assert answer.last.finish_reason == "stop"
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.estimated) == (7, 3, False)


@pytest.mark.parametrize("name", GOOD)
def test_it_does_not_matter_where_the_network_cuts(upstream: Upstream, name: str) -> None:
    body = GOOD[name]
    answer = answered(upstream, scenarios.raw(*(body[at : at + 3] for at in range(0, len(body), 3)), pause=0))
    assert (answer.text, answer.last.finish_reason, answer.usage.completion_tokens) == ("Olá mundo", "stop", 3)


@pytest.mark.parametrize("status", [200, 201, 202, 203, 206, 299])
def test_any_2xx_is_an_answer(upstream: Upstream, status: int) -> None:
    assert answered(upstream, sent(SSE, status=status)).text == "Olá mundo"


PROBLEM = {"code": 429, "message": "slow down", "type": "rate_limit_error"}
FAILED: dict[str, tuple[bytes, str]] = {
    "an error in a line": (b'error: {"code": 429, "message": "slow down"}\n\n', "provider_rate_limited"),
    "an error event": (b'event: error\ndata: {"code": 429, "message": "slow down"}\n\n', "provider_rate_limited"),
    "an error event named last": (b'data: {"code": 429, "message": "x"}\nevent: error\n\n', "provider_rate_limited"),
    "an error event of words": (b"event: error\ndata: something broke\n\n", "provider_error"),
    "an error event without data": (b"event: error\ndata: null\n\n", "provider_error"),
    "nested": (json.dumps({"error": PROBLEM}).encode(), "provider_rate_limited"),
    "nested, in an event": (lines({"error": PROBLEM}), "provider_rate_limited"),
    "nested, in a line of an event stream": (
        b": hi\n\n" + json.dumps({"error": PROBLEM}).encode(),
        "provider_rate_limited",
    ),
    "nested, over lines of an event stream": (
        b": hi\n\n" + json.dumps({"error": PROBLEM}, indent=1).encode(),
        "provider_rate_limited",
    ),
    "a list of one": (json.dumps([{"error": PROBLEM}], indent=2).encode(), "provider_rate_limited"),
    "a list of one, in an event": (lines([{"error": PROBLEM}]), "provider_rate_limited"),
    "text, then an error in a line": (lines(OLA) + b'error: {"code": 503, "message": "x"}\n\n', "provider_unavailable"),
    "text, then a bare error": (
        lines(OLA) + json.dumps({"error": PROBLEM}).encode() + b"\n",
        "provider_rate_limited",
    ),
    "a page": (b"<!DOCTYPE html><html><body>Bad gateway</body></html>", "provider_error"),
    "a page after blank lines": (b"\xef\xbb\xbf\r\n <html></html>", "provider_error"),
    "nothing": (b"", "provider_invalid_response"),
    "a mark alone": (b"\xef\xbb\xbf", "provider_invalid_response"),
    "words": (b"Service temporarily down", "provider_invalid_response"),
    "half a document": (json.dumps(whole("Olá mundo")).encode()[:-9], "provider_invalid_response"),
    "half a document over lines": (
        json.dumps(whole("Olá mundo"), indent=1).encode()[:-9],
        "provider_invalid_response",
    ),
    "pieces in lines without an end": (
        lines(OLA, chunk("mundo"), before="", between="\n"),
        "provider_invalid_response",
    ),
    "one piece without an end": (json.dumps(OLA).encode(), "provider_invalid_response"),
    "a placeholder, then a cut": (lines(OLA, chunk("mundo", "null")), "provider_invalid_response"),
    "another choice ends, the first is cut": (
        lines(OLA, {"choices": [{"index": 1, "delta": {"content": "x"}, "finish_reason": "stop"}]}),
        "provider_invalid_response",
    ),
}


@pytest.mark.parametrize("content_type", [STREAM, JSON, None])
@pytest.mark.parametrize("name", FAILED)
def test_a_body_that_is_no_reply_has_its_code(upstream: Upstream, name: str, content_type: str | None) -> None:
    body, code = FAILED[name]
    answer = answered(upstream, sent(body, content_type))
    assert (answer.failure.code, answer.failure.may_have_been_billed, upstream.count) == (code, True, 1)
    assert answer.text.startswith("Olá" if body.startswith(lines(OLA)) else "")


PLACEHOLDERS = ["null", "None", "NULL", "", " ", "unspecified", "FINISH_REASON_UNSPECIFIED"]


@pytest.mark.parametrize("reason", PLACEHOLDERS)
@pytest.mark.parametrize("end", [b"", b"data: [DONE]\n\n"])
def test_a_placeholder_is_no_end(upstream: Upstream, reason: str, end: bytes) -> None:
    answer = answered(upstream, sent(lines(OLA, chunk("mundo", reason)) + end))
    assert (answer.text, answer.failure.code) == ("Olá mundo", "provider_invalid_response")


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ("error", "provider_error"),
        ("insufficient_system_resource", "provider_unavailable"),
        ("network_error", "provider_error"),
        ("abort", "provider_error"),
        ("ABORTED", "provider_error"),
        ("cancelled", "provider_error"),
        ("MALFORMED_FUNCTION_CALL", "provider_error"),
        ("engine_overloaded", "provider_unavailable"),
        ("timeout", "provider_timeout"),
    ],
)
@pytest.mark.parametrize("form", ["stream", "whole", "reason in its own chunk"])
def test_a_broken_reply_fails_with_its_text_and_its_counts(
    upstream: Upstream, form: str, reason: str, code: str
) -> None:
    bodies = {
        "stream": lines(OLA, chunk("mundo", reason), USED, "[DONE]"),
        "whole": json.dumps(whole("Olá mundo", reason, usage=USED["usage"])).encode(),
        "reason in its own chunk": lines(OLA, chunk("mundo"), chunk(None, reason), USED, "[DONE]"),
    }
    answer = answered(upstream, sent(bodies[form]))
    assert (answer.text, answer.failure.code, answer.failure.may_have_been_billed) == ("Olá mundo", code, True)
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (7, 3)


@pytest.mark.parametrize(
    "reason",
    [
        "stop",
        "STOP",
        "length",
        "max_tokens",
        "MAX_TOKENS",
        "end_turn",
        "eos",
        "stop_sequence",
        "content_filter",
        "SAFETY",
        "model_length",
        "tool_calls",
        "OTHER",
        "something_new",
        "eos-token.2",
    ],
)
def test_other_reasons_complete_a_reply_and_are_kept(upstream: Upstream, reason: str) -> None:
    answer = answered(upstream, sent(lines(OLA, chunk("mundo", reason))))
    assert (answer.text, answer.last.finish_reason, answer.error) == ("Olá mundo", reason, None)


@pytest.mark.parametrize("reason", ["no spaces here", "x" * 51, "não", "<b>", "1"])
def test_a_reason_that_is_no_name_is_another(upstream: Upstream, reason: str) -> None:
    assert answered(upstream, sent(lines(OLA, chunk("mundo", reason)))).last.finish_reason == "other"


@pytest.mark.parametrize(
    ("reason", "code", "kept"),
    [
        ("length", "provider_invalid_response", "length"),
        ("MAX_TOKENS", "provider_invalid_response", "length"),
        ("stop", "provider_invalid_response", None),
        ("content_filter", "content_moderated", None),
        ("PROHIBITED_CONTENT", "content_moderated", None),
        ("sensitive", "content_moderated", None),
    ],
)
@pytest.mark.parametrize("form", ["stream", "whole"])
def test_a_reply_without_text_fails_with_its_counts(
    upstream: Upstream, form: str, reason: str, code: str, kept: str | None
) -> None:
    used = {"prompt_tokens": 9, "completion_tokens": 50, "cost": 0.002}
    body = lines(chunk("", reason), {"choices": [], "usage": used}, "[DONE]")
    body = json.dumps(whole(None, reason, usage=used)).encode() if form == "whole" else body
    answer = answered(upstream, sent(body))
    assert (answer.failure.code, answer.failure.finish_reason) == (code, kept)
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, str(answer.usage.cost)) == (9, 50, "0.002")


def endless(*before: Any, then: bytes) -> scenarios.Scenario:
    async def play(exchange: Exchange) -> None:
        await exchange.start_stream()
        await exchange.send(lines(*before))
        while not exchange.gone:
            await exchange.send(then)
            await asyncio.sleep(0.02)

    return play


@pytest.mark.parametrize("then", [b": ping\n\n", lines(chunk("mais")), b"data: {what\n\n", b"x" * 100_000])
def test_a_complete_reply_waits_for_counts_and_no_longer(upstream: Upstream, then: bytes) -> None:
    answer = answered(upstream, endless(OLA, MUNDO, USED, then=then))
    assert (answer.text, answer.last.finish_reason, answer.usage.completion_tokens) == ("Olá mundo", "stop", 3)
    upstream.wait_until(lambda: upstream.closed_early == 1)


def test_counts_that_come_a_moment_later_stand(upstream: Upstream) -> None:
    gate = threading.Event()

    async def play(exchange: Exchange) -> None:
        await exchange.start_stream()
        await exchange.send(lines(OLA, MUNDO))
        await asyncio.sleep(0.1)
        await exchange.send(event(USED))
        gate.set()
        await exchange.until_gone()

    answer = answered(upstream, play)
    assert gate.is_set()
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.estimated) == (7, 3, False)


def test_a_reset_behind_the_end_changes_nothing(upstream: Upstream) -> None:
    async def play(exchange: Exchange) -> None:
        await exchange.start_stream()
        await exchange.send(lines(OLA, MUNDO, USED))
        await asyncio.sleep(0.05)
        exchange.reset()

    answer = answered(upstream, play)
    assert (answer.text, answer.last.finish_reason, answer.usage.completion_tokens) == ("Olá mundo", "stop", 3)

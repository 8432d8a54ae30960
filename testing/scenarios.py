"""Scenarios of the scripted upstream. Each function returns one, which answers one request."""

import asyncio
import json
import re
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from testing.exchange import Exchange, event

Scenario = Callable[[Exchange], Awaitable[None]]
DONE = b"data: [DONE]\n\n"
DEFAULT = object()
UNKNOWN_MODEL = {"error": {"code": "model_not_found", "message": "The model does not exist."}}


def chunk(exchange: Exchange, text: str | None = "", finish: str | None = None, **more: Any) -> dict[str, Any]:
    """One chunk of a completion, as OpenRouter sends it."""
    return {
        "id": f"gen-{exchange.number}",
        "provider": "Scripted",
        "model": exchange.request.body.get("model", "scripted"),
        "object": "chat.completion.chunk",
        "created": 1767225600,
        "choices": [{"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": finish}],
        **more,
    }


def usage(prompt: int = 10, completion: int = 5, cost: Any = 0.00015) -> dict[str, Any]:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "cost": cost,
        "is_byok": False,
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }


def ok(
    text: str,
    *,
    pieces: Sequence[str] | None = None,
    delay: float = 0.0,
    interval: float = 0.0,
    usage: Any = DEFAULT,
    finish: str | None = "stop",
    headers: dict[str, str] | None = None,
    done: bool = True,
) -> Scenario:
    """A good reply: `text` in words, or in `pieces`; seconds of `delay` before and `interval` between them."""

    async def play(exchange: Exchange) -> None:
        await asyncio.sleep(delay)
        await exchange.start_stream({"X-Generation-Id": f"gen-{exchange.number}", **(headers or {})})
        await stream_text(exchange, pieces if pieces is not None else words(text), interval)
        await close_stream(exchange, usage, finish, done)

    return play


def echo(delay: float = 0.0) -> Scenario:
    """Echoes the last user message and the number of messages, which shows the history's length."""

    async def play(exchange: Exchange) -> None:
        messages = exchange.request.messages
        last = next((m["content"] for m in reversed(messages) if m["role"] == "user"), "")
        await ok(f"Eco ({len(messages)}): {last}", delay=delay)(exchange)

    return play


def words(text: str) -> list[str]:
    return re.split(r"(?<= )", text)


async def stream_text(exchange: Exchange, pieces: Sequence[str], interval: float = 0.0) -> None:
    if not interval:
        await exchange.send(b"".join(event(chunk(exchange, piece)) for piece in pieces))
        return
    for piece in pieces:
        await exchange.event(chunk(exchange, piece))
        await asyncio.sleep(interval)


async def close_stream(
    exchange: Exchange, counts: Any = DEFAULT, finish: str | None = "stop", done: bool = True
) -> None:
    tail = event(chunk(exchange, "", finish))
    if counts is DEFAULT:
        messages = exchange.request.messages
        counts = usage(prompt=10 * len(messages), completion=5)
    if counts is not None:
        tail += event(chunk(exchange, usage=counts, choices=[]))
    await exchange.send(tail + (DONE if done else b""))
    await exchange.end()


def status(code: int, body: Any = None, headers: dict[str, str] | None = None) -> Scenario:
    """An error; without `body`, in OpenRouter's form."""

    async def play(exchange: Exchange) -> None:
        said = body if body is not None else {"error": {"code": code, "message": "the provider's own words"}}
        data = said if isinstance(said, bytes) else json.dumps(said).encode()
        await exchange.answer(code, data, {"Content-Type": "application/json", **(headers or {})})

    return play


def html(code: int = 502) -> Scenario:
    """An HTML page from a proxy."""
    page = b"<html><body><h1>Bad Gateway</h1></body></html>"
    return status(code, page, {"Content-Type": "text/html; charset=utf-8"})


def raw(*parts: bytes, pause: float = 0.005, headers: dict[str, str] | None = None, end: bool = True) -> Scenario:
    """A 200 event stream of exactly these bytes, a packet for each part; `pause` seconds keep the packets apart."""

    async def play(exchange: Exchange) -> None:
        await exchange.start_stream(headers)
        for part in parts:
            await exchange.send(part)
            await asyncio.sleep(pause)
        if end:
            await exchange.end()
        else:
            exchange.close()

    return play


def truncated(text: str = "Uma resposta que", *, clean: bool = True) -> Scenario:
    """Text without an end: the body ends (`clean`), or the connection does."""

    async def play(exchange: Exchange) -> None:
        await exchange.start_stream()
        await stream_text(exchange, words(text))
        if clean:
            await exchange.end()
        else:
            exchange.close()

    return play


def error_in_200(code: Any = 502, message: str = "the provider's own words", **more: Any) -> Scenario:
    """An error as JSON with status 200."""
    return status(200, {"error": {"code": code, "message": message, **more}})


def error_mid_stream(code: Any = 502, text: str = "Até aqui", **more: Any) -> Scenario:
    async def play(exchange: Exchange) -> None:
        await exchange.start_stream()
        await stream_text(exchange, words(text))
        error = {"code": code, "message": "the provider's own words", **more}
        await exchange.event(chunk(exchange, "", "error", error=error))
        await exchange.end()

    return play


def plain_json(content: str | None = "Olá", **message: Any) -> Scenario:
    """A whole completion although a stream was asked for."""

    async def play(exchange: Exchange) -> None:
        choice = {"index": 0, "message": {"role": "assistant", "content": content, **message}, "finish_reason": "stop"}
        body = chunk(exchange, object="chat.completion", choices=[choice], usage=usage())
        await exchange.answer(200, json.dumps(body).encode(), {"Content-Type": "application/json"})

    return play


def null_content() -> Scenario:
    """A complete reply without text."""

    async def play(exchange: Exchange) -> None:
        await exchange.start_stream()
        await exchange.event(chunk(exchange, None))
        await close_stream(exchange)

    return play


def no_usage(text: str = "Sem contagem") -> Scenario:
    return ok(text, usage=None)


def comments(text: str = "Olá mundo") -> Scenario:
    """Keep-alives of all kinds between the pieces."""

    async def play(exchange: Exchange) -> None:
        await exchange.start_stream()
        for word in words(text):
            await exchange.send(b": OPENROUTER PROCESSING\n\ndata: : keepalive\n\ndata:\n\n\n")
            await exchange.event(chunk(exchange, word))
        await close_stream(exchange)

    return play


def split_utf8(text: str = "Olá, às 10h: é só você \u2028 e 🙂") -> Scenario:
    """Every byte in a packet of its own."""

    async def play(exchange: Exchange) -> None:
        await exchange.start_stream()
        for byte in event(chunk(exchange, text)):
            await exchange.send(bytes([byte]))
            await asyncio.sleep(0)
        await close_stream(exchange)

    return play


def trickle(interval: float = 0.05) -> Scenario:
    """Only comments, until the client leaves."""

    async def play(exchange: Exchange) -> None:
        await exchange.start_stream()
        while not exchange.gone:
            await exchange.send(b": still thinking\n\n")
            await asyncio.sleep(interval)

    return play


def hang(*, after: str | None = None) -> Scenario:
    """Nothing, or nothing more `after` some text, until the client leaves."""

    async def play(exchange: Exchange) -> None:
        if after is not None:
            await exchange.start_stream()
            await stream_text(exchange, words(after))
        await exchange.until_gone()

    return play


def reset(*, after: str | None = None) -> Scenario:
    """An RST instead of an answer, or `after` some text."""

    async def play(exchange: Exchange) -> None:
        if after is not None:
            await exchange.start_stream()
            await stream_text(exchange, words(after))
            await asyncio.sleep(0.05)  # an RST discards data that the other side has not read yet
        exchange.reset()

    return play


def gated(gate: threading.Event, then: Scenario, *, after: str | None = None) -> Scenario:
    """Sends `after`, waits until the test opens `gate`, then continues with `then` (or ends the text)."""

    async def play(exchange: Exchange) -> None:
        if after is None:
            await exchange.until(gate)
            await then(exchange)
            return
        await exchange.start_stream()
        await stream_text(exchange, words(after))
        await exchange.until(gate)
        await then(exchange)

    return play


def rest(text: str = "") -> Scenario:
    """The rest of a stream, with which `gated(…, after=…)` continues."""

    async def play(exchange: Exchange) -> None:
        await stream_text(exchange, words(text))
        await close_stream(exchange)

    return play


def models(listed: Any = DEFAULT) -> Scenario:
    """The list of models, in OpenRouter's form."""
    return status(
        200, {"data": [model("scripted/small"), model("scripted/large", 128000)]} if listed is DEFAULT else listed
    )


def model(name: str, context_length: int | None = 8192) -> dict[str, Any]:
    return {
        "id": name,
        "canonical_slug": name,
        "name": name.title(),
        "created": 1767225600,
        "description": "A scripted model.",
        "context_length": context_length,
        "architecture": {"input_modalities": ["text"], "output_modalities": ["text"], "tokenizer": "Other"},
        "pricing": {"prompt": "0.00001", "completion": "0.00001", "request": "0", "image": "0"},
        "top_provider": {"context_length": context_length, "max_completion_tokens": 1024, "is_moderated": False},
        "supported_parameters": ["max_tokens", "temperature"],
    }


def by_model(answers: Mapping[str, Scenario], otherwise: Scenario | None = None) -> Scenario:
    """Each model's own answer; without `otherwise`, one that is not named is unknown."""

    async def play(exchange: Exchange) -> None:
        scenario = answers.get(exchange.request.body.get("model", ""), otherwise or status(404, UNKNOWN_MODEL))
        await scenario(exchange)

    return play

"""The LLM of the benchmark: answers the OpenAI protocol at once, after a delay or piece by piece, and counts its calls.

`python -m trials.bench.upstream --port N`. Besides `/v1/chat/completions` (JSON, or the whole event stream in one
write) and `/v1/models` it has `GET /tally` (what it has seen so far) and `POST /pace` (from the next call on):
`{"seconds": 2}` to answer after two seconds, `{"drip": true}` to stream piece by piece (drip.py).
"""

import argparse
import asyncio
import contextlib
import gc
import json
from typing import Any

from trials.bench.drip import SAMPLE, Drip
from trials.bench.wire import HttpMessage, Reader, answer, chunk

MODEL = "bench/model"
PIECES = (
    "O limite ",
    "do Pix à noite ",
    "é de mil reais; ",
    "você pode pedir ",
    "um limite maior ",
    "no aplicativo, ",
    "em Configurações, ",
    "e ele passa ",
    "a valer depois de ",
    "vinte e quatro horas.",
)
REPLY = "".join(PIECES)
USAGE = {"prompt_tokens": 420, "completion_tokens": 48, "total_tokens": 468, "cost": 0.000123}
HEAD = {"id": "gen-bench", "model": MODEL, "provider": "bench", "created": 1735689600}


def _choice(**content: Any) -> list[dict[str, Any]]:
    return [{"index": 0, "finish_reason": None, **content}]


def _chunk(choices: list[dict[str, Any]], **more: Any) -> bytes:
    chunk = {**HEAD, "object": "chat.completion.chunk", "choices": choices, **more}
    return b"data: " + json.dumps(chunk, ensure_ascii=False).encode() + b"\n\n"


def _piece(text: str) -> bytes:
    return _chunk(_choice(delta={"role": "assistant", "content": text}))


def _end() -> bytes:
    end = _chunk(_choice(delta={"content": ""}, finish_reason="stop"))
    return end + _chunk([], usage=USAGE) + b"data: [DONE]\n\n"


def _drip() -> Drip:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    return Drip(head, _piece(SAMPLE.decode()), chunk(_end()) + chunk(b""))


def _completion() -> bytes:
    choices = _choice(message={"role": "assistant", "content": REPLY}, finish_reason="stop")
    completion = {**HEAD, "object": "chat.completion", "choices": choices, "usage": USAGE}
    return json.dumps(completion, ensure_ascii=False).encode()


def _models() -> bytes:
    model = {
        "id": MODEL,
        "canonical_slug": MODEL,
        "name": "Bench",
        "created": 1735689600,
        "description": "",
        "context_length": 128_000,
        "architecture": {"input_modalities": ["text"], "output_modalities": ["text"], "tokenizer": "Other"},
        "pricing": {"prompt": "0.0000001", "completion": "0.0000004"},
        "top_provider": {"context_length": 128_000, "max_completion_tokens": 16_384, "is_moderated": False},
        "supported_parameters": ["temperature", "max_tokens"],
    }
    return json.dumps({"data": [model]}).encode()


STREAM = answer(b"".join(map(_piece, PIECES)) + _end(), "text/event-stream")
COMPLETION = answer(_completion())
MODELS = answer(_models())
NOT_FOUND = answer(b'{"error": {"code": 404, "message": "not found"}}', status="404 Not Found")


class CallCounts:
    """What the upstream was asked: `calls`, and `messages` over all of them, so a shortened history shows."""

    def __init__(self) -> None:
        self.calls = 0
        self.messages = 0
        self.delay = 0.0
        self.drip: Drip | None = None

    def count(self, body: bytes) -> None:
        self.calls += 1
        self.messages += body.count(b'"role"')


class Upstream(asyncio.Protocol):
    transport: asyncio.Transport

    def __init__(self, tally: CallCounts) -> None:
        self.tally = tally
        self.reader = Reader()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        for message in self.reader.feed(data):
            self.take(message)

    def take(self, message: HttpMessage) -> None:
        if message.first_line.startswith(b"POST /v1/chat/completions "):
            self.complete(message.body)
        else:
            self.transport.write(self.other(message))

    def complete(self, body: bytes) -> None:
        self.tally.count(body)
        if self.tally.drip is not None:
            self.tally.drip.add(self.transport)
            return
        streamed = b'"stream":true' in body or b'"stream": true' in body
        payload = STREAM if streamed else COMPLETION
        if self.tally.delay:
            asyncio.get_running_loop().call_later(self.tally.delay, self.write, payload)
        else:
            self.transport.write(payload)

    def write(self, payload: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(payload)

    def other(self, message: HttpMessage) -> bytes:
        if message.first_line.startswith(b"GET /v1/models "):
            return MODELS
        if message.first_line.startswith(b"GET /tally "):
            return answer(json.dumps({"calls": self.tally.calls, "messages": self.tally.messages}).encode())
        if message.first_line.startswith(b"POST /pace "):
            pace = json.loads(message.body)
            self.tally.delay, self.tally.drip = pace.get("seconds", 0.0), _drip() if pace.get("drip") else None
            return answer(b"{}")
        return NOT_FOUND


async def serve(port: int) -> None:
    tally = CallCounts()
    server = await asyncio.get_running_loop().create_server(lambda: Upstream(tally), "127.0.0.1", port, backlog=4096)
    gc.freeze()  # what lives now lives until the end: don't let the collector walk it in the middle of a run
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(parser.parse_args().port))

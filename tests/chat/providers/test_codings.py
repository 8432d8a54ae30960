"""Compressed answers, which nobody asked for: one layer is undone within bounds, everything else is refused."""

import asyncio
import gzip
import json
import subprocess
import sys
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from chat.providers import ProviderError
from chat.providers.openai_compatible import LARGE_LIST_BYTES, MAX_LIST_BYTES, MAX_LIST_PARTS
from chat.providers.replies.body import chunks_of
from chat.providers.replies.codings import STEP, Unpacker, codings_of
from testing import scenarios
from testing.environment import ROOT
from testing.exchange import Exchange, event
from testing.upstream import Upstream
from tests.support.replies import ask, list_models, provider_for

CHOICE = {"index": 0, "finish_reason": "stop"}
STREAM = event({"choices": [{**CHOICE, "delta": {"content": "compacto"}}]}) + scenarios.DONE
WHOLE = json.dumps({"choices": [{**CHOICE, "message": {"role": "assistant", "content": "compacto"}}]}).encode()
BODIES = {"stream": STREAM, "JSON": WHOLE}
MIB = 1024 * 1024


def bare(body: bytes) -> bytes:
    return zlib.compress(body)[2:-4]


def coded(body: bytes, *codings: str, status: int = 200, step: int = 0) -> scenarios.Scenario:
    """A body with these Content-Encoding headers, in chunks of `step` bytes."""

    async def play(exchange: Exchange) -> None:
        lines = "".join(f"Content-Encoding: {coding}\r\n" for coding in codings)
        head = f"HTTP/1.1 {status} OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n{lines}\r\n"
        await exchange.raw(head.encode())
        exchange._chunked = True
        size = step or len(body) or 1
        for start in range(0, len(body), size):
            await exchange.send(body[start : start + size])
        await exchange.end()

    return play


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
@pytest.mark.parametrize("step", [0, 1], ids=["at once", "byte by byte"])
@pytest.mark.parametrize(
    ("codings", "pack"),
    [
        (["gzip"], gzip.compress),
        (["GZip "], gzip.compress),
        (["x-gzip"], gzip.compress),
        (["identity, gzip"], gzip.compress),
        (["identity", "gzip"], gzip.compress),
        (["deflate"], zlib.compress),
        (["deflate"], bare),
        (["identity"], bytes),
        ([""], bytes),
        ([" , Identity"], bytes),
        (["UTF-8"], bytes),  # a charset
        (["none"], bytes),
        (["gzip"], bytes),  # a gateway has undone it, and has kept the header
        (["gzip"], lambda body: b"\xef\xbb\xbf" + body),
        (["utf-8, gzip"], gzip.compress),
    ],
)
def test_one_layer_is_undone(
    upstream: Upstream, body: bytes, step: int, codings: list[str], pack: Callable[[bytes], bytes]
) -> None:
    upstream.script(coded(pack(body), *codings, step=step))
    answer = ask(provider_for(upstream))
    assert (answer.text, answer.last.finish_reason) == ("compacto", "stop")
    assert upstream.requests[0].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
@pytest.mark.parametrize(
    "codings",
    [
        ["br"],
        ["zstd"],
        ["compress"],
        ["aws-chunked"],
        ["gzip, gzip"],
        ["gzip", "gzip"],
        ["gzip, br"],
        ["x"],
        ['"gzip"'],
    ],
    ids=str,
)
def test_other_codings_are_refused(upstream: Upstream, body: bytes, codings: list[str]) -> None:
    upstream.script(coded(gzip.compress(gzip.compress(body)), *codings))
    failure = ask(provider_for(upstream)).failure
    assert (failure.code, failure.may_have_been_billed) == ("provider_invalid_response", True)
    assert upstream.count == 1


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
@pytest.mark.parametrize(
    ("coding", "spoil"),
    [
        ("gzip", lambda body: gzip.compress(body)[:-20]),
        ("gzip", lambda body: gzip.compress(body)[:5]),
        ("gzip", lambda body: gzip.compress(body)[:12] + b"\xff" * 30),
        ("gzip", zlib.compress),
        ("gzip", lambda body: b" " + gzip.compress(body)),
        ("deflate", lambda body: zlib.compress(body)[:-20]),
        ("deflate", lambda body: b"\xff" * 30),
    ],
)
def test_what_is_cut_or_corrupt_is_no_reply(
    upstream: Upstream, body: bytes, coding: str, spoil: Callable[[bytes], bytes]
) -> None:
    upstream.script(coded(spoil(body), coding))
    assert ask(provider_for(upstream)).failure.code == "provider_invalid_response"


def test_a_reply_that_is_complete_needs_no_end_of_the_packing(upstream: Upstream) -> None:
    upstream.script(coded(flushed(STREAM), "gzip"))
    answer = ask(provider_for(upstream))
    assert (answer.text, answer.last.finish_reason) == ("compacto", "stop")


def flushed(body: bytes) -> bytes:
    """What a server that packs a stream has sent after `body`: all of it, without an end."""
    packer = zlib.compressobj(wbits=31)
    return packer.compress(body) + packer.flush(zlib.Z_SYNC_FLUSH)


def test_text_in_front_of_a_cut_is_kept_and_is_not_called_complete(upstream: Upstream) -> None:
    upstream.script(coded(flushed(event({"choices": [{"index": 0, "delta": {"content": "até aqui"}}]})), "gzip"))
    answer = ask(provider_for(upstream))
    assert (answer.text, answer.failure.code) == ("até aqui", "provider_invalid_response")


@pytest.mark.parametrize("tail", [b"", b"\0" * 100], ids=["no padding", "padding"])
def test_a_body_of_several_members_is_one_layer(upstream: Upstream, tail: bytes) -> None:
    packed = b"".join(gzip.compress(STREAM[start : start + 7]) for start in range(0, len(STREAM), 7))
    upstream.script(coded(packed + tail, "gzip", step=50))
    assert ask(provider_for(upstream)).text == "compacto"


@pytest.mark.parametrize(
    ("form", "pack"), [(31, gzip.compress), (15, zlib.compress), (15, bare)], ids=["gzip", "zlib", "bare"]
)
@pytest.mark.parametrize("size", [0, 1, STEP - 1, STEP, STEP + 1, 3 * STEP])
def test_steps_are_small_and_lose_nothing(form: int, pack: Callable[[bytes], bytes], size: int) -> None:
    body = (b"0123456789" * (size // 10 + 1))[:size]
    unpacker, packed = Unpacker(form), pack(body)
    steps = [step for start in range(0, len(packed), 1000) for step in unpacker.steps(packed[start : start + 1000])]
    unpacker.check_end()
    assert b"".join(steps) == body
    assert all(len(step) <= STEP for step in steps)


def bomb(size: int, form: str = "gzip", unit: bytes = b"\0") -> bytes:
    """`size` bytes of `unit`, packed, without an end. Blocks after a full flush do not refer to earlier ones."""
    packer = zlib.compressobj(9, wbits=-15)
    block = packer.compress(unit * (MIB // len(unit))) + packer.flush(zlib.Z_FULL_FLUSH)
    return HEADS[form] + block * (size // MIB)


HEADS = {"gzip": b"\x1f\x8b\x08\0\0\0\0\0\0\x03", "zlib": b"\x78\xda", "bare": b""}
BOMBS = {
    "zeros": ("gzip", b"\0"),
    "spaces": ("gzip", b" "),
    "comments": ("gzip", b": keep-alive" * 100 + b"\n\n"),
    "braces": ("gzip", b"{"),
    "data": ("gzip", b"data: x "),
    "zlib": ("zlib", b"\0"),
    "bare": ("bare", b"\0"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_takes_some_megabytes(upstream: Upstream, name: str) -> None:
    form, unit = BOMBS[name]
    coding, packed = "gzip" if form == "gzip" else "deflate", bomb(64 * MIB, form, unit)
    for scenario in (coded(packed, coding), coded(packed, coding, status=500)):
        upstream.script(scenario)
        assert peak(lambda: ask(provider_for(upstream)).failure) < 40 * MIB
    upstream.models = coded(packed, coding)
    assert peak(lambda: refused_list(upstream)) < 40 * MIB


def peak(run: Callable[[], Any]) -> int:
    """The most bytes that were allocated meanwhile; zlib's own are not among them, which are 50 KB."""
    tracemalloc.start()
    try:
        run()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def refused_list(upstream: Upstream) -> None:
    with pytest.raises(ProviderError) as problem:
        list_models(provider_for(upstream))
    assert problem.value.code == "provider_invalid_response"


MEASURED = """
import re, sys
from pathlib import Path
from chat.providers import ProviderError, make_provider
from tests.support.replies import ask, list_models

def highest():  # of this program: getrusage would count what its parent had in memory, too
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

make = lambda: make_provider("openrouter", base_url=sys.argv[1], default_model="m")
ask(make())
before = highest()
for _ in range(2):
    assert ask(make()).failure.code == "provider_invalid_response"
assert ask(make()).failure.code == "provider_error"
try:
    list_models(make())
except ProviderError:
    print(highest() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_gigabyte_in_a_megabyte_takes_little_of_the_process_too(upstream: Upstream) -> None:
    packed = bomb(1024 * MIB)
    assert len(packed) < 1.1 * MIB
    twice = gzip.compress(packed)
    upstream.script(
        scenarios.echo(), coded(packed, "gzip"), coded(twice, "gzip, gzip"), coded(packed, "gzip", status=502)
    )
    upstream.models = coded(packed, "gzip")
    command = [sys.executable, "-c", MEASURED, upstream.url]
    measured = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(measured.stdout) < 48 * 1024  # KiB


def test_an_error_is_understood_packed_too(upstream: Upstream) -> None:
    body = json.dumps({"error": {"code": "context_length_exceeded", "message": "palavras"}}).encode()
    upstream.script(
        coded(gzip.compress(body), "gzip", status=400),
        coded(body, "gzip", status=400),  # unpacked by a gateway, which has kept the header
        coded(body, "br", status=400),
    )
    provider = provider_for(upstream)
    for _ in range(2):
        assert ask(provider).failure.code == "context_length_exceeded"
    assert ask(provider).failure.code == "invalid_request"


@pytest.mark.parametrize(
    ("packed", "size"),
    [(gzip.compress(bytes(4 * MIB)), 4 * MIB), (gzip.compress(b"") * 13_000, 0)],
    ids=["zeros", "empty members"],
)
def test_others_get_their_turn_while_a_body_is_unpacked(packed: bytes, size: int) -> None:
    async def run() -> int:
        passes = 0

        async def count() -> None:
            nonlocal passes
            while True:
                passes += 1
                await asyncio.sleep(0)

        counting = asyncio.create_task(count())
        response = httpx.Response(200, headers={"Content-Encoding": "gzip"}, stream=Parts(packed))
        steps = [len(step) async for step in chunks_of(response)]
        counting.cancel()
        assert sum(steps) == size
        return passes

    assert asyncio.run(run()) >= 16


class Parts(httpx.AsyncByteStream):
    def __init__(self, *parts: bytes) -> None:
        self._parts = parts

    async def __aiter__(self) -> Any:
        for part in self._parts:
            yield part


def test_codings_are_read_from_all_headers() -> None:
    headers = httpx.Headers([("Content-Encoding", "GZIP"), ("content-encoding", " identity,, Br ")])
    assert codings_of(headers) == ["gzip", "br"]


def listing(size: int) -> list[dict[str, Any]]:
    return [scenarios.model(f"lab/model-{number}") for number in range(size)]


@pytest.mark.parametrize("size", [2, 2000], ids=["small", "in a thread"])
@pytest.mark.parametrize("coding", ["identity", "gzip"])
def test_a_list_of_any_usual_size_is_read(upstream: Upstream, size: int, coding: str) -> None:
    body = json.dumps({"data": listing(size)}).encode()
    assert (len(body) > LARGE_LIST_BYTES) == (size > 2)
    upstream.models = coded(gzip.compress(body) if coding == "gzip" else body, coding)
    assert len(list_models(provider_for(upstream))) == size


@pytest.mark.parametrize(
    "body",
    [
        b'{"data": [' + b" " * MAX_LIST_BYTES + b"]}",
        b'{"data": [' + b"{}," * MAX_LIST_PARTS + b"{}]}",
        b"[" * 100_000,
        b"x" * (LARGE_LIST_BYTES + 1),
    ],
    ids=["too large", "too many parts", "too deep", "no JSON in a thread"],
)
def test_a_list_without_measure_is_refused(upstream: Upstream, body: bytes) -> None:
    upstream.models = coded(body)
    assert peak(lambda: refused_list(upstream)) < 24 * MIB


def test_a_list_that_trickles_for_ever_ends(upstream: Upstream) -> None:
    async def play(exchange: Exchange) -> None:
        await exchange.start()
        await exchange.send(b'{"data": [')
        while not exchange.gone:
            await exchange.send(b" ")
            await asyncio.sleep(0.01)

    upstream.models = play
    with pytest.raises(ProviderError) as problem:
        list_models(provider_for(upstream, read_timeout=0.15, retries=0))
    assert problem.value.code == "provider_timeout"

"""The scripted upstream: an OpenAI-compatible server on loopback that sends what a test scripts, and counts.

In a test: `with Upstream() as upstream: upstream.reply("Olá")`. By hand: `python -m testing.upstream --port 9000`.
What it can say is in scenarios.py; what it says unscripted is `scenarios.echo`.
"""

import argparse
import asyncio
import contextlib
import json
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any

from testing import scenarios
from testing.exchange import Exchange, Request
from testing.scenarios import Scenario


class Upstream:
    """The server, in a thread of its own. `script` is used up first, then `otherwise`, which is an echo."""

    def __init__(self, port: int = 0, otherwise: Scenario | None = None, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[Request] = []  # chat completions, in the order of arrival
        self.model_requests: list[Request] = []
        self._usual = otherwise or scenarios.echo()
        self.otherwise = self._usual  # the answer after the script's end
        self.models: Scenario = scenarios.models()
        self.connections = 0  # opened so far
        self.open_connections = 0
        self.closed_early = 0  # the client left before the answer's end
        self._script: deque[Scenario] = deque()
        self._started = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._port = port
        self._tls = tls
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Upstream":
        self._thread.start()
        if not self._started.wait(10):
            raise RuntimeError("the scripted upstream did not start")
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    @property
    def port(self) -> int:
        return self._port

    @property
    def url(self) -> str:
        """The base URL for a setting."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self._port}/v1"

    @property
    def count(self) -> int:
        """The number of requested chat completions."""
        return len(self.requests)

    def script(self, *turns: Scenario) -> None:
        """Script the answers to the next requests, one each."""
        self._script.extend(turns)

    def reply(self, text: str, **options: Any) -> None:
        """The next request gets `text`; the options are those of `scenarios.ok`."""
        self.script(scenarios.ok(text, **options))

    def clear(self) -> None:
        """Forget the script and the recorded requests."""
        self._script.clear()
        self.otherwise, self.models = self._usual, scenarios.models()
        self.requests.clear()
        self.model_requests.clear()
        self.closed_early = 0

    def wait_until(self, condition: Callable[[], bool], seconds: float = 10.0) -> None:
        """Wait for another thread to meet a condition; `AssertionError` if it does not."""
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                raise AssertionError("what the test waits for did not happen")
            time.sleep(0.002)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self.serve())
        self._loop.close()

    async def serve(self) -> None:
        self._stop = asyncio.Event()
        tasks: set[asyncio.Task[None]] = set()

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.ensure_future(self._connection(reader, writer))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        server = await asyncio.start_server(
            connected, "127.0.0.1", self._port, backlog=4096, limit=16 * 1024 * 1024, ssl=self._tls
        )
        self._port = server.sockets[0].getsockname()[1]
        self._started.set()
        await self._stop.wait()
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open_connections += 1
        try:
            while request := await read_request(reader):
                if not await self._answer(request, reader, writer):
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.open_connections -= 1
            writer.close()

    async def _answer(self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Play the scenario; return whether the connection can be reused."""
        if request.path.endswith("/models"):
            self.model_requests.append(request)
            scenario, number = self.models, len(self.model_requests)
        else:
            self.requests.append(request)
            scenario, number = self._script.popleft() if self._script else self.otherwise, self.count
        exchange = Exchange(request, number, reader, writer)
        with contextlib.suppress(ConnectionError):
            await scenario(exchange)
        if exchange.gone and not exchange.ended and not exchange.cut:
            self.closed_early += 1
        return exchange.ended


async def read_request(reader: asyncio.StreamReader) -> Request | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.rstrip("\r\n").split("\r\n")
    method, path, _ = first.split(" ", 2)
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Request(method, path, headers, json.loads(body) if body else None)


def main() -> None:
    parser = argparse.ArgumentParser(description="A scripted OpenAI-compatible upstream on loopback.")
    parser.add_argument("--port", type=int, default=9000)
    parser.add_argument("--delay", type=float, default=0.0, help="seconds before the first piece")
    parser.add_argument("--pieces", type=int, default=0, help="answer with so many pieces instead of an echo")
    parser.add_argument("--interval", type=float, default=0.0, help="seconds between two pieces")
    options = parser.parse_args()
    scenario = scenarios.echo(delay=options.delay)
    if options.pieces:
        words = ["palavra "] * options.pieces
        scenario = scenarios.ok("", pieces=words, delay=options.delay, interval=options.interval)
    upstream = Upstream(options.port, scenario)
    with contextlib.suppress(KeyboardInterrupt):
        print(f"listening on {upstream.url}", flush=True)
        asyncio.run(upstream.serve())


if __name__ == "__main__":
    main()

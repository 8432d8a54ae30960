"""Readers who ask for long replies and do not read them."""

import asyncio
import contextlib
import json
import random
import socket
from urllib.parse import urlsplit

from trials.torture.greedy.target import Target

READERS = 300
ARRIVAL_SECONDS = 5.0  # in which they come
RECEIVE_BUFFER_BYTES = 8192  # of a reader's system, so that the reply waits at the server
UNREAD_SECONDS = 90  # longer than the service waits for a reader


async def flood(target: Target) -> None:
    await asyncio.gather(*(unread(target, number) for number in range(READERS)))


async def unread(target: Target, number: int) -> None:
    """Ask for a stream again and again, and read nothing of it."""
    host, _, port = urlsplit(target.url).netloc.rpartition(":")
    body = json.dumps({"message": f"long {number}", "stream": True}).encode()
    head = [
        "POST /chat HTTP/1.1", f"Host: {host}", "Content-Type: application/json", f"Content-Length: {len(body)}",
        *(f"{name}: {value}" for name, value in target.headers.items()),
    ]  # fmt: skip
    while True:
        await asyncio.sleep(random.uniform(0, ARRIVAL_SECONDS))
        with contextlib.suppress(OSError):
            connected = socket.socket()
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
            connected.setblocking(False)
            await asyncio.get_running_loop().sock_connect(connected, (host, int(port)))
            _reader, writer = await asyncio.open_connection(sock=connected, limit=1)
            writer.write("\r\n".join([*head, "", ""]).encode() + body)
            await asyncio.sleep(UNREAD_SECONDS)
            writer.transport.abort()

"""Clients that read event streams and measure the delay of each piece."""

import json
import time

from trials.bench import load
from trials.bench.drip import PIECES, STAMP
from trials.bench.wire import HttpMessage, StreamedAnswer, request

DELTA, DONE = b"event: delta\n", b"event: done\n"
DATA = b"\ndata: "


class StreamConnection(load.Connection):
    """Records only the arrival times of the parts while it runs, because other parts are waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.answer = StreamedAnswer()
        self.parts: list[tuple[float, bytes]] = []

    def data_received(self, data: bytes) -> None:
        self.parts.append((time.monotonic(), self.answer.feed(data)))
        if self.answer.ended and self.waiting is not None and not self.waiting.done():
            whole = b"".join(body for _, body in self.parts)
            self.waiting.set_result(HttpMessage(self.answer.first_line, whole))

    async def ask(self, raw_request: bytes) -> HttpMessage:
        self.answer, self.parts = StreamedAnswer(), []
        return await super().ask(raw_request)


def events(parts: list[tuple[float, bytes]]) -> list[tuple[float, bytes]]:
    """The events of a body that came in parts, each with the moment at which it was complete."""
    found = []
    waiting = b""
    for moment, part in parts:
        *whole, waiting = (waiting + part).split(b"\n\n")
        found += [(moment, event) for event in whole]
    return found


def stamps(event: bytes) -> list[tuple[int, float]]:
    """The number and sending time of each piece in the event."""
    return [(int(number), float(sent)) for number, sent in STAMP.findall(event)]


class StreamClient(load.Client):
    """A client that asks for a stream, reads it to its end, and asks again."""

    connection_class = StreamConnection

    def raw_request(self) -> bytes:
        return request("POST", self.path, self.body(stream=True))

    def read(self, message: HttpMessage) -> None:
        """Checks that every piece came once and in order, and that the reply equals the joined pieces."""
        if b" 200 " not in message.first_line:
            raise load.TurnFailed(f"{message.first_line.decode()}: {message.body[:200].decode(errors='replace')}")
        assert isinstance(self.connection, StreamConnection)
        found = events(self.connection.parts)
        self.note([(moment, event) for moment, event in found if self.is_piece(event)])
        self.check_end(found[-1][1])

    def is_piece(self, event: bytes) -> bool:
        return event.startswith(DELTA)

    def note(self, deltas: list[tuple[float, bytes]]) -> None:
        came = [(number, sent, moment) for moment, event in deltas for number, sent in stamps(event)]
        if [number for number, _, _ in came] != list(range(PIECES)):
            raise load.TurnFailed(f"pieces {[number for number, _, _ in came]}")
        self.text = b"".join(b"%02d@%014.6f " % (number, sent) for number, sent, _ in came).decode()
        for _, sent, moment in came:
            self.tally.pieces.extend((moment, moment - sent))

    def check_end(self, event: bytes) -> None:
        if not event.startswith(DONE):
            raise load.TurnFailed(f"the stream ends with {event[:200].decode(errors='replace')}")
        answer = json.loads(event.partition(DATA)[2])
        if answer["response"] != self.text or self.session_id not in (None, answer["session_id"]):
            raise load.TurnFailed(f"wrong answer: {event[:200].decode(errors='replace')}")
        self.session_id = answer["session_id"]


class DirectStreamClient(StreamClient):
    """Asks the upstream directly: the limit of load generator and upstream."""

    def raw_request(self) -> bytes:
        return load.direct_request()

    def is_piece(self, event: bytes) -> bool:
        return b"@" in event

    def check_end(self, event: bytes) -> None:
        if not event.endswith(b"[DONE]"):
            raise load.TurnFailed("a stream without an end")

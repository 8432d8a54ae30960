"""What the formats share: options, counts, and how to write values."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

PIECE_CHARS = 32_768
LINE_SEPARATORS = re.compile("[\x85\u2028\u2029]")  # some readers of JSON end a line there


@dataclass
class ExportCounts:
    """Conversations and messages (or events) that were written, and those that the format leaves out."""

    conversations: int = 0
    messages: int = 0
    conversations_left_out: int = 0
    messages_left_out: int = 0

    def count_conversation(self, *, written: bool) -> None:
        if written:
            self.conversations += 1
        else:
            self.conversations_left_out += 1


@dataclass(frozen=True)
class ExportOptions:
    """`simulated`: events use the simulated clock. `delimiter`: another one than the table's own.

    The writers count in `counts`.
    """

    simulated: bool = False
    delimiter: str = ""
    counts: ExportCounts = field(default_factory=ExportCounts)


def moment(when: datetime) -> str:
    """ISO 8601 in UTC, always with microseconds: some readers expect all values to look like the first."""
    return f"{when.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='microseconds')}Z"


def one_line(json_text: str) -> str:
    """JSON in which no character looks like the end of a line to any reader."""
    if json_text.isascii():
        return json_text
    return LINE_SEPARATORS.sub(lambda found: f"\\u{ord(found[0]):04x}", json_text)


def in_pieces(texts: Iterable[str]) -> Iterator[bytes]:
    """The texts in UTF-8, joined to larger pieces."""
    waiting: list[str] = []
    size = 0
    for text in texts:
        waiting.append(text)
        size += len(text)
        if size >= PIECE_CHARS:
            yield "".join(waiting).encode(errors="replace")
            waiting, size = [], 0
    if waiting:
        yield "".join(waiting).encode(errors="replace")

"""What the formats share: how an export is wanted, what has become of it, and how values are written."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

PIECE_CHARS = 32_768
LINE_SEPARATORS = re.compile("[\x85\u2028\u2029]")  # within JSON; some readers end a line there


@dataclass
class ExportCounts:
    """How many conversations and messages (or events) were written, and how many the format has no place for."""

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
    """How events are told: by the real or the simulated clock. The writers count in `counts`."""

    simulated: bool = False
    counts: ExportCounts = field(default_factory=ExportCounts)


def moment(when: datetime) -> str:
    """ISO 8601 in UTC, always to the microsecond: some readers take the first value for the form of all."""
    return f"{when.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='microseconds')}Z"


def one_line(json_text: str) -> str:
    """JSON without the characters that JSON allows in a string and some readers take for the end of a line."""
    if json_text.isascii():
        return json_text
    return LINE_SEPARATORS.sub(lambda found: f"\\u{ord(found[0]):04x}", json_text)


def in_pieces(texts: Iterable[str]) -> Iterator[bytes]:
    """The texts in UTF-8, joined to pieces that are worth sending."""
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

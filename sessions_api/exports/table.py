"""CSV with a row for each message, for spreadsheets and statistics."""

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from operator import attrgetter
from typing import Any, NamedTuple

from sessions_api.exports.jsonl import MESSAGE_FIELDS
from sessions_api.exports.reading import Conversation, Said
from sessions_api.exports.writing import ExportOptions, moment

BYTE_ORDER_MARK = "\ufeff"  # without it spreadsheets do not expect UTF-8
SESSION_COLUMNS = ("session_id", "owner", "title", "persona_id")
LEFT_OUT = ("generation_id", "history_omitted", "may_have_been_billed")
MESSAGE_COLUMNS = tuple(name for name in MESSAGE_FIELDS if name not in LEFT_OUT)
COLUMNS = ("case_id", "message_id", *SESSION_COLUMNS, *MESSAGE_COLUMNS, "rating", "comment", "metadata")

# What a spreadsheet may take for a formula: one of the signs (also full-width and small ones, and the minus sign) after
# any spaces, quotes, control or invisible characters. It also matches after apostrophes, so that readers can always
# remove the one that we add.
SIGN = "[=+\\-@\uff1d\uff0b\uff0d\uff20\ufe66\ufe62\ufe63\ufe6b\u2212]"
INVISIBLE = (
    "\0-\x08\x0b\x0c\x0e-\x20\x22\x7f-\xa0\xad\u061c\u1680\u180e\u2000-\u200f\u2028-\u202f\u205f-\u206f\u3000\ufeff"
)
A_FORMULA = re.compile(f"'*(?:[\t\r\n]|[{INVISIBLE}]*{SIGN})")
# Spreadsheets in Portuguese begin a cell at a semicolon, those in English at a comma, others at a tab or a line end,
# whatever quotes it stands in. Where the file's own delimiter is the comma, its quotes mean something to the English.
A_SEPARATOR = re.compile(f"([;\t\r\n])(?='*[{INVISIBLE}]*{SIGN})")
ONE_WITH_COMMAS = re.compile(f"([,;\t\r\n])(?='*[{INVISIBLE}]*{SIGN})")

_of_session, _of_message = attrgetter(*SESSION_COLUMNS), attrgetter(*MESSAGE_COLUMNS)


class Style(NamedTuple):
    """How a table's reader writes values; `truth` has the words for false and true."""

    delimiter: str = ","
    point: str = "."
    truth: tuple[str, str] = ("false", "true")
    moment: Callable[[datetime], str] = moment

    def separated_by(self, delimiter: str) -> "Style":
        """With this delimiter, if there is one."""
        return self._replace(delimiter=delimiter or self.delimiter)


def excel_moment(when: datetime) -> str:
    """In UTC and without fractions: Excel takes this for a date in every language."""
    return when.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "seconds")


PLAIN = Style()
EXCEL = Style(";", ",", ("FALSO", "VERDADEIRO"), excel_moment)  # in Brazilian Portuguese


class _Echo:
    """A file for csv.writer, which then returns each row's text."""

    def write(self, text: str) -> str:
        return text


def write(conversations: Iterable[Conversation], options: ExportOptions, style: Style = PLAIN) -> Iterator[str]:
    def rows() -> Iterator[Sequence[Any]]:
        for conversation in conversations:
            options.counts.conversations += 1
            session = _of_session(conversation.session)
            for said in conversation.messages:
                options.counts.messages += 1
                yield _row(conversation.case_id, session, said)

    yield BYTE_ORDER_MARK
    yield from lines(COLUMNS, rows(), style.separated_by(options.delimiter))


write_for_excel = partial(write, style=EXCEL)


def lines(header: Sequence[str], rows: Iterable[Sequence[Any]], style: Style = PLAIN) -> Iterator[str]:
    """CSV (RFC 4180, with the style's delimiter) in which no cell is a formula."""
    writer: Any = csv.writer(_Echo(), delimiter=style.delimiter)
    yield writer.writerow(header)
    for row in rows:
        yield writer.writerow([cell(value, style) for value in row])


def cell(value: Any, style: Style = PLAIN) -> Any:
    """The value for a cell. Where a formula could begin in a text, there is an apostrophe before it."""
    if isinstance(value, str):
        separator = A_SEPARATOR if style.delimiter == "," else ONE_WITH_COMMAS
        text = separator.sub(r"\1'", value)
        return f"'{text}" if A_FORMULA.match(value) else text
    if isinstance(value, datetime):
        return style.moment(value)
    if isinstance(value, bool):
        return style.truth[value]
    return f"{value:f}".replace(".", style.point) if isinstance(value, Decimal) else value


def _row(case_id: str, session: Sequence[Any], said: Said) -> list[Any]:
    message, feedback = said
    opinion = ("", "") if feedback is None else (feedback.rating, feedback.comment)
    metadata = json.dumps(message.metadata, ensure_ascii=False, sort_keys=True) if message.metadata else ""
    return [case_id, message.public_id, *session, *_of_message(message), *opinion, metadata]

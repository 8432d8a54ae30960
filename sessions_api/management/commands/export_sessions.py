"""manage.py export_sessions: writes conversations to a file."""

import contextlib
import os
import re
import sys
import tempfile
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Iterable, Iterator
from dataclasses import fields
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from django.core.management.base import BaseCommand, CommandError, no_translations
from django.db.models import QuerySet, Sum
from tqdm import tqdm

from access import audit
from access.clients import COMMAND
from access.management.arguments import client_called
from sessions_api.exports.formats import CLOCKS, FORMATS, IMPORTABLE, WITH_CLOCKS, WITH_DELIMITER
from sessions_api.exports.reading import conversations
from sessions_api.exports.selection import Selection
from sessions_api.exports.writing import ExportCounts, ExportOptions, in_pieces
from sessions_api.models import Message, Session
from sessions_api.sqlite import keep_little_cached
from web.moments import utc

STANDARD_OUTPUT = "-"
DELIMITERS = "\t!#$%&()*,./:;<>?[\\]^_`{|}~"  # nothing that quotes a cell, or begins a formula


def day_or_moment(text: str) -> datetime:
    """2026-11-22 means the day's beginning. The zone is UTC unless the text names one."""
    try:
        return utc(datetime.fromisoformat(text))
    except (ValueError, OverflowError):
        raise ArgumentTypeError(f"a day (2026-11-22) or a moment (2026-11-22T12:00-03:00), not {text!r}") from None


def name_and_value(text: str) -> tuple[str, str | None]:
    name, equals, value = text.partition("=")
    if not name or (equals and re.fullmatch(r"[+-]?\d+", name)):
        raise ArgumentTypeError("KEY or KEY=VALUE; a KEY that is a number goes without a value")
    return name, value if equals else None


def delimiter(text: str) -> str:
    """A tab may also be written as `tab` or `\\t`, since shells make it hard to type one."""
    sign = "\t" if text in ("tab", "\\t") else text
    if len(sign) != 1 or sign not in DELIMITERS:
        raise ArgumentTypeError(
            f"one sign such as , ; | or tab: no letter, digit, space, quote or = + - @, not {text!r}"
        )
    return sign


class Command(BaseCommand):
    help = (
        "Writes conversations to a file, the oldest first, or to standard output. docs/research.md describes the "
        "formats. Nothing is held in memory for long, however much there is."
    )
    requires_system_checks: list[str] = []  # they load every view, which is more memory than an export takes

    def add_arguments(self, parser: ArgumentParser) -> None:
        readable, timed = " and ".join(IMPORTABLE), " and ".join(WITH_CLOCKS)
        parser.add_argument("--format", choices=FORMATS, required=True, help=f"import_sessions reads {readable}")
        parser.add_argument("--output", metavar="FILE", required=True, help="- is standard output")
        parser.add_argument("--clock", choices=CLOCKS, default="real", help=f"of the {timed} formats")
        parser.add_argument(
            "--delimiter", type=delimiter, help=f"between the cells of {', '.join(WITH_DELIMITER)}: one sign, or tab"
        )
        parser.add_argument("--include-superseded", action="store_true", help="also what a later turn replaced")
        parser.add_argument("--since", type=day_or_moment, metavar="WHEN", help="last question then, or later")
        parser.add_argument("--until", type=day_or_moment, metavar="WHEN", help="last question before that")
        whose = parser.add_mutually_exclusive_group()
        whose.add_argument("--client", help="its name or its id")
        whose.add_argument("--owner", help="open, byok:…, or client:…")
        parser.add_argument("--persona", help="the persona_id")
        parser.add_argument("--model", help="of at least one reply")
        parser.add_argument("--status", choices=("open", "closed"))
        parser.add_argument("--reply-status", choices=Message.Status.values, help="of at least one reply")
        parser.add_argument(
            "--metadata", action="append", default=[], type=name_and_value, metavar="KEY[=VALUE]", help="repeatable"
        )
        parser.add_argument("--session", action="append", default=[], metavar="ID", help="repeatable")

    @no_translations
    def handle(self, *args: Any, format: str, output: str, **options: Any) -> None:  # noqa: A002 - the option's name
        selection = selected(options)
        sessions, chosen = selection.sessions(), FORMATS[format]
        if options["delimiter"] and not chosen.delimiter:
            raise CommandError(f"--delimiter is for the formats {', '.join(WITH_DELIMITER)}: {format} has no cells.")
        export_options = ExportOptions(options["clock"] == "simulated", options["delimiter"] or "")
        count = sessions.count()
        audit.record(audit.Action.EXPORTED, COMMAND.name, format=format, filters=selection.used(), sessions=count)
        read = conversations(sessions, superseded=options["include_superseded"] or chosen.superseded)
        pieces = in_pieces(chosen.write(read, export_options))
        keep_little_cached()
        write_to(output, with_progress(pieces, export_options.counts, sessions))
        said = summary(export_options.counts, chosen.reason(export_options))
        (self.stderr if output == STANDARD_OUTPUT else self.stdout).write(said)


def selected(options: dict[str, Any]) -> Selection:
    if options["client"]:
        options["owner"] = client_called(options["client"]).owner
    options |= {"metadata": tuple(options["metadata"]), "session_ids": tuple(options["session"])}
    return Selection(**{field.name: options[field.name] for field in fields(Selection)})


def with_progress(pieces: Iterable[bytes], counts: ExportCounts, sessions: QuerySet[Session]) -> Iterator[bytes]:
    """The pieces; a terminal shows how far the export is."""
    total = sessions.aggregate(messages=Sum("message_count", default=0))["messages"] if sys.stderr.isatty() else 0
    with tqdm(total=total, unit=" messages", leave=False, disable=None) as bar:
        for piece in pieces:
            yield piece
            bar.update(counts.messages + counts.messages_left_out - bar.n)


def write_to(output: str, pieces: Iterable[bytes]) -> None:
    """The file gets its name when it is complete. Only its owner may read it. Raises `CommandError`."""
    try:
        if output == STANDARD_OUTPUT:
            # With PYTHONUNBUFFERED, sys.stdout.buffer can write a part and drop the rest.
            with os.fdopen(os.dup(sys.stdout.fileno()), "wb") as file:
                _write(pieces, file)
        else:
            with _in_place_of(Path(output)) as file:
                _write(pieces, file)
    except BrokenPipeError:  # the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains when it exits
        raise CommandError("The reader of standard output went away.") from None
    except OSError as problem:
        raise CommandError(f"{output} could not be written: {problem.strerror}.") from None


def _write(pieces: Iterable[bytes], file: IO[bytes]) -> None:
    for piece in pieces:
        file.write(piece)
    file.flush()


@contextlib.contextmanager
def _in_place_of(path: Path) -> Iterator[IO[bytes]]:
    if path.exists() and not path.is_file():  # a pipe or a device: a file in its place would take it away
        with path.open("wb") as stream:
            yield stream
        return
    number, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(number, "wb") as file:
            yield file
            os.fsync(number)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink()
        raise


def summary(counts: ExportCounts, reason: str) -> str:
    said = f"Exported {counted(counts.conversations, 'conversation')} ({counted(counts.messages, 'message')})."
    if counts.messages_left_out or counts.conversations_left_out:
        left_out = counted(counts.messages_left_out, "message")
        said += f" Left out: {left_out} ({reason}), and so {counted(counts.conversations_left_out, 'conversation')}."
    return said


def counted(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"

"""manage.py import_sessions: stores conversations from the JSON Lines of export_sessions."""

import sys
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import IO, Any

from django.core.management.base import BaseCommand, CommandError, no_translations
from tqdm import tqdm

from access import audit
from access.clients import COMMAND
from sessions_api.imports.checking import Refused, conversation_in
from sessions_api.imports.storing import BATCH, Parts, store
from sessions_api.sqlite import keep_little_cached

STANDARD_INPUT = "-"
MAX_LINE_BYTES = 1024**3  # longer lines are no conversation
MAX_NAMED_LINES = 100  # refused lines that it names


class Command(BaseCommand):
    help = (
        "Stores the conversations of a JSON Lines file of export_sessions, with the same ids, texts, times and counts. "
        "What is there already is skipped. A line that is wrong is named and left out whole; the others are stored."
    )
    requires_system_checks: list[str] = []  # they load every view, which is more memory than an import takes

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", metavar="FILE", help="- is standard input")
        parser.add_argument("--owner", help="whose they are to be, whatever the file says: open, byok:…, client:…")

    @no_translations
    def handle(self, *args: Any, file: str, owner: str | None, **options: Any) -> None:
        if owner is not None and not 1 <= len(owner) <= 80:
            raise CommandError("--owner takes 1 to 80 characters.")
        keep_little_cached()
        self.counts: Counter[str] = Counter()
        try:
            with nullcontext(sys.stdin.buffer) if file == STANDARD_INPUT else Path(file).open("rb") as source:
                self._import(source, owner)
        except OSError as problem:
            raise CommandError(f"{file} could not be read: {problem.strerror}.") from None
        finally:
            if self.counts["sessions"]:
                audit.record(audit.Action.IMPORTED, COMMAND.name, sessions=self.counts["sessions"])
        said = (
            f"Imported {self.counts['sessions']} conversations ({self.counts['messages']} messages); "
            f"{self.counts['known']} were there already."
        )
        if self.counts["refused"]:
            raise CommandError(f"{said} {self.counts['refused']} lines were refused.")
        self.stdout.write(said)

    def _import(self, source: IO[bytes], owner: str | None) -> None:
        waiting: list[Parts] = []
        for parts in self._read(source):
            if owner is not None:
                parts.session.owner = owner
            waiting.append(parts)
            if sum(len(one.messages) for one in waiting) >= BATCH or len(waiting) >= BATCH:
                self._store(waiting)
                waiting = []
        self._store(waiting)

    def _store(self, waiting: list[Parts]) -> None:
        for parts, stored in zip(waiting, store(waiting), strict=True):
            self.counts["sessions" if stored else "known"] += 1
            self.counts["messages"] += len(parts.messages) if stored else 0

    def _read(self, source: IO[bytes]) -> Iterator[Parts]:
        size = Path(source.name).stat().st_size if isinstance(source.name, str) and Path(source.name).is_file() else 0
        with tqdm(total=size, unit="B", unit_scale=True, leave=False, disable=None) as bar:
            for number, line in enumerate(iter(lambda: source.readline(MAX_LINE_BYTES), b""), 1):
                bar.update(len(line))
                if line.strip():
                    try:
                        yield Parts(*conversation_in(line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line))
                    except Refused as problem:
                        self._refuse(number, problem)

    def _refuse(self, number: int, problem: Refused) -> None:
        self.counts["refused"] += 1
        if self.counts["refused"] <= MAX_NAMED_LINES:
            self.stderr.write(f"line {number}: {problem}")

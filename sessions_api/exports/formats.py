"""The formats that conversations can be had in."""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from django.utils.translation import gettext_lazy as _

from sessions_api.exports import events, jsonl, openai, table, xes
from sessions_api.exports.reading import Conversation
from sessions_api.exports.writing import ExportOptions

CLOCKS = ("real", "simulated")


class Format(NamedTuple):
    """`write` answers the file's text in pieces. `label` is for people."""

    label: object
    suffix: str
    content_type: str
    write: Callable[[Iterable[Conversation], ExportOptions], Iterator[str]]

    def filename(self, stem: str) -> str:
        """A name that every system takes, and that ends no header."""
        return f"{re.sub('[^A-Za-z0-9._-]', '_', stem)}{self.suffix}"


FORMATS = {
    "jsonl": Format(_("JSON Lines (everything)"), ".jsonl", "application/jsonl", jsonl.write),
    "csv": Format(_("CSV (a message a row)"), ".csv", "text/csv", table.write),
    "openai": Format(_("OpenAI fine-tuning"), ".openai.jsonl", "application/jsonl", openai.write),
    "events": Format(_("event log (CSV)"), ".events.csv", "text/csv", events.write),
    "xes": Format(_("event log (XES)"), ".xes", "application/xml", xes.write),
}

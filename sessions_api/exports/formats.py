"""The formats that conversations can be exported in, and all that each of them can do."""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from django.utils.translation import gettext_lazy as _

from sessions_api.exports import events, jsonl, openai, table, xes
from sessions_api.exports.reading import Conversation
from sessions_api.exports.writing import ExportOptions

CLOCKS = ("real", "simulated")
UNFINISHED = "replies that are still in the making"
NOT_SIMULATED = "no simulated timestamp, or a reply that is still in the making"


class Format(NamedTuple):
    """`write` yields the file's text in pieces. The admin shows `label`, the chat page `menu_label`.

    `superseded`: always with the messages that a later turn replaced. `clocks`: tells events by the wanted clock.
    `delimiter`: what stands between cells, unless told otherwise. `importable`: import_sessions reads it. `leaves_out`:
    the messages that have no place in it. `example`: how a file begins, for the API's document.
    """

    label: object
    menu_label: object
    suffix: str
    content_type: str
    write: Callable[[Iterable[Conversation], ExportOptions], Iterator[str]]
    superseded: bool = False
    clocks: bool = False
    delimiter: str = ""
    importable: bool = False
    leaves_out: str = ""
    example: str = ""

    def filename(self, stem: str) -> str:
        """A name that every system takes, and that ends no header."""
        return f"{re.sub('[^A-Za-z0-9._-]', '_', stem)}{self.suffix}"

    def reason(self, options: ExportOptions) -> str:
        """Why messages were left out."""
        return NOT_SIMULATED if self.clocks and options.simulated else self.leaves_out


FORMATS = {
    "jsonl": Format(
        _("JSON Lines (everything)"), _("JSON Lines"), ".jsonl", "application/jsonl", jsonl.write,
        superseded=True, importable=True,
    ),
    "csv": Format(_("CSV (a message a row)"), _("Table (CSV)"), ".csv", "text/csv", table.write, delimiter=","),
    "csv-excel": Format(
        _("CSV for Excel in Portuguese (a message a row)"), _("Table for Excel in Portuguese (CSV)"), ".excel.csv",
        "text/csv", table.write_for_excel, delimiter=";",
    ),
    "openai": Format(
        _("OpenAI fine-tuning"), _("Training data (OpenAI)"), ".openai.jsonl", "application/jsonl", openai.write,
        leaves_out="turns that were not completed",
        example='{"messages": [{"role": "user", "content": "Oi"}, {"role": "assistant", "content": "Olá!"}]}\n',
    ),
    "events": Format(
        _("event log (CSV)"), _("Event log (CSV)"), ".events.csv", "text/csv", events.write,
        clocks=True, delimiter=",", leaves_out=UNFINISHED,
        example="CASE_ID,EVENT_ID,ACTIVITY,START_TIMESTAMP,END_TIMESTAMP,RECURSO,AGENTE\r\n"
        "atendimento-2025-06-13,Zk3rV0p9Qm2bXc8TtYw1Aa.0,Cliente envia mensagem,2026-11-22T12:00:00.000000Z,"
        "2026-11-22T12:00:00.000000Z,cliente,cliente\r\n",
    ),
    "xes": Format(
        _("event log (XES)"), _("Event log (XES)"), ".xes", "application/xml", xes.write,
        clocks=True, leaves_out=UNFINISHED,
        example='<?xml version="1.0" encoding="UTF-8"?>\n<log xes.version="1849.2016" …',
    ),
}  # fmt: skip
WITH_CLOCKS = [name for name, chosen in FORMATS.items() if chosen.clocks]
WITH_DELIMITER = [name for name, chosen in FORMATS.items() if chosen.delimiter]
IMPORTABLE = [name for name, chosen in FORMATS.items() if chosen.importable]

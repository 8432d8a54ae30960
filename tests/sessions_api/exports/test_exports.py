"""The formats of exports: their contents, and texts that try to break them."""

import csv
import re
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from sessions_api.exports import events, table
from sessions_api.exports.reading import MESSAGES, SESSIONS
from sessions_api.exports.timeline import simulated_moment
from sessions_api.exports.writing import ExportOptions, in_pieces
from sessions_api.models import Message
from testing.environment import ROOT
from tests.support.exported import HOSTILE, THEN, change, column, exported, objects, rate, rows, talk
from tests.support.records import add_turns, make_many, make_session

pytestmark = pytest.mark.django_db(transaction=True)


def simulated(moment: Any) -> dict[str, Any]:
    return {"timing_metadata": {"simulated_timestamp": moment}}


# JSON Lines


def test_a_line_has_all_that_the_record_has() -> None:
    session = talk("Oi", "Olá", persona_id="aposentada", metadata={"turma": "b"}, system_prompt="Seja breve.")
    rate(session, 1, "ótima")
    line = objects(exported("jsonl"))[0]
    question, reply = line["messages"]
    assert (line["session_id"], line["owner"], line["persona_id"]) == ("ana", "open", "aposentada")
    assert (line["system_prompt"], line["created_at"]) == ("Seja breve.", "2026-03-01T12:00:00.000000Z")
    assert (question["role"], question["content"], question["metadata"]) == ("user", "Oi", {"turma": "b"})
    assert (reply["cost"], reply["latency_ms"], reply["model"]) == ("0.000123456789", 1500, "test/model")
    assert reply["feedback"] == {"rating": "up", "comment": "ótima", "created_at": "2026-03-01T12:00:00.000000Z"}
    assert "runner" not in reply


def test_what_a_later_turn_replaced_is_marked_in_json_lines_and_left_out_of_the_others() -> None:
    session = talk("velha", "resposta velha", "nova", "resposta nova")
    session.messages.filter(position__lt=2).update(superseded_at=THEN)
    marks = [message["superseded_at"] is not None for message in objects(exported("jsonl"))[0]["messages"]]
    assert marks == [True, True, False, False]
    assert column(exported("csv"), "content") == ["nova", "resposta nova"]
    assert len(rows(exported("csv", superseded=True))) == 4
    assert len(rows(exported("events"))) == exported("xes").count("<event>") == 2
    assert [m["content"] for m in objects(exported("openai", superseded=True))[0]["messages"]] == [
        "nova",
        "resposta nova",
    ]


def test_conversations_come_whole_in_their_order_however_many_and_long_they_are() -> None:
    make_many(SESSIONS + 5)
    for length in (MESSAGES // 2, MESSAGES // 2 + 3, 0, 1):
        session = make_session(f"s{length}", turns=0, message_count=2 * length)
        add_turns(session, length)
    lines = objects(exported("jsonl"))
    assert len(lines) == SESSIONS + 9
    assert [len(line["messages"]) for line in lines[-4:]] == [MESSAGES, MESSAGES + 6, 0, 2]
    for line in lines:
        assert all(after["position"] == before["position"] + 1 for before, after in pairwise(line["messages"]))


def test_queries_are_for_many_sessions_at_once() -> None:
    for _ in range(60):
        rate(make_session(), 1)
    with CaptureQueriesContext(
        connection,
    ) as queries:
        assert len(objects(exported("jsonl"))) == 60
    assert len(queries) <= 6


# Texts with a meaning in a format


def test_hostile_texts_come_through_json_lines_as_they_are() -> None:
    talk(*HOSTILE, system_prompt=HOSTILE[15], title=HOSTILE[17])
    line = objects(exported("jsonl"))[0]
    assert [message["content"] for message in line["messages"]] == HOSTILE
    assert (line["system_prompt"], line["title"]) == (HOSTILE[15], HOSTILE[17])
    assert [m["content"] for m in objects(exported("openai"))[0]["messages"]] == [HOSTILE[15], *HOSTILE]


@pytest.mark.parametrize("name, delimiter", [("csv", ","), ("csv-excel", ";")])
def test_hostile_texts_come_through_csv_and_none_is_a_formula(name: str, delimiter: str) -> None:
    session = talk(*HOSTILE, session_id="-1+1", persona_id="@SUM(1)")
    rate(session, 1, "=1+1")
    text = exported(name)
    cells = [value for row in rows(text, delimiter) for value in row.values()]
    assert not [cell for cell in cells if cell.lstrip("\0\t\r\n \u00a0\u200b\ufeff")[:1] in set("=+-@＝＋－＠")]
    assert [without_guard(cell, delimiter) for cell in column(text, "content", delimiter)] == HOSTILE
    assert column(text, "session_id", delimiter)[0] == "'-1+1"
    assert column(text, "comment", delimiter)[1] == "'=1+1"


def without_guard(cell: str, delimiter: str = ",") -> str:
    """Restores a text as docs/research.md says."""
    shown = re.search(r"(?s)^GAP = .*?(?=^text)", (ROOT / "docs" / "research.md").read_text(), re.MULTILINE)
    assert shown
    known: dict[str, Any] = {"re": re}
    exec(shown[0], known)  # noqa: S102 - our own page
    later = known["LATER"] if delimiter == "," else re.compile(known["LATER"].pattern.replace("[;", "[,;", 1))
    return str(later.sub(r"\1", cell[1:] if known["FIRST"].match(cell) else cell))


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("separator", [";", "\t", "\n", "\r", ",", "\r\n"])
def test_no_cell_is_a_formula_where_another_separator_is_read(separator: str, delimiter: str) -> None:
    gaps, signs = ["", " ", '"', '""', "\ufeff", "\u200b", " \0", "'", "''", "\t ", '" "'], "=+-@＝−"
    said = [f"Oi{separator * count}{gap}{sign}1+1" for count in (1, 2) for gap in gaps for sign in signs]
    said += [f"{gap}{separator}{gap}=1" for gap in gaps] + [f"{text}{separator}{text}" for text in said[:20]]
    style = table.PLAIN.separated_by(delimiter)
    written = "".join(table.lines(["a", "b"], [[text, text] for text in said], style))
    for read_at in (",", ";", "\t", delimiter):
        cells = [
            cell for line in re.split("[\r\n]", written) for cell in next(csv.reader([line], delimiter=read_at), [])
        ]
        assert not [cell for cell in cells if cell.lstrip(' \0"\ufeff\u200b\t')[:1] in set("=+-@＝−")]
    assert [without_guard(table.cell(text, style), delimiter) for text in said] == said


def test_a_csv_begins_with_a_byte_order_mark_and_an_event_log_does_not() -> None:
    assert exported("csv").startswith("\ufeffcase_id,message_id,session_id,")
    assert exported("events").startswith("CASE_ID,EVENT_ID,ACTIVITY,START_TIMESTAMP,END_TIMESTAMP,RECURSO,AGENTE\r\n")


def test_excel_in_portuguese_finds_numbers_dates_and_words_of_its_own() -> None:
    session = talk("Quanto é 1,5; e 2?", "É\nassim", title="Açaí")
    change(session, 1, usage_estimated=True, completed_at=THEN + timedelta(microseconds=1_999_999))
    text = exported("csv-excel")
    assert text.startswith("\ufeffcase_id;message_id;session_id;")
    assert text.count("\r\n") == 3
    question, reply = rows(text, ";")
    assert (question["content"], question["title"], question["cost"]) == ("Quanto é 1,5; e 2?", "Açaí", "")
    assert (reply["content"], reply["cost"], reply["usage_estimated"]) == ("É\nassim", "0,000123456789", "VERDADEIRO")
    assert (reply["created_at"], reply["completed_at"]) == ("2026-03-01 12:00:00", "2026-03-01 12:00:01")
    assert (question["usage_estimated"], reply["latency_ms"], reply["superseded_at"]) == ("FALSO", "1500", "")
    assert [{**row, "content": ""}.keys() for row in rows(exported("csv"))] == [question.keys(), reply.keys()]


@pytest.mark.parametrize("delimiter", [";", "\t", "|", ":", ".", ","])
def test_another_delimiter_changes_no_cell(delimiter: str) -> None:
    talk("a;b|c:d.e,f\tg", 'aspas "e" mais', metadata={"a": [1, 2]})
    for name in ("csv", "events"):
        usual, other = exported(name), exported(name, ExportOptions(delimiter=delimiter))
        assert rows(other, delimiter) == rows(usual)
    other = exported("csv-excel", ExportOptions(delimiter=delimiter))
    assert rows(other, delimiter) == rows(exported("csv-excel"), ";")


def test_an_ordinary_text_stays_as_it_is() -> None:
    for text in ("Olá", "1-2", "a=b", "10%", "“=”", "", "…"):
        assert table.cell(text) == text


# Fine-tuning


def test_fine_tuning_takes_completed_turns_alone() -> None:
    session = talk("um", "r1", "dois", "r2", "três", "r3", "quatro", "", system_prompt="Seja breve.")
    change(session, 3, status="cancelled")
    talk("só", "parcial", session_id="outra")
    Message.objects.filter(session__session_id="outra", position=1).update(status="interrupted")
    options = ExportOptions()
    assert objects(exported("openai", options)) == [
        {
            "messages": [
                {"role": "system", "content": "Seja breve."},
                {"role": "user", "content": "um"},
                {"role": "assistant", "content": "r1"},
                {"role": "user", "content": "três"},
                {"role": "assistant", "content": "r3"},
            ]
        }
    ]
    counts = options.counts
    assert (counts.conversations, counts.messages) == (1, 4)
    assert (counts.conversations_left_out, counts.messages_left_out) == (1, 6)


# Events


def test_a_conversation_is_a_case_and_a_message_an_event() -> None:
    talk("Oi", "Olá", persona_id="ana-72")
    assert exported("events").split("\r\n")[1:] == [
        "ana,turno0.0,Cliente envia mensagem,2026-03-01T12:00:00.000000Z,2026-03-01T12:00:00.000000Z,ana-72,cliente",
        "ana,turno0.1,BancoBot responde,2026-03-01T12:00:00.000000Z,2026-03-01T12:00:01.500000Z,test/model,bot",
        "",
    ]


def test_a_reply_s_end_has_its_own_activity_and_a_running_one_is_no_event_yet() -> None:
    session = talk(*["texto"] * 10)
    for position, status in ((1, "failed"), (3, "cancelled"), (5, "interrupted"), (9, "pending")):
        change(session, position, status=status)
    told = [row["ACTIVITY"] for row in rows(exported("events")) if row["AGENTE"] == "bot"]
    assert told == ["Resposta falha", "Resposta cancelada", "Resposta interrompida", "BancoBot responde"]


def test_who_has_no_persona_and_no_model_is_called_by_its_kind() -> None:
    session = talk("Oi", "Olá")
    change(session, 1, model="")
    assert column(exported("events"), "RECURSO") == ["cliente", "bot"]


def test_two_sessions_with_one_id_are_two_cases() -> None:
    first, second = talk("Oi", "Olá"), talk("Oi", "Olá", owner="client:outro")
    talk("Oi", "Olá", session_id="única")
    cases = [f"ana#{first.pk}"] * 2 + [f"ana#{second.pk}"] * 2 + ["única"] * 2
    assert column(exported("events"), "CASE_ID") == column(exported("csv"), "case_id") == cases
    assert column(exported("events", owner="client:outro"), "CASE_ID") == cases[2:4]


@pytest.mark.parametrize(
    "told",
    [
        "2025-12-24T18:00:00", "2025-12-24T18:00:00Z", "2025-12-24T15:00:00-03:00", "2025-12-24 18:00:00",
        1766599200, 1766599200.0, 1766599200000, "1766599200",
    ],
)  # fmt: skip
def test_the_simulated_clock_is_read_in_all_its_forms(told: Any) -> None:
    talk("Oi", "Olá", metadata=simulated(told))
    row = rows(exported("events", ExportOptions(simulated=True)))[1]
    times = ("2025-12-24T18:00:00.000000Z", "2025-12-24T18:00:01.500000Z")
    assert (row["START_TIMESTAMP"], row["END_TIMESTAMP"]) == times


@pytest.mark.parametrize(
    "told",
    [None, True, [], {}, "", "ontem", "2025-13-01", "nan", 1e400, -1e300, "9999-12-31", "0001-01-01", "9" * 5000],
)
def test_what_is_no_moment_is_none(told: Any) -> None:
    assert simulated_moment(simulated(told)) is None
    assert simulated_moment({"timing_metadata": told}) is None


def test_a_question_without_a_simulated_moment_comes_after_those_before_it() -> None:
    session = talk("a", "ra", "b", "rb", "c", "rc")
    change(session, 2, metadata=simulated("2025-12-24T18:00:00"))
    options = ExportOptions(simulated=True)
    starts = column(exported("events", options), "START_TIMESTAMP")
    assert starts == [f"2025-12-24T18:0{minute}:00.000000Z" for minute in (0, 0, 1, 1)]
    assert (options.counts.messages, options.counts.messages_left_out) == (4, 2)


@pytest.mark.parametrize("name", ["events", "xes"])
def test_what_would_be_at_the_end_of_time_has_no_place_on_the_simulated_clock(name: str) -> None:
    session = talk("a", "ra", "b", "rb", metadata=simulated("9998-06-01"))
    change(session, 2, metadata={}, created_at=THEN + timedelta(days=26 * 365))
    options = ExportOptions(simulated=True)
    exported(name, options)
    assert (options.counts.messages, options.counts.messages_left_out) == (3, 1)


def test_conversations_without_a_simulated_clock_are_left_out_and_counted() -> None:
    talk("Oi", "Olá")
    for name in ("events", "xes"):
        options = ExportOptions(simulated=True)
        exported(name, options)
        assert (options.counts.conversations, options.counts.conversations_left_out) == (0, 1)
        assert options.counts.messages_left_out == 2


def test_columns_are_those_that_the_tools_read() -> None:
    assert events.COLUMNS == (
        "CASE_ID", "EVENT_ID", "ACTIVITY", "START_TIMESTAMP", "END_TIMESTAMP", "RECURSO", "AGENTE",
    )  # fmt: skip


# Pieces


def test_pieces_are_large_and_the_text_is_whole() -> None:
    texts = [f"linha {number} é\n" for number in range(20_000)]
    pieces = list(in_pieces(texts))
    assert b"".join(pieces).decode() == "".join(texts)
    assert 32_768 <= min(map(len, pieces[:-1])) <= max(map(len, pieces)) < 50_000


def test_a_turn_that_ends_while_it_is_exported_leaves_totals_and_messages_that_agree() -> None:
    session = talk("Oi", "Olá", at=THEN + timedelta(days=1))
    session.message_count = 0
    session.save(update_fields=["message_count"])  # as seen by a reader of the older session row
    talk("Oi", "Olá", session_id="outra")
    assert [len(line["messages"]) for line in objects(exported("jsonl"))] == [0, 2]

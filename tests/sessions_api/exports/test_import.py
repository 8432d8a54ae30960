"""manage.py import_sessions: the same conversations again, and nothing of an invalid line."""

import io
import json
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from access.models import AuditEntry
from sessions_api.exports import jsonl
from sessions_api.exports.reading import Conversation, Said
from sessions_api.exports.writing import ExportOptions
from sessions_api.imports.checking import Refused, conversation_in
from sessions_api.imports.storing import BATCH
from sessions_api.models import Message, Session
from tests.support.exported import HOSTILE, THEN, change, exported, objects, rate, talk
from tests.support.records import add_turns, make_session

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "conversas.jsonl"


def load(file: Path, *arguments: str) -> str:
    out = io.StringIO()
    call_command("import_sessions", str(file), *arguments, stdout=out)
    return out.getvalue()


def refused(file: Path) -> str:
    """The messages about refused lines; the command fails."""
    err = io.StringIO()
    with pytest.raises(CommandError, match="refused") as problem:
        call_command("import_sessions", str(file), stderr=err)
    return err.getvalue() + str(problem.value)


def a_line(**changed: Any) -> dict[str, Any]:
    """The export of a conversation; the database is empty afterwards."""
    talk("Oi", "Olá")
    line = objects(exported("jsonl"))[0] | changed
    Session.objects.all().delete()
    return line


def write(file: Path, *lines: Any) -> Path:
    file.write_text("".join(line if isinstance(line, str) else f"{json.dumps(line)}\n" for line in lines))
    return file


def test_what_is_imported_into_an_empty_database_is_exported_as_it_was(file: Path) -> None:
    session = talk(*HOSTILE, persona_id="p", metadata={"z": [1, 2.5, None], "a": {"é": "=1"}}, forked_from="turno9")
    rate(session, 1, HOSTILE[0])
    change(session, 2, superseded_at=THEN, metadata={"y": 1, "x": 2})
    change(session, 3, status="failed", error_code="provider_error", may_have_been_billed=True, cost=None)
    talk("Oi", "Olá", session_id="fechada", closed_at=THEN, owner="client:outro")
    long = make_session("longa", turns=0, message_count=2 * BATCH + 2)
    add_turns(long, BATCH + 1)
    make_session("vazia", turns=0, message_count=0)
    before = exported("jsonl")
    file.write_text(before)
    Session.objects.all().delete()
    assert load(file) == f"Imported 4 conversations ({len(HOSTILE) + 2 * BATCH + 4} messages); 0 were there already.\n"
    assert exported("jsonl") == before
    assert Session.objects.get(session_id="ana").superseded_count == 1
    assert AuditEntry.objects.filter(action="sessions.imported", details={"sessions": 4}).count() == 1


def test_nobody_ran_what_was_imported_so_it_is_in_no_statistics(file: Path) -> None:
    load(write(file, a_line()))
    assert set(Message.objects.values_list("runner", flat=True)) == {""}


def test_what_is_there_already_is_skipped_and_counted(file: Path) -> None:
    talk("Oi", "Olá")
    talk("Oi", "Olá", session_id="fechada", closed_at=THEN)
    before = exported("jsonl")
    file.write_text(before + before)
    for _ in range(2):
        assert load(file) == "Imported 0 conversations (0 messages); 4 were there already.\n"
    assert exported("jsonl") == before


def test_an_open_session_of_the_same_name_is_not_touched_and_a_closed_one_is_no_hindrance(file: Path) -> None:
    line = a_line()
    talk("outra", "coisa", at=THEN + timedelta(days=1))
    assert "0 conversations (0 messages); 1 were" in load(write(file, line))
    Session.objects.update(closed_at=THEN)
    assert "1 conversations (2 messages); 0 were" in load(file)


def test_another_owner_may_get_them(file: Path) -> None:
    talk("Oi", "Olá")
    file.write_text(exported("jsonl"))
    assert load(file, "--owner=client:outro").startswith("Imported 1 ")
    assert list(Session.objects.order_by("pk").values_list("owner", flat=True)) == ["open", "client:outro"]


def test_a_turn_that_was_running_is_interrupted_here(file: Path) -> None:
    line = a_line()
    line["messages"][1] |= {"status": "pending", "completed_at": None}
    load(write(file, line))
    reply = Message.objects.get(position=1)
    assert (reply.status, reply.error_code, reply.may_have_been_billed) == ("interrupted", "turn_interrupted", True)
    assert reply.completed_at == reply.created_at


def test_what_a_line_leaves_out_has_its_usual_value(file: Path) -> None:
    moment = "2026-03-01T09:00:00-03:00"
    message = {"position": 0, "turn_id": "t", "role": "user", "content": "Oi", "status": "completed"}
    session = {"version": 1, "session_id": "ana", "owner": "open", "last_activity_at": moment}
    line = session | {"created_at": moment, "messages": [message | {"created_at": "2026-03-01 12:00"}]}
    load(write(file, line))
    stored = Message.objects.select_related("session").get()
    assert stored.created_at == stored.session.created_at == THEN
    assert (stored.session.title, stored.model, stored.cost, stored.metadata) == ("", "", None, {})


def test_a_byte_order_mark_and_empty_lines_do_no_harm(file: Path) -> None:
    file.write_text(f"\ufeff{json.dumps(a_line())}\r\n\n \n")
    assert load(file).startswith("Imported 1 ")


def message_with(**changed: Any) -> Any:
    return lambda line: line["messages"][1].update(changed)


def session_with(**changed: Any) -> Any:
    return lambda line: line.update(changed)


WRONG = {
    "no version": (session_with(version=2), "it is no conversation of version 1"),
    "id": (session_with(session_id="a b"), "session_id: not 1 to 128 characters"),
    "id that is a number": (session_with(session_id=7), "session_id: not a text"),
    "no owner": (session_with(owner=""), "owner: empty"),
    "title": (session_with(title="x" * 201), "title: longer than 200 characters"),
    "moment": (session_with(created_at="ontem"), "created_at: not a moment"),
    "later than tomorrow": (session_with(last_activity_at="9999-01-01"), "last_activity_at: not between 1970 and"),
    "before 1970": (session_with(last_activity_at="1969-12-31"), "last_activity_at: not between 1970 and"),
    "moment of a message": (message_with(completed_at="2999-01-01"), "messages[1].completed_at: not between"),
    "turn": (message_with(turn_id="a/b"), "messages[1].turn_id: not 1 to 32 characters"),
    "no turn": (message_with(turn_id=""), "messages[1].turn_id: not 1 to 32 characters"),
    "turn in two lines": (message_with(turn_id="a\n"), "messages[1].turn_id: not 1 to 32 characters"),
    "origin": (session_with(forked_from="../x"), "forked_from: not 1 to 32 characters"),
    "moment as number": (session_with(created_at=5), "created_at: not a moment"),
    "metadata": (session_with(metadata=[]), "metadata: not an object"),
    "huge number": (session_with(prompt_tokens=2**63), "prompt_tokens: not a whole number"),
    "no messages": (session_with(messages=None), "messages: not a list"),
    "text as message": (session_with(messages=["Oi"]), "messages[0]: not an object"),
    "same position": (message_with(position=0), "messages[1].position: not 1"),
    "position as flag": (message_with(position=True), "messages[1].position: not a whole number"),
    "content": (message_with(content=None), "messages[1].content: not a text"),
    "role": (message_with(role="hacker"), "messages[1].role: none of system, user, assistant, tool"),
    "status as list": (message_with(status=["failed"]), "messages[1].status: none of"),
    "negative": (message_with(latency_ms=-1), "messages[1].latency_ms: not a whole number"),
    "fraction": (message_with(prompt_tokens=1.5), "messages[1].prompt_tokens: not a whole number"),
    "flag": (message_with(usage_estimated=1), "messages[1].usage_estimated: neither true nor false"),
    "cost as number": (message_with(cost=0.5), "messages[1].cost: not an amount"),
    "huge cost": (message_with(cost="1" * 9), "messages[1].cost: not an amount"),
    "cost in words": (message_with(cost="NaN"), "messages[1].cost: not an amount"),
    "feedback": (message_with(feedback="up"), "messages[1].feedback: not an object"),
    "rating": (message_with(feedback={"rating": "5"}), "messages[1].feedback.rating: none of up, down"),
    "NUL": (message_with(content="a\0b"), "it is no JSON that could be stored"),
    "half a character": (message_with(metadata={"\ud800": 1}), "it is no JSON that could be stored"),
}
NO_JSON = {
    "no JSON": b"SEGREDO",
    "no object": b"[]",
    "cut": b'{"version": 1, "session_id": "SEGRE',
    "not a number": b'{"version": NaN}',
    "beyond all numbers": b'{"version": 1e999}',
    "digits": b'{"version": ' + b"9" * 5000 + b"}",
    "deep": b"[" * 100_000,
    "no text": b"\x00\x01\xff\xfe",
}


def whole_line() -> dict[str, Any]:
    """The line of a conversation that is in no database."""
    session = Session(session_id="ana", owner="open", created_at=THEN, last_activity_at=THEN, cost=Decimal())
    of_all: dict[str, Any] = {"session": session, "turn_id": "t", "created_at": THEN, "status": "completed"}
    messages = [Message(position=0, role="user", **of_all), Message(position=1, role="assistant", **of_all)]
    said = (Said(message, None) for message in messages)
    return objects("".join(jsonl.write([Conversation(session, "ana", said)], ExportOptions())))[0]


@pytest.mark.parametrize("how", WRONG)
def test_a_line_that_is_wrong_is_refused_for_a_reason(how: str) -> None:
    (harm, reason), line = WRONG[how], whole_line()
    assert conversation_in(json.dumps(line).encode())[0].session_id == "ana"
    harm(line)
    with pytest.raises(Refused) as refusal:
        conversation_in(json.dumps(line).encode())
    assert str(refusal.value).startswith(reason)


@pytest.mark.parametrize("how", NO_JSON)
def test_what_is_no_conversation_is_refused_and_not_quoted(how: str) -> None:
    with pytest.raises(Refused, match=r"^it is no ") as refusal:
        conversation_in(NO_JSON[how])
    assert "SEGRE" not in str(refusal.value)


def test_wrong_lines_are_named_nothing_of_them_is_stored_and_all_others_are(file: Path) -> None:
    good, bad = a_line(), a_line(session_id="ruim")
    bad["messages"][1]["position"] = 0
    said = refused(write(file, good, bad, "SEGREDO\n", good | {"session_id": "depois"}))
    assert said.startswith("line 2: messages[1].position: not 1, as its place in the list says\nline 3: it is no JSON")
    assert "Imported 2 conversations (4 messages); 0 were there already. 2 lines were refused." in said
    assert [session.session_id for session in Session.objects.order_by("pk")] == ["ana", "depois"]
    assert Message.objects.count() == 4


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="could not be read: No such file"):
        load(tmp_path / "nada.jsonl")


def test_an_owner_that_no_column_holds_is_refused(file: Path) -> None:
    for owner in ("", "x" * 81):
        with pytest.raises(CommandError, match="1 to 80"):
            load(write(file, a_line()), f"--owner={owner}")
    assert Session.objects.count() == 0

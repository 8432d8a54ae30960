"""Searching gives the same on both databases, under any collation, and after a dump came back."""

import os
import subprocess
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from django.db import connection
from django.utils import timezone

from sessions_api import search
from sessions_api.models import Message, Session
from sessions_api.retention import erasure
from testing import postgres
from testing.service import manage
from tests.sessions_api.test_search import found, saying

pytestmark = pytest.mark.django_db(transaction=True)
on_sqlite = pytest.mark.skipif("connection.vendor != 'sqlite'", reason="SQLite's index")
on_postgresql = pytest.mark.skipif("connection.vendor != 'postgresql'", reason="PostgreSQL's functions")

# What was said, what of it is found, and what is not.
ALIKE: dict[str, tuple[list[str], list[str]]] = {
    "Olá🙂mundo": (["olá ", "mundo ", "OLA ", "🙂mundo "], ["olamundo "]),
    "✅feito ⚡rápido →seta": (["feito ", "rapido ", "seta "], []),
    "👩🏽\u200d💻dev": (["dev "], []),
    "€50 ou R$ 1.234,56": (["50 ", "1.234,56 ", "1 234 56 ", "r$ 1.234 ", "1234,56 ", "1234"], ["1235 "]),
    "R$ 98765,43": (["98.765,43 ", "98765 ", "98.765 "], ["98.766 "]),
    "CPF 123.456.789-09": (["123.456.789-09 ", "123 456 789 09 ", "cpf ", "cpf 12345678909"], ["12345678900 "]),
    "CPF 98765432100": (["987.654.321-00 ", "987654321-00", "98765432100 "], ["987.654.321-01 "]),
    "CNPJ 12.345.678/0001-95, CEP 01310-100": (["12345678000195 ", "01310100", "cep 01310-100 "], []),
    "tel. +55 (11) 98765-4321": (["11987654321 ", "5511987654321 ", "987654321 ", "98765-4321"], []),
    "até 27/11/2026": (["27112026 ", "27-11-2026 ", "27.11.2026"], ["28112026 "]),
    "Conta 00012-3": (["00012-3 ", "00012 3 "], ["12 "]),
    "Ação AÇÃO a\u00e7a\u0303o": (["acao ", "AÇÃO ", "ac\u0327a\u0303o "], []),
    "ΟΔΟΣ": (["οδος ", "οδοσ "], []),
    "МОСКВА": (["москва "], []),
    "São João d'Água": (["joao ", "agua ", "d'agua "], []),
    "c++ e c# (v2.0)": (["c ", "v2 ", "v2.0 "], []),
    "snake_case meu-nome@bank.example": (["snake ", "case ", "nome ", "bank "], []),
    "№ 5 – «aspas» “duplas”…fim": (["5 ", "aspas ", "duplas ", "fim "], []),
    "日本語のテスト": (["日本語のテスト ", "日本語"], []),
    "x\u0302y i\u0307stanbul": (["x\u0302y ", "X\u0302Y", "istanbul ", "İstanbul ", "i\u0307stanbul"], []),
    "f0" * 64 + " fim" * 600: (["f0" * 64, "F0" * 64 + " ", "f0" * 64 + " fim "], ["e0" * 64]),
    "Straße ŒUVRE": (["straße ", "œuvre "], []),
}  # fmt: skip


def test_words_are_the_same_on_both_databases() -> None:
    for number, said in enumerate(ALIKE):
        saying(f"s{number}", said, owner=f"byok:{number}")
    for number, (yes, no) in enumerate(ALIKE.values()):
        for text in yes:
            assert found(text, f"byok:{number}") == [f"s{number}"], text
        for text in no:
            assert found(text, f"byok:{number}") == [], text


def test_what_others_say_crowds_out_no_word_of_an_owner() -> None:
    saying("meu", "saldo e saldinho", owner="byok:a")
    crowd = [f"sald{letter}{digit}" for letter in "abcdefghijklmnopqrstuvwxyz" for digit in range(20)]
    for number in range(3):
        saying(f"s{number}", " ".join(crowd), owner="byok:b")
    for typed in ("sald", "saldi", "sal", "e sald"):
        assert found(typed, "byok:a") == ["meu"], typed
    assert found("salda1", "byok:a") == []
    assert found("salda1", "byok:b") == ["s0", "s1", "s2"]


@on_sqlite
@pytest.mark.parametrize("then", ["caught up", "erased", "changed"])
def test_what_is_superseded_leaves_the_index_later_and_wholly(then: str) -> None:
    session = saying("a", "primeira", "segunda", "terceira")
    saying("b", "segunda")
    search.catch_up(60)
    session.messages.filter(position__gte=1).update(superseded_at=timezone.now())
    assert count("sessions_api_outdated") == 2
    if then == "erased":
        erasure.erase(Session.objects.filter(pk=session.pk))
    elif then == "changed":
        Message.objects.filter(session=session).update(content="quarta")
    search.catch_up(60)
    assert count("sessions_api_outdated") == 0
    assert found("segunda ") == ["b"]
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO sessions_api_words(sessions_api_words) VALUES ('integrity-check')")
        cursor.execute("SELECT count(*) FROM sessions_api_vocabulary WHERE term IN ('segunda', 'terceira')")
        assert cursor.fetchone() == (1,)


@on_sqlite
def test_what_was_never_indexed_need_not_leave_the_index() -> None:
    session = saying("a", "primeira", "segunda")
    session.messages.filter(position=1).update(superseded_at=timezone.now())
    assert (count("sessions_api_outdated"), count("sessions_api_unindexed")) == (0, 1)


def count(table: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM {table}")
        return int(cursor.fetchone()[0])


# PostgreSQL


@pytest.fixture
def other() -> Iterator[str]:
    """The URL of another database, with the collation of the C programming language."""
    url = postgres.create_database(os.environ["DATABASE_URL"])
    name = url.rpartition("/")[2]
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as server:
        server.execute(f'DROP DATABASE "{name}"'.encode())
        server.execute(
            f"CREATE DATABASE \"{name}\" ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0".encode()
        )
    yield url
    postgres.drop_database(url)


def program(name: str, *arguments: str) -> str:
    ended = subprocess.run([postgres.binaries() / name, *arguments], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


SAID = "ÁGUA МОСКВА🙂 ÖDE"
ADD = """
INSERT INTO public.sessions_api_session (owner, session_id, title, model, system_prompt, persona_id, metadata,
    created_at, last_activity_at, message_count, prompt_tokens, completion_tokens, cost)
VALUES ('open', 'novo', 'Título novo', '', '', '', '{}', now(), now(), 1, 0, 0, 0)
"""
SAY = """
INSERT INTO public.sessions_api_message (session_id, position, turn_id, role, content, status, metadata, created_at)
SELECT id, 0, 't', 'user', %s, 'completed', '{}', now() FROM public.sessions_api_session WHERE session_id = 'novo'
"""
WORDS_FIRST = """
INSERT INTO public.sessions_api_messagewords
SELECT id, 0, 'before' FROM public.sessions_api_session WHERE session_id = 'novo'
"""


def words_in(url: str) -> list[Any]:
    with psycopg.connect(url) as server:
        rows = server.execute("SELECT s.session_id, w.position, w.words::text FROM sessions_api_messagewords w "
                              "JOIN sessions_api_session s ON s.id = w.session_id ORDER BY 1, 2")  # fmt: skip
        return rows.fetchall()


@on_postgresql
def test_letters_are_folded_alike_where_the_database_knows_only_ascii(other: str) -> None:
    migrated = manage({"DATABASE_URL": other, "SECRET_KEY": "x" * 50}, "migrate", "--verbosity=0")
    assert migrated.returncode == 0, migrated.stderr
    with psycopg.connect(other) as server:
        [(words,)] = server.execute("SELECT sessions_api_words(%s)", [SAID]).fetchall()
    assert words == ["agua", "москва", "ode"]


@on_postgresql
@pytest.mark.parametrize("way", ["in one", "in two"])
def test_a_dump_comes_back_whole_and_its_triggers_work(other: str, tmp_path: Any, way: str) -> None:
    here, dump = os.environ["DATABASE_URL"], tmp_path / "dump"
    here = here.rpartition("/")[0] + "/" + str(connection.settings_dict["NAME"])
    saying("a", SAID, "segunda", "terceira", title="Título")
    if way == "in one":
        program("pg_dump", "--format=custom", f"--file={dump}", here)
        program("pg_restore", "--no-owner", f"--dbname={other}", str(dump))
    else:
        for part in ("--schema-only", "--data-only"):
            program("pg_dump", part, "--format=custom", f"--file={dump}", here)
            program("pg_restore", part, "--no-owner", f"--dbname={other}", str(dump))
    before = words_in(here)
    assert len(before) == 4
    assert words_in(other) == before
    with psycopg.connect(other) as server:
        server.execute("SELECT set_config('search_path', '', false)")
        server.execute(ADD.encode())
        server.execute(WORDS_FIRST.encode())
        server.execute(SAY.encode(), [SAID])
        server.execute("UPDATE public.sessions_api_session SET title = 'Outro' WHERE session_id = 'a'")
        server.execute("DELETE FROM public.sessions_api_message WHERE content = 'segunda'")
        server.execute("ALTER SCHEMA public RENAME TO elsewhere")
        server.execute("UPDATE elsewhere.sessions_api_message SET content = 'bem 🙂longe' WHERE content = 'terceira'")
        server.execute("UPDATE elsewhere.sessions_api_session SET title = 'Longe' WHERE session_id = 'novo'")
        server.execute("ALTER SCHEMA elsewhere RENAME TO public")
    after = {(session, position): words for session, position, words in words_in(other)}
    assert after["novo", 0] == "'=open' 'agua' 'ode' 'москва'"
    assert after["novo", -1] == "'=open' 'longe'"
    assert after["a", 2] == "'=open' 'bem' 'longe'"
    assert after["a", -1] == "'=open' 'outro'"
    assert ("a", 1) not in after

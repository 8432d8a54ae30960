"""manage.py export_sessions: the selection and the output."""

import io
import os
import pty
import stat
import subprocess
import sys
import termios
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command

from access import clients
from access.models import AuditEntry, Client
from testing.environment import ROOT, clean_environment
from tests.support.exported import THEN, change, objects, talk

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "saída.jsonl"


def export(file: Path, *arguments: str, **options: Any) -> str:
    out, err = io.StringIO(), io.StringIO()
    call_command("export_sessions", "--format=jsonl", f"--output={file}", *arguments, stdout=out, stderr=err)
    return out.getvalue() + err.getvalue()


def chosen(file: Path, *arguments: str) -> list[str]:
    export(file, *arguments)
    return [line["session_id"] for line in objects(file.read_text())]


def test_it_writes_the_file_and_says_how_much_it_was(file: Path) -> None:
    talk("Oi", "Olá", "E?", "Sim")
    talk("Oi", "Olá", session_id="bia")
    assert export(file) == "Exported 2 conversations (6 messages).\n"
    assert [line["session_id"] for line in objects(file.read_text())] == ["ana", "bia"]


def test_the_file_is_its_owner_s_alone_and_nothing_else_is_left(file: Path) -> None:
    file.write_text("velho")
    export(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.read_text() == ""
    assert list(file.parent.iterdir()) == [file]


def test_a_failure_leaves_the_old_file_and_no_other(file: Path) -> None:
    file.write_text("velho")
    session = talk("Oi", "Olá")
    change(session, 1, status="desconhecido")
    with pytest.raises(ValueError, match="desconhecido"):
        call_command("export_sessions", "--format=events", f"--output={file}")
    assert file.read_text() == "velho"
    assert list(file.parent.iterdir()) == [file]


def test_cells_are_separated_as_one_likes(file: Path) -> None:
    for sign in (",", ";", "|", ":", "\t", "tab", "\\t", "^", "~"):
        export(file, "--format=events", f"--delimiter={sign}")
        assert file.read_text().count("\t" if sign in ("tab", "\\t") else sign) == 6


def test_what_would_break_a_table_separates_nothing(file: Path) -> None:
    for sign in ("", ";;", *"aZ0é\"'\n\r\0 =+-@；\u00a0\ufeff", "TAB", "\\n"):
        with pytest.raises(CommandError, match="--delimiter: one sign such as"):
            export(file, "--format=csv", f"--delimiter={sign}")
    assert not file.exists()


@pytest.mark.parametrize("name", ["não/existe.jsonl", ""])
def test_a_place_that_cannot_be_written_to_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(CommandError, match="could not be written"):
        export(tmp_path / name)


def test_what_the_simulated_clock_has_no_place_for_is_counted(file: Path) -> None:
    talk("Oi", "Olá")
    said = export(file, "--format=events", "--clock=simulated")
    assert said == (
        "Exported 0 conversations (0 messages). Left out: 2 messages (no simulated timestamp, or a reply that is still "
        "in the making), and so 1 conversation.\n"
    )


def test_the_audit_log_says_so_and_names_no_values(file: Path) -> None:
    talk("Oi", "Olá")
    export(file, "--metadata=cpf=123", "--persona=SEGREDO")
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.actor) == ("sessions.exported", "command")
    assert entry.details == {"format": "jsonl", "filters": ["persona", "metadata"], "sessions": 0}


# Selection


def test_by_time_of_the_last_question(file: Path) -> None:
    for day in range(3):
        talk("Oi", "Olá", session_id=f"dia{day}", at=THEN + timedelta(days=day))
    assert chosen(file, "--since=2026-03-02") == ["dia1", "dia2"]
    assert chosen(file, "--until=2026-03-02T09:00:00-03:00") == ["dia0"]
    assert chosen(file, "--since=2026-03-02", "--until=2026-03-03") == ["dia1"]


def test_by_owner_and_client(file: Path) -> None:
    client = Client(name="Enxame")
    clients.create(client, clients.COMMAND)
    talk("Oi", "Olá")
    talk("Oi", "Olá", session_id="dele", owner=client.owner)
    assert chosen(file, "--client=Enxame") == chosen(file, f"--owner={client.owner}") == ["dele"]
    assert chosen(file, "--owner=open") == ["ana"]
    with pytest.raises(CommandError, match="no client called"):
        export(file, "--client=Ninguém")


def test_by_persona_model_session_and_state(file: Path) -> None:
    talk("Oi", "Olá", persona_id="p1")
    change(talk("Oi", "Olá", session_id="bia", closed_at=THEN), 1, model="outro/modelo", status="failed")
    assert (
        chosen(file, "--persona=p1") == chosen(file, "--model=test/model") == chosen(file, "--status=open") == ["ana"]
    )
    assert chosen(file, "--model=outro/modelo") == chosen(file, "--reply-status=failed") == ["bia"]
    assert chosen(file, "--status=closed") == chosen(file, "--session=bia", "--session=carla") == ["bia"]


@pytest.mark.parametrize(
    "filter, found",
    [
        ("turma", ["a", "b", "c", "d"]), ("turma=x", ["a"]), ("turma=7", ["b"]), ("turma=true", ["c"]),
        ("turma=", []), ("turma__contains=x", []), ("outra", []), ("7", ["e"]), ("a.b c=1", ["f"]),
    ],
)  # fmt: skip
def test_by_metadata_of_the_session(file: Path, filter: str, found: list[str]) -> None:  # noqa: A002 - the option's word
    kinds = [{"turma": "x"}, {"turma": 7}, {"turma": True}, {"turma": None}, {"7": "x"}, {"a.b c": 1}, {}]
    for name, metadata in zip("abcdefg", kinds, strict=True):
        session = talk("Oi", "Olá", session_id=name)
        session.metadata = metadata
        session.save()
    assert chosen(file, f"--metadata={filter}") == found


@pytest.mark.parametrize("wrong", ["--since=ontem", "--metadata==x", "--metadata=7=x", "--status=pending", "--clock=x"])
def test_what_means_nothing_is_refused(file: Path, wrong: str) -> None:
    with pytest.raises(CommandError):
        export(file, wrong)
    assert not file.exists()


# As a program


def run(*arguments: str, stderr: int = subprocess.PIPE) -> "subprocess.Popen[bytes]":
    database = settings.DATABASES["default"]
    if database["ENGINE"].endswith("sqlite3"):
        url = f"sqlite:///{database['NAME']}"
    else:
        place = f"{database['HOST']}:{database['PORT']}/{database['NAME']}"
        url = f"postgresql://{database['USER']}:{database['PASSWORD']}@{place}"
    return subprocess.Popen(
        [sys.executable, "manage.py", "export_sessions", *arguments],
        cwd=ROOT,
        env=clean_environment(DATABASE_URL=url, SECRET_KEY="x" * 50),
        stdout=subprocess.PIPE,
        stderr=stderr,
    )


def test_on_standard_output_there_is_nothing_but_the_export() -> None:
    talk("Olá", "€" * 1_000_000)
    out, err = run("--format=jsonl", "--output=-").communicate()
    assert objects(out.decode())[0]["messages"][1]["content"] == "€" * 1_000_000
    assert err.decode() == "Exported 1 conversation (2 messages).\n"


def test_a_reader_that_goes_away_ends_it_in_a_sentence() -> None:
    talk("Oi", "x" * 5_000_000)
    with run("--format=csv", "--output=-") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read().decode() == "CommandError: The reader of standard output went away.\n"
    assert process.returncode == 1


def test_a_terminal_sees_how_far_it_is(file: Path) -> None:
    talk("Oi", "Olá")
    terminal, stderr = pty.openpty()
    termios.tcsetwinsize(stderr, (24, 80))
    run("--format=jsonl", f"--output={file}", stderr=stderr).communicate()
    drawn = os.read(terminal, 10_000).decode()
    os.close(stderr)
    os.close(terminal)
    assert "0%" in drawn
    assert "0/2 [" in drawn
    assert drawn.endswith("\r")  # the bar is removed


def test_a_pipe_is_written_to_and_stays_a_pipe(file: Path) -> None:
    talk("Oi", "Olá")
    os.mkfifo(file)
    with ThreadPoolExecutor() as pool:
        read = pool.submit(file.read_text)
        export(file)
        assert [line["session_id"] for line in objects(read.result(10))] == ["ana"]
    assert file.is_fifo()

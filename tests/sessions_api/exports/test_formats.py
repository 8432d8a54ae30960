"""What FORMATS says of each format is true."""

import io
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from sessions_api.exports.formats import FORMATS, Format
from sessions_api.exports.writing import ExportOptions
from tests.support.exported import THEN, change, exported, talk

pytestmark = pytest.mark.django_db(transaction=True)
SIMULATED = {"timing_metadata": {"simulated_timestamp": "2001-02-03T04:05:06Z"}}


@pytest.fixture(params=FORMATS)
def name(request: pytest.FixtureRequest) -> str:
    """A format's name. There are six messages to export, of which two are superseded."""
    session = talk("Oi", "velha resposta", "Oi", "Olá", metadata=SIMULATED)
    for position in (0, 1):
        change(session, position, superseded_at=THEN)
    talk("E?", "Sim", session_id="bia")
    return str(request.param)


@pytest.fixture
def chosen(name: str) -> Format:
    return FORMATS[name]


def export(name: str, file: Path, *arguments: str) -> str:
    out = io.StringIO()
    call_command("export_sessions", f"--format={name}", f"--output={file}", *arguments, stdout=out)
    return out.getvalue()


def test_only_some_have_superseded_messages_unasked(name: str, chosen: Format, tmp_path: Path) -> None:
    messages = 6 if chosen.superseded else 4
    assert f"({messages} messages)" in export(name, tmp_path / "file")


def test_only_some_know_a_simulated_clock(name: str, chosen: Format) -> None:
    assert (exported(name) != exported(name, ExportOptions(simulated=True))) == chosen.clocks


def test_only_some_have_cells_to_separate(name: str, chosen: Format, tmp_path: Path) -> None:
    if not chosen.delimiter:
        with pytest.raises(CommandError, match="--delimiter is for the formats csv, csv-excel, events"):
            export(name, tmp_path / "file", "--delimiter=;")
        return
    assert exported(name).split("\r\n")[0].count(chosen.delimiter) > 5
    export(name, tmp_path / "file", "--delimiter=|")
    assert (tmp_path / "file").read_text().split("\n")[0].count("|") > 5


def test_only_some_leave_messages_out_and_the_command_says_why(name: str, chosen: Format, tmp_path: Path) -> None:
    talk("Oi", "", session_id="caio").messages.filter(position=1).update(status="pending", completed_at=None)
    for clock in ("real", "simulated"):
        said = export(name, tmp_path / "file", f"--clock={clock}")
        reason = chosen.reason(ExportOptions(clock == "simulated"))
        assert ("Left out:" in said) == bool(reason)
        assert f"({reason})" in said or not reason


def test_only_some_can_be_imported(name: str, chosen: Format, tmp_path: Path) -> None:
    export(name, tmp_path / "file")
    try:
        call_command("import_sessions", str(tmp_path / "file"), stdout=io.StringIO(), stderr=io.StringIO())
    except CommandError:
        assert not chosen.importable
    else:
        assert chosen.importable

"""DATABASE_URL: what people write means what they mean, or stops the start with a sentence."""

from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError

from bancobot_project.database.address import database
from bancobot_project.database.problems import in_the_way_of, is_of_another_kind, network_file_system, of_postgresql

BASE = Path("/base")
FILES = {
    "": "/data/bancobot.sqlite3",
    "sqlite:///db.sqlite3": "/base/db.sqlite3",
    "sqlite:///var/../db.sqlite3": "/base/var/../db.sqlite3",
    "sqlite:////srv/db.sqlite3": "/srv/db.sqlite3",
    "SQLite:////srv/db.sqlite3": "/srv/db.sqlite3",
    "sqlite+aiosqlite:////srv/db.sqlite3": "/srv/db.sqlite3",
    "sqlite:////srv/nº #1/minha base+ü.sqlite3": "/srv/nº #1/minha base+ü.sqlite3",
    "sqlite:////srv/n%C2%BA%20%231/a%3Fb%25.sqlite3": "/srv/nº #1/a?b%.sqlite3",
    "sqlite:////srv/50% off.sqlite3": "/srv/50% off.sqlite3",
    "sqlite:////srv/a@b:c.sqlite3": "/srv/a@b:c.sqlite3",
}


@pytest.mark.parametrize("url", FILES)
def test_a_sqlite_file_is_found_by_its_name(url: str) -> None:
    assert database(url, BASE, Path("/data/bancobot.sqlite3"))["NAME"] == FILES[url]


def test_a_home_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ana")
    assert read("sqlite:///~/db.sqlite3")["NAME"] == "/home/ana/db.sqlite3"


def read(url: str) -> dict[str, object]:
    return database(url, BASE, BASE)


REFUSED = {
    "sqlite://": "a database in memory of its own",
    "sqlite:///": "a database in memory of its own",
    "sqlite:///:memory:": "a database in memory of its own",
    "sqlite://:memory:": "a database in memory of its own",
    "sqlite:///file::memory:?cache=shared": "a database in memory of its own",
    "sqlite:////srv/db.sqlite3?mode=memory": "a database in memory of its own",
    "file::memory:": "must begin with sqlite:///, postgres://",
    "sqlite:////srv/db.sqlite3?mode=ro": "must have no options",
    "sqlite://db.sqlite3": "three slashes",
    "sqlite:/srv/db.sqlite3": "must begin with",
    "/srv/db.sqlite3": "must begin with",
    "sqlite:////srv/dados/": "must name a file, not a folder",
    "sqlite://///servidor/dados/db.sqlite3": "a local disk",
    r"sqlite:///\\servidor\dados\db.sqlite3": "a local disk",
    r"sqlite:///C:\dados\db.sqlite3": "Windows",
    "sqlite:///~nobody-of-that-name/db.sqlite3": "no home folder for ~nobody-of-that-name",
    "sqlite:////srv/%E4.sqlite3": "not UTF-8",
    "mysql://ana:geheim@db/banco": "mysql is not supported",
    "host=db password=geheim": "must begin with",
    "postgres://ana:ge#heim@db/banco": "# %23",
    "postgres://ana:ge/heim@db/banco": "/ is written %2F",
    "postgres://ana:ge?heim@db/banco": "? %3F",
    "postgres://ana:geheim%FF@db/banco": "no address",
    "postgres://ana:geheim@[::1/banco": "no address",
    "postgres://ana:geheim@db": "must name a database",
    "postgres://ana:geheim@db:0/banco": "no number from 1 to 65535",
    "postgres://ana:geheim@db:http/banco": "port",
    "postgres://ana:geheim@db/banco?sslmod=require": "there is none sslmod. Is sslmode meant?",
    "postgres://ana:geheim@db/banco?pgbouncer=true": "DATABASE_PREPARED_STATEMENTS does that",
    "postgres://ana:geheim@db/banco?schema=x": "search_path",
    "postgres://ana:geheim@db/banco?ge heim=1": "there is none of that name",
    "postgres://ana:geheim@db/banco?replication=database": "replication",
}


@pytest.mark.parametrize("url", REFUSED)
def test_what_can_not_be_meant_is_refused_without_the_password(url: str) -> None:
    with pytest.raises(ImproperlyConfigured) as refused:
        read(url)
    assert REFUSED[url] in str(refused.value)
    assert str(refused.value).startswith("DATABASE_URL")
    assert "heim" not in str(refused.value)


SERVERS: dict[str, dict[str, str]] = {
    "postgres://ana:x@db/banco": {"HOST": "db", "PORT": "", "USER": "ana", "PASSWORD": "x", "NAME": "banco"},
    "postgresql+psycopg://ana:x@db:5433/banco": {"HOST": "db", "PORT": "5433"},
    "postgresql+asyncpg://ana:x@db/banco?ssl=require": {"sslmode": "require"},
    "postgres://ana:x@db/banco?ssl=true": {"sslmode": "require"},
    "postgres://ana:p%40s%2Fs%23@db/banco": {"PASSWORD": "p@s/s#"},
    "postgres://ana:p@ss:[100%+ü &@db/banco": {"PASSWORD": "p@ss:[100%+ü &", "HOST": "db"},
    "postgres://a%40b@db/meu%20banco": {"USER": "a@b", "PASSWORD": "", "NAME": "meu banco"},
    "postgres://ana@db1:5432,db2:5433/banco": {
        "HOST": "db1,db2",
        "PORT": "5432,5433",
        "target_session_attrs": "read-write",
    },
    "postgres://ana@db1,db2/banco?target_session_attrs=any": {"target_session_attrs": "any"},
    "postgres://ana@[2001:db8::1]:5433/banco": {"HOST": "2001:db8::1", "PORT": "5433"},
    "postgres://ana@[::1],db/banco": {"HOST": "::1,db"},
    "postgres://%2Fvar%2Frun%2Fpostgresql/banco": {"HOST": "/var/run/postgresql", "NAME": "banco"},
    "postgres:///banco?host=/var/run/postgresql": {"HOST": "/var/run/postgresql"},
    "postgres://db/banco?options=-c search_path=a,b": {"options": "-c search_path=a,b"},
    "postgres://db/banco?options=-csearch_path%3Dx&application_name=bot": {
        "options": "-csearch_path=x",
        "application_name": "bot",
    },
    "postgres://db/banco?connect_timeout=3": {"connect_timeout": "3", "tcp_user_timeout": "20000"},
    "postgres:///?service=banco": {"NAME": "", "service": "banco"},
}


@pytest.mark.parametrize("url", SERVERS)
def test_a_postgresql_server_is_named_in_every_usual_way(url: str) -> None:
    found = read(url)
    options = found["OPTIONS"]
    assert isinstance(options, dict)
    assert SERVERS[url].items() <= (found | options).items()


SAID = {
    'no pg_hba.conf entry for host "10.0.0.1", user "ana", database "b", no encryption': "add ?sslmode=require",
    'no pg_hba.conf entry for host "10.0.0.1", user "ana", database "b", SSL encryption': "no connections of this user",
    'FATAL:  pg_hba.conf rejects connection for host "10.0.0.1", user "ana"': "no connections of this user",
    "FATAL:  sorry, too many clients already": "no connection left",
    "FATAL:  remaining connection slots are reserved for superuser": "no connection left",
    'FATAL:  too many connections for role "ana"': "no connection left",
    "FATAL:  the database system is starting up": "it is starting up",
    'FATAL:  role "ana" is not permitted to log in': 'the user "ana" may not log in',
    'FATAL:  permission denied for database "b"\nUser does not have CONNECT privilege.': 'use the database "b"',
    "[Errno -2] Name or service not known": "its host name has no address",
    "connection timeout expired": "it can't be reached",
    "received invalid response to SSL negotiation: H": "something else than PostgreSQL",
    "SSL error: certificate verify failed": "its certificate is not accepted",
    "cannot execute INSERT in a read-only transaction": "is read-only",
    "FATAL:  Das hat noch niemand gesagt": "cannot be used: FATAL: Das hat noch niemand gesagt",
}


@pytest.mark.parametrize("said", SAID)
def test_what_a_server_says_becomes_a_sentence(said: str) -> None:
    assert SAID[said] in of_postgresql(OperationalError(said))


def test_a_file_that_can_not_hold_a_database_is_named_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "text").write_text("Bom dia, isto não é um banco de dados.")
    (tmp_path / "empty").touch()
    assert "is a folder" in in_the_way_of(tmp_path / "folder")
    assert "There is no folder" in in_the_way_of(tmp_path / "missing" / "db.sqlite3")
    assert "There is no folder" in in_the_way_of(tmp_path / "text" / "db.sqlite3")
    assert "is no file" in in_the_way_of(Path("/dev/null"))
    assert "cannot be used" in in_the_way_of(tmp_path / ("x" * 300))
    assert in_the_way_of(tmp_path / "new") == in_the_way_of(tmp_path / "empty") == ""
    assert [is_of_another_kind(tmp_path / name) for name in ("text", "empty", "new")] == [True, False, False]


MOUNTS = """22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:40 / /srv rw - nfs4 nas:/srv rw
31 30 8:2 / /srv/local\\040disk rw shared:3 - xfs /dev/sdb1 rw
32 22 0:41 / /mnt/my\\040share rw - cifs //nas/share rw
"""


@pytest.mark.parametrize(
    "path, kind",
    [("/var/x", ""), ("/srv/x", "nfs4"), ("/srvx/x", ""), ("/srv/local disk/x", ""), ("/mnt/my share/a/x", "cifs")],
)
def test_a_disk_of_another_machine_is_known(path: str, kind: str) -> None:
    assert network_file_system(Path(path), MOUNTS) == kind

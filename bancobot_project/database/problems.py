"""What keeps a database from being used, in one sentence that says what to do. It never has a password."""

import os
import re
import shutil
import sqlite3
from pathlib import Path, PurePath

from django.db import Error, InterfaceError, OperationalError, connection

from bancobot_project.database.direct import direct
from web.connections import READ_ONLY, sqlstate

# What libpq or the server says, and what it means. What a server says in another language is shown as it is.
POSTGRESQL = (
    (r'database "(?P<what>.*)" does not exist', 'there is no database "{what}". Create it, or correct its name.'),
    (r'role "(?P<what>.*)" does not exist', 'there is no user "{what}".'),
    (
        r'password authentication failed for user "(?P<what>.*)"',
        'the user "{what}" or the password is wrong.',
    ),
    (r"no password supplied", "it asks for a password, and DATABASE_URL has none."),
    (r'role "(?P<what>.*)" is not permitted to log in', 'the user "{what}" may not log in.'),
    (
        r"no pg_hba\.conf entry.* no encryption",
        "it admits no connections without TLS from here (add ?sslmode=require), or none at all (pg_hba.conf).",
    ),
    (r"no pg_hba\.conf entry|pg_hba\.conf rejects", "it admits no connections of this user from here (pg_hba.conf)."),
    (r"not currently accepting connections", "its database is closed to everybody (ALLOW_CONNECTIONS)."),
    (r"invalid response to SSL|expected authentication request", "something else than PostgreSQL answers there."),
    (r"server does not support SSL", "it does not speak TLS, and sslmode asks for it."),
    (
        r"certificate verify failed|root certificate|server certificate",
        "its certificate is not accepted: {said}",
    ),
    (r"Name or service not known|could not translate host name|resolve", "its host name has no address."),
    (r"Connection refused|No such file or directory", "nothing listens there."),
    (r"timeout expired|timed out|[Nn]o route to host|unreachable", "it can't be reached."),
    (r"too many (clients|connections)|connection slots", "it has no connection left. Raise its max_connections."),
    (r"the database system is (?P<what>[a-z ]+)", "it is {what}."),
    (r"session is read-only|session is not read-only", "none of its hosts can be written to."),
    (r"read-only transaction", "it, or its database, is read-only."),
    (r'relation "\S+" does not exist', "its database has no tables of BancoBot, or old ones. Run manage.py migrate."),
    (
        r"unsupported startup parameter",
        "a pooler refuses options of DATABASE_URL; give them to the user (ALTER ROLE … SET …).",
    ),
    (r'permission denied for (?P<what>\S+ "?[^\s"]+"?)', "the user has no right to use the {what}."),
)


def explain(problem: Error) -> str:
    """One sentence, of the start and of the commands."""
    if connection.vendor == "sqlite":
        return _of_sqlite(problem)
    if "couldn't get a connection" in str(problem):  # the pool does not say why
        try:
            with direct():
                pass
        except Error as reason:
            problem = reason
    return of_postgresql(problem)


def is_unusable(problem: Error) -> bool:
    """Whether the database is the trouble, and not the program that asked it."""
    known = sqlstate(problem) in ("42P01", "42501", READ_ONLY) or _code(problem) in MEANINGS
    return known or isinstance(problem, OperationalError | InterfaceError)


def of_postgresql(problem: Error) -> str:
    said = " ".join(str(problem).split())
    for pattern, meaning in POSTGRESQL:
        if found := re.search(pattern, said):
            return f"The PostgreSQL server {_place()}: {meaning.format(said=said, **found.groupdict())}"
    return f"The database cannot be used: {said}"


def _place() -> str:
    """The hosts that DATABASE_URL names, with their ports."""
    chosen = connection.settings_dict
    hosts, ports = chosen["HOST"].split(","), chosen["PORT"].split(",")
    ports = ports * len(hosts) if len(ports) == 1 else ports
    named = [f"[{host}]" if ":" in host else host for host in hosts]
    places = [f"{host}:{port}" if port else host for host, port in zip(named, ports, strict=False)]
    return f"at {', '.join(places)}" if chosen["HOST"] else "on this machine"


def _of_sqlite(problem: Error) -> str:
    file = Path(connection.settings_dict["NAME"])
    return in_the_way_of(file) or f"The database {file} cannot be used: {_said_by_sqlite(problem)}."


def in_the_way_of(file: Path) -> str:
    """Why SQLite can't keep its database in this file; empty where it can. It does not open the file."""
    file = Path(os.path.realpath(file))  # the folder of a link is not where SQLite keeps its other files
    folder = file.parent
    try:
        if file.is_dir():
            return f"{file} is a folder. The database needs a file."
        if not folder.is_dir():
            return f"There is no folder {folder} for the database. Create it, or correct the path."
        if system := network_file_system(
            file, MOUNTS.read_text(encoding="utf-8", errors="surrogateescape") if MOUNTS.exists() else ""
        ):
            return f"{file} is on a network ({system}), where SQLite would damage its database. Use a local disk."
        if not os.access(folder, os.W_OK | os.X_OK):
            return f"The folder {folder} is read-only for this user. SQLite needs to write beside the database."
        if file.exists() and not os.access(file, os.R_OK | os.W_OK):
            return f"The database {file} is read-only for this user."
        if shutil.disk_usage(folder).free < ROOM_BYTES:
            return f"The disk of {file} is full."
        return "" if file.is_file() or not file.exists() else f"{file} is no file. The database needs one."
    except OSError as problem:
        return f"The database {file} cannot be used: {problem.strerror}."


def is_of_another_kind(file: Path) -> bool:
    """Whether the file has something else than a database of SQLite.

    Only for a process without a connection to it: to close the file would take SQLite's locks on it away.
    """
    if not file.exists():
        return False
    with file.open("rb") as opened:
        return opened.read(16) not in (b"", b"SQLite format 3\0")


def network_file_system(file: PurePath, mounts: str) -> str:
    """The kind of network file system that has this path; empty for a local disk.

    On Linux its list of mounts tells, on Windows the path: `realpath` gives a drive's letter its server's name.
    """
    if A_SHARE.match(file.drive):
        return "a share of Windows"
    found: tuple[int, str] = (0, "")
    for line in mounts.splitlines():
        place, _, kind = line.partition(" - ")
        point = re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), place.split(" ")[4])
        if file.is_relative_to(point):
            found = max(found, (len(point), kind.split(" ")[0]), key=lambda mount: mount[0])
    return found[1] if found[1] in OF_NETWORKS else ""


def _said_by_sqlite(problem: Error) -> str:
    if "no such table" in str(problem) or "no such column" in str(problem):
        return "it has no tables of BancoBot, or old ones. Run manage.py migrate"
    return MEANINGS.get(_code(problem), str(problem))


def _code(problem: Error) -> int:
    return int(getattr(problem.__cause__, "sqlite_errorcode", 0)) & 0xFF


ROOM_BYTES = 1024 * 1024  # for a few messages; SQLite can write short ones for a while where there is no room at all
MOUNTS = Path("/proc/self/mountinfo")
A_SHARE = re.compile(r"\\\\(?:\?\\UNC\\|[^?.])", re.IGNORECASE)  # \\server\share
OF_NETWORKS = {
    "afs", "beegfs", "ceph", "cifs", "fuse.ceph", "fuse.glusterfs", "fuse.s3fs", "fuse.sshfs", "gfs2", "glusterfs",
    "lustre", "ncpfs", "nfs", "nfs4", "smb3", "smbfs",
}  # fmt: skip
MEANINGS = {
    sqlite3.SQLITE_NOTADB: "it is no SQLite database",
    sqlite3.SQLITE_CORRUPT: "it is damaged. Restore a backup",
    sqlite3.SQLITE_BUSY: "another program keeps it locked",
    sqlite3.SQLITE_READONLY: "it is read-only",
    sqlite3.SQLITE_FULL: "the disk is full",
}

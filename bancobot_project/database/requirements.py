"""What BancoBot needs of a database. A start without it would fail later, in the middle of somebody's message."""

import sqlite3
from pathlib import Path
from typing import NamedTuple

from django.core.exceptions import ImproperlyConfigured
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from bancobot_project.database.direct import direct
from bancobot_project.database.problems import in_the_way_of, is_of_another_kind
from sessions_api.store.rights import missing_rights, tables

OLDEST_POSTGRESQL = 14  # Django 5.2's
OLDEST_SQLITE = (3, 35)  # the first with RETURNING
FACTS = """
SELECT current_setting('server_version_num')::int / 10000, current_setting('server_encoding'), pg_is_in_recovery(),
    current_setting('transaction_read_only') = 'on', current_schema(), current_setting('search_path'),
    current_user
"""
# Tables of ours that another role owns: nobody else may alter them.
FOREIGN = """
SELECT relname, pg_get_userbyid(relowner) FROM pg_class
WHERE oid IN (SELECT to_regclass(quote_ident(name)) FROM unnest(%s::text[]) name) AND NOT pg_has_role(relowner, 'USAGE')
ORDER BY relname LIMIT 1
"""


def check_before_updates() -> None:
    """Raises `ImproperlyConfigured` where the database can't be BancoBot's, and Django's errors where it is away."""
    if connection.vendor == "sqlite":
        file = Path(connection.settings_dict["NAME"])
        if problem := in_the_way_of(file):
            raise ImproperlyConfigured(problem)
        if connection.connection is None and is_of_another_kind(file):
            raise ImproperlyConfigured(f"{file} is no SQLite database. It was left as it is.")
        check_sqlite(sqlite3.sqlite_version_info, _has_full_text_search())
    else:
        with direct() as server:
            check_postgresql(Facts(*server.execute(FACTS).fetchone()))


def check_sqlite(version: tuple[int, ...], full_text_search: bool) -> None:
    if version < OLDEST_SQLITE:
        raise ImproperlyConfigured(
            f"SQLite {'.'.join(map(str, version))} is too old: BancoBot needs 3.35 or later. "
            "Use a newer Python, or PostgreSQL."
        )
    if not full_text_search:
        raise ImproperlyConfigured("This SQLite has no full text search (FTS5). Use another Python, or PostgreSQL.")


class Facts(NamedTuple):
    """What FACTS says of a server, and of this user on it."""

    version: int
    encoding: str
    standby: bool
    read_only: bool
    schema: str | None
    search_path: str
    user: str

    @property
    def finds_its_schema(self) -> bool:
        """Whether tables go to the first schema that the search_path names, or to the user's own."""
        named = [name.strip().strip('"') for name in self.search_path.split(",")]
        return self.schema is not None and self.schema in (self.user, *[name for name in named if name != "$user"][:1])


def check_postgresql(facts: Facts) -> None:
    name = connection.settings_dict["NAME"]
    if facts.version < OLDEST_POSTGRESQL:
        problem = f"PostgreSQL {facts.version} is too old: BancoBot needs {OLDEST_POSTGRESQL} or later."
    elif facts.encoding != "UTF8":
        problem = (
            f"The database {name} has the encoding {facts.encoding}, and BancoBot needs UTF8: "
            f"CREATE DATABASE {name} ENCODING 'UTF8' TEMPLATE template0"
        )
    elif facts.standby:
        problem = "This PostgreSQL server is a standby, which can't be written to. Name the primary."
    elif facts.read_only:
        problem = f"The database {name} is read-only for this user (default_transaction_read_only)."
    elif not facts.finds_its_schema:
        problem = (
            f"The search_path ({facts.search_path}) must begin with a schema that exists in the database {name}, and "
            f"that the user {facts.user} may use."
        )
    else:
        return
    raise ImproperlyConfigured(problem)


def check_rights_to_update() -> None:
    """Where there are updates to make, it takes the rights to make and to alter tables."""
    executor = MigrationExecutor(connection)
    if connection.vendor == "sqlite" or not executor.migration_plan(executor.loader.graph.leaf_nodes()):
        return
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_user, current_schema(), has_schema_privilege(current_schema(), 'CREATE')")
        user, schema, creates = cursor.fetchone()
        if not creates:
            raise ImproperlyConfigured(
                f"The user {user} may not create tables in the schema {schema}: "
                f"GRANT CREATE ON SCHEMA {schema} TO {user}, or make it the owner of the database."
            )
        cursor.execute(FOREIGN, [tables()])
        if found := cursor.fetchone():
            raise ImproperlyConfigured(
                f"The table {found[0]} belongs to {found[1]}, so the user {user} can't update it. "
                f"Run manage.py migrate as {found[1]}, or let {user} own it."
            )


def check_rights() -> None:
    if missing := missing_rights():
        table, right = missing[0]
        user = connection.settings_dict["USER"] or "of this process"
        raise ImproperlyConfigured(
            f"The user {user} has no right to {right} on the table {table}: "
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA … TO {user}"
        )


def _has_full_text_search() -> bool:
    with sqlite3.connect(":memory:") as scratch:
        return bool(scratch.execute("SELECT sqlite_compileoption_used('ENABLE_FTS5')").fetchone()[0])

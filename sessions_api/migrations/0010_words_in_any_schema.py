"""PostgreSQL: search finds old messages by 0009's words, and its triggers work wherever a dump comes back.

What was indexed before 0009 is indexed anew, in batches that keep nobody waiting. Whoever interrupts it starts it again.
The functions look for their tables in the schema of the table that called them, whatever its name is now; the setting
before a body keeps the caller's search_path as it was. Words that are there before their message, as after some
restores, are replaced: they would be an error, and the message would not come back.
"""

from importlib import import_module
from typing import Any

from django.db import migrations

search = import_module("sessions_api.migrations.0005_search")
alike = import_module("sessions_api.migrations.0009_search_alike")

FUNCTIONS = ("sessions_api_index_message", "sessions_api_index_title")
OWN_SCHEMA = "PERFORM set_config('search_path', quote_ident(TG_TABLE_SCHEMA) || ', pg_temp', true);"
REPLACE = "ON CONFLICT (session_id, position) DO UPDATE SET words = excluded.words;"
KEEP_WORDS = """CREATE FUNCTION sessions_api_keep_words() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM sessions_api_messagewords WHERE session_id = NEW.session_id AND position = NEW.position) THEN
        RETURN NULL;
    END IF;
    RETURN NEW;
END $$"""

BATCH_BYTES = 100_000  # of text: indexing as much takes some 50 ms
NEXT = """
SELECT words.session_id, words.position, octet_length(coalesce(content, title)) FROM sessions_api_messagewords words
JOIN sessions_api_session session ON session.id = words.session_id
LEFT JOIN sessions_api_message message ON message.session_id = words.session_id AND message.position = words.position
WHERE (words.session_id, words.position) > (%s, %s) ORDER BY 1, 2 LIMIT 1000
"""
INDEX_BATCH = """
UPDATE sessions_api_messagewords indexed SET words = array_to_tsvector(sessions_api_words(said) || ('=' || owner)::text)
FROM (
    SELECT words.session_id, words.position, owner, coalesce(content, title) said FROM sessions_api_messagewords words
    JOIN sessions_api_session session ON session.id = words.session_id
    LEFT JOIN sessions_api_message message ON message.session_id = words.session_id AND message.position = words.position
    WHERE (words.session_id, words.position) > (%s, %s) AND (words.session_id, words.position) <= (%s, %s)
) old
WHERE indexed.session_id = old.session_id AND indexed.position = old.position AND said ~ %s
"""


def old_functions() -> list[str]:
    made = [statement.strip() for statement in search.postgres_statements()]
    return [*(next(one for one in made if one.startswith(f"CREATE FUNCTION {name}")) for name in FUNCTIONS), KEEP_WORDS]


def with_head(function: str, head: str) -> str:
    name, body = function.split("RETURNS trigger LANGUAGE plpgsql AS $$\nBEGIN\n")
    return f"{name.replace('CREATE', 'CREATE OR REPLACE')}RETURNS trigger LANGUAGE plpgsql {head}{body}"


def make(apps: Any, schema_editor: Any) -> None:
    if schema_editor.connection.vendor != "postgresql":
        return
    for function in old_functions():
        new = with_head(function, f"SET search_path = pg_catalog AS $$\nBEGIN\n    {OWN_SCHEMA}\n")
        new = new.replace("WHERE id = NEW.session_id;", f"WHERE id = NEW.session_id {REPLACE}")
        schema_editor.execute(new.replace("|| ('=' || NEW.owner)::text));", f"|| ('=' || NEW.owner)::text)) {REPLACE}"))
    with schema_editor.connection.cursor() as cursor:
        index_anew(cursor)


def index_anew(cursor: Any) -> None:
    _, folded = alike.folding(cursor)
    changed = f"[{'ςΣ' + alike.classes()[1] if folded else alike.NO_ASCII}]"
    after = (0, -2)
    while True:
        cursor.execute(NEXT, after)
        last, room = after, BATCH_BYTES
        for *place, length in cursor.fetchall():
            last, room = tuple(place), room - length
            if room <= 0:
                break
        if last == after:
            return
        cursor.execute(INDEX_BATCH, [*after, *last, changed])
        after = last


def unmake(apps: Any, schema_editor: Any) -> None:
    if schema_editor.connection.vendor != "postgresql":
        return
    with schema_editor.connection.cursor() as cursor:
        cursor.execute("SELECT quote_ident(current_schema())")
        [schema] = cursor.fetchone()
    for function in old_functions():
        schema_editor.execute(with_head(function, f"SET search_path = {schema}, pg_temp AS $$\nBEGIN\n"))


class Migration(migrations.Migration):
    atomic = False  # each batch is a transaction
    dependencies = [("sessions_api", "0009_search_alike")]

    operations = [migrations.RunPython(make, unmake)]

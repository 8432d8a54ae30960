"""The index of words behind searching, which triggers keep, so that no writer of messages has to think of it.

SQLite: `sessions_api_words` is an FTS5 index without the texts. Its row number is session << 22 | position; the place
behind the last position is the title. To add to it row by row costs a turn much, so the triggers only note the number
in `sessions_api_unindexed`, and sessions_api/search.py adds what is noted, many at once. A row is in one of the two.
PostgreSQL: `sessions_api_messagewords` has a row for each message, and at position -1 for each title.

In both a text begins with its owner as a word that nobody can type: with U+E000, or with "=". FTS5 takes U+E000 for a
letter, so what was said is indexed without it.

Indexed is what is written to its end and stands. Whoever makes a new migration: where Django remakes one of the two
tables (SQLite, most changes of fields), its triggers are gone and have to be made again.
"""

from typing import Any

from django.db import migrations

MESSAGE, SESSION = "sessions_api_message", "sessions_api_session"
TO_FIND = "{0}.status <> 'pending' AND {0}.superseded_at IS NULL AND {0}.content <> '' AND {0}.position < 4194303"
LITE = {
    MESSAGE: {
        "key": "({0}.session_id << 22 | {0}.position)",
        "to_find": TO_FIND,
        "said": "coalesce((SELECT char(57344) || hex(owner) || ' ' FROM sessions_api_session "
        "WHERE id = {0}.session_id), '') || replace({0}.content, char(57344), ' ')",
        "columns": "content, status, superseded_at",
    },
    SESSION: {
        "key": "({0}.id << 22 | 4194303)",
        "to_find": "{0}.title <> ''",
        "said": "char(57344) || hex({0}.owner) || ' ' || replace({0}.title, char(57344), ' ')",
        "columns": "title",
    },
}
LITE_TABLES = """
CREATE VIRTUAL TABLE sessions_api_words USING fts5(
    words, content = '', columnsize = 0, detail = none, tokenize = 'unicode61 remove_diacritics 2')
;;
CREATE VIRTUAL TABLE sessions_api_vocabulary USING fts5vocab(sessions_api_words, row)
;;
CREATE TABLE sessions_api_unindexed (id INTEGER PRIMARY KEY)
"""
LITE_TRIGGERS = """
CREATE TRIGGER {table}_words_insert AFTER INSERT ON {table} WHEN {new_to_find}
BEGIN {note} END
;;
CREATE TRIGGER {table}_words_before BEFORE UPDATE OF {columns} ON {table} WHEN {old_to_find}
BEGIN {forget} END
;;
CREATE TRIGGER {table}_words_after AFTER UPDATE OF {columns} ON {table} WHEN {new_to_find}
BEGIN {note} END
;;
CREATE TRIGGER {table}_words_delete BEFORE DELETE ON {table} WHEN {old_to_find}
BEGIN {forget} END
"""
LITE_NOTE = "INSERT INTO sessions_api_unindexed VALUES ({key});"
LITE_FORGET = (
    "INSERT INTO sessions_api_words(sessions_api_words, rowid, words) SELECT 'delete', {key}, {said} "
    "WHERE NOT EXISTS (SELECT 1 FROM sessions_api_unindexed WHERE id = {key}); "
    "DELETE FROM sessions_api_unindexed WHERE id = {key};"
)
LITE_OLD = """
INSERT INTO sessions_api_unindexed SELECT {key} FROM {table} old WHERE {old_to_find}
"""
LITE_DROP = """
DROP TABLE sessions_api_unindexed
;;
DROP TABLE sessions_api_vocabulary
;;
DROP TABLE sessions_api_words
"""

POSTGRES = r"""
CREATE FUNCTION sessions_api_words(said text) RETURNS text[] LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
    folded text := regexp_replace(
        lower(regexp_replace(normalize(said, NFKD), '[\u0300-\u036f]+', '', 'g')),
        '[\u0001-/:-@\[-`{-\u00bf\u2000-\u206f\u2e00-\u2e7f\u3000-\u303f]+', ' ', 'g');
BEGIN
    IF octet_length(folded) < 2000 THEN
        RETURN array_remove(string_to_array(folded, ' '), '');
    END IF;
    -- a word of more than 2,046 bytes, or a megabyte of them, would be an error, and there would be no such message
    RETURN ARRAY(SELECT left(word, 100) FROM unnest(string_to_array(left(folded, 200000), ' ')) word WHERE word <> '');
END $$
;;
CREATE TABLE sessions_api_messagewords (
    session_id bigint, position integer, words tsvector NOT NULL, PRIMARY KEY (session_id, position))
;;
CREATE FUNCTION sessions_api_index_message() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        DELETE FROM sessions_api_messagewords WHERE session_id = OLD.session_id AND position = OLD.position;
    END IF;
    IF TG_OP <> 'DELETE' AND {new_message} THEN
        INSERT INTO sessions_api_messagewords SELECT NEW.session_id, NEW.position,
            array_to_tsvector(sessions_api_words(NEW.content) || ('=' || owner)::text)
        FROM sessions_api_session WHERE id = NEW.session_id;
    END IF;
    RETURN NULL;
END $$
;;
CREATE FUNCTION sessions_api_index_title() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        DELETE FROM sessions_api_messagewords;
        RETURN NULL;
    ELSIF TG_OP = 'DELETE' THEN
        DELETE FROM sessions_api_messagewords WHERE session_id = OLD.id;
        RETURN NULL;
    END IF;
    DELETE FROM sessions_api_messagewords WHERE session_id = NEW.id AND position = -1;
    IF NEW.title <> '' THEN
        INSERT INTO sessions_api_messagewords VALUES (NEW.id, -1,
            array_to_tsvector(sessions_api_words(NEW.title) || ('=' || NEW.owner)::text));
    END IF;
    RETURN NULL;
END $$
;;
INSERT INTO sessions_api_messagewords SELECT old.session_id, old.position,
    array_to_tsvector(sessions_api_words(old.content) || ('=' || owner)::text)
FROM sessions_api_message old JOIN sessions_api_session session ON session.id = old.session_id WHERE {old_message}
;;
INSERT INTO sessions_api_messagewords SELECT id, -1,
    array_to_tsvector(sessions_api_words(title) || ('=' || owner)::text)
FROM sessions_api_session WHERE title <> ''
;;
CREATE INDEX sessions_api_words_in ON sessions_api_messagewords USING gin (words) WITH (gin_pending_list_limit = 512)
;;
CREATE TRIGGER sessions_api_words_insert AFTER INSERT ON sessions_api_message
FOR EACH ROW WHEN ({new_message}) EXECUTE FUNCTION sessions_api_index_message()
;;
CREATE TRIGGER sessions_api_words_update AFTER UPDATE OF content, status, superseded_at ON sessions_api_message
FOR EACH ROW WHEN ({old_message_in_trigger} OR {new_message}) EXECUTE FUNCTION sessions_api_index_message()
;;
CREATE TRIGGER sessions_api_words_delete AFTER DELETE ON sessions_api_message
FOR EACH ROW EXECUTE FUNCTION sessions_api_index_message()
;;
CREATE TRIGGER sessions_api_words_insert AFTER INSERT ON sessions_api_session
FOR EACH ROW WHEN (NEW.title <> '') EXECUTE FUNCTION sessions_api_index_title()
;;
CREATE TRIGGER sessions_api_words_update AFTER UPDATE OF title ON sessions_api_session
FOR EACH ROW WHEN (NEW.title <> OLD.title) EXECUTE FUNCTION sessions_api_index_title()
;;
CREATE TRIGGER sessions_api_words_delete AFTER DELETE ON sessions_api_session
FOR EACH ROW EXECUTE FUNCTION sessions_api_index_title()
;;
CREATE TRIGGER sessions_api_words_truncate AFTER TRUNCATE ON sessions_api_session
EXECUTE FUNCTION sessions_api_index_title()
"""
POSTGRES_DROP = """
DROP FUNCTION sessions_api_index_message() CASCADE
;;
DROP FUNCTION sessions_api_index_title() CASCADE
;;
DROP TABLE sessions_api_messagewords
;;
DROP FUNCTION sessions_api_words(text)
"""


def sqlite_statements() -> list[str]:
    statements = LITE_TABLES.split(";;")
    for table, parts in LITE.items():
        old, new = ({name: part.format(row) for name, part in parts.items()} for row in ("OLD", "NEW"))
        statements += LITE_TRIGGERS.format(
            table=table,
            columns=parts["columns"],
            old_to_find=old["to_find"],
            new_to_find=new["to_find"],
            note=LITE_NOTE.format(**new),
            forget=LITE_FORGET.format(**old),
        ).split(";;")
        statements.append(LITE_OLD.format(table=table, key=old["key"], old_to_find=old["to_find"]))
    return statements


def postgres_statements() -> list[str]:
    texts = {
        "{new_message}": TO_FIND.format("NEW"),
        "{old_message_in_trigger}": TO_FIND.format("OLD"),
        "{old_message}": TO_FIND.format("old"),
    }
    whole = POSTGRES
    for name, text in texts.items():
        whole = whole.replace(name, text)
    return whole.split(";;")


def make(apps: Any, schema_editor: Any) -> None:
    on_postgresql = schema_editor.connection.vendor == "postgresql"
    for statement in postgres_statements() if on_postgresql else sqlite_statements():
        schema_editor.execute(statement)


def drop(apps: Any, schema_editor: Any) -> None:
    if schema_editor.connection.vendor == "postgresql":
        statements = POSTGRES_DROP.split(";;")
    else:
        names = [f"{table}_words_{when}" for table in LITE for when in ("insert", "before", "after", "delete")]
        statements = [f"DROP TRIGGER {name}" for name in names] + LITE_DROP.split(";;")
    for statement in statements:
        schema_editor.execute(statement)


class Migration(migrations.Migration):
    dependencies = [("sessions_api", "0004_people")]

    operations = [migrations.RunPython(make, drop)]

"""Search that works alike on both databases, and an index that is no burden to others.

SQLite: what is superseded is only noted, in `sessions_api_outdated`, and leaves the index in the background
(sessions_api/search.py). Taking 2,000 messages out of it within a turn kept everybody waiting for a third of a second.
A row in that table is in the index, and nobody looks for it. FTS5 takes signs for letters that are younger than it, such
as many emoji: here they separate words. The index is made anew, in the background.

PostgreSQL: signs such as emoji and currencies separate words, as they do on SQLite. Letters are folded alike whatever
the database's collation. The functions find their tables whatever the search_path, as when a dump is restored, and
words that a dump brings and a trigger has made already are no error. 0010 indexes old messages anew.
"""

import re
import unicodedata
from importlib import import_module
from typing import Any

from django.db import migrations

search = import_module("sessions_api.migrations.0005_search")

# Code points that separate words: no letter or digit in an old Unicode version, which every SQLite knows, or in a block of
# signs, some of which are newer.
OLD = unicodedata.ucd_3_2_0
SIGNS = [*range(0x2000, 0x2C00), *range(0x2E00, 0x2E80), *range(0x1F000, 0x1FB00), *range(0xE0000, 0xE0080)]
NO_ASCII = r"^\u0001-\u007f"
SEPARATED_BEFORE = re.compile("[\u0001-/:-@\\[-`{-\u00bf\u2000-\u206f\u2e00-\u2e7f\u3000-\u303f\u0300-\u036f]")

LITE = """
DROP TABLE sessions_api_vocabulary
;;
DROP TABLE sessions_api_words
;;
CREATE VIRTUAL TABLE sessions_api_words USING fts5(words, content = '', columnsize = 0, detail = none, tokenize = {tokenizer})
;;
CREATE VIRTUAL TABLE sessions_api_vocabulary USING fts5vocab(sessions_api_words, row)
;;
DELETE FROM sessions_api_unindexed
;;
{note_all}
;;
CREATE TABLE sessions_api_outdated (id INTEGER PRIMARY KEY)
;;
DROP TRIGGER {table}_words_before
;;
CREATE TRIGGER {table}_words_before BEFORE UPDATE OF content, status ON {table} WHEN {to_find}
BEGIN {forget} END
;;
CREATE TRIGGER {table}_words_superseded AFTER UPDATE OF superseded_at ON {table}
WHEN {to_find} AND NEW.superseded_at IS NOT NULL AND NEW.status = OLD.status
BEGIN
INSERT OR IGNORE INTO sessions_api_outdated SELECT {key}
WHERE NOT EXISTS (SELECT 1 FROM sessions_api_unindexed WHERE id = {key});
DELETE FROM sessions_api_unindexed WHERE id = {key};
END
;;
CREATE TRIGGER {table}_words_outdated_update BEFORE UPDATE OF content ON {table} WHEN OLD.superseded_at IS NOT NULL
BEGIN {forget_outdated} END
;;
CREATE TRIGGER {table}_words_outdated_delete BEFORE DELETE ON {table} WHEN OLD.superseded_at IS NOT NULL
BEGIN {forget_outdated} END
"""
LITE_FORGET_OUTDATED = (
    "INSERT INTO sessions_api_words(sessions_api_words, rowid, words) SELECT 'delete', {key}, {said} "
    "WHERE EXISTS (SELECT 1 FROM sessions_api_outdated WHERE id = {key}); "
    "DELETE FROM sessions_api_outdated WHERE id = {key};"
)
LITE_BACK = """
DROP TABLE sessions_api_vocabulary
;;
DROP TABLE sessions_api_words
;;
DROP TABLE sessions_api_unindexed
;;
{old_tables}
;;
{note_all}
;;
DROP TABLE sessions_api_outdated
;;
DROP TRIGGER {table}_words_before
;;
DROP TRIGGER {table}_words_superseded
;;
DROP TRIGGER {table}_words_outdated_update
;;
DROP TRIGGER {table}_words_outdated_delete
;;
CREATE TRIGGER {table}_words_before BEFORE UPDATE OF {columns} ON {table} WHEN {to_find}
BEGIN {forget} END
"""

POSTGRES = r"""
CREATE OR REPLACE FUNCTION sessions_api_words(said text) RETURNS text[]
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
    -- the collation "C" is the quickest, and changes nothing where classes name code points
    plain text := regexp_replace(normalize(left(said, 250000), NFKD) COLLATE "C", '[\u0300-\u036f]+', '', 'g');
    folded text := regexp_replace(
        replace(lower(plain{collation}), 'ς', 'σ') COLLATE "C", '[{separators}]+', ' ', 'g');
BEGIN
    IF octet_length(folded) < 2000 THEN
        RETURN array_remove(string_to_array(folded, ' '), '');
    END IF;
    -- a word of more than 2,046 bytes, or a megabyte of them, would be an error, and there would be no such message
    RETURN ARRAY(SELECT left(word, 100) FROM unnest(string_to_array(left(folded, 200000), ' ')) word WHERE word <> '');
END $$
;;
ALTER FUNCTION sessions_api_index_message() SET search_path = {schema}, pg_temp
;;
ALTER FUNCTION sessions_api_index_title() SET search_path = {schema}, pg_temp
;;
CREATE FUNCTION sessions_api_keep_words() RETURNS trigger LANGUAGE plpgsql SET search_path = {schema}, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM sessions_api_messagewords WHERE session_id = NEW.session_id AND position = NEW.position) THEN
        RETURN NULL;
    END IF;
    RETURN NEW;
END $$
;;
CREATE TRIGGER sessions_api_words_restore BEFORE INSERT ON sessions_api_messagewords
FOR EACH ROW WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION sessions_api_keep_words()
"""
POSTGRES_BACK = r"""
DROP TRIGGER sessions_api_words_restore ON sessions_api_messagewords
;;
DROP FUNCTION sessions_api_keep_words()
;;
ALTER FUNCTION sessions_api_index_message() RESET search_path
;;
ALTER FUNCTION sessions_api_index_title() RESET search_path
"""


def separates(point: int) -> bool:
    kind = OLD.category(chr(point))
    return kind[0] not in "LN" and (kind != "Cn" or point in SIGNS_AS_SET)


SIGNS_AS_SET = set(SIGNS)


def classes() -> tuple[str, str]:
    """Two classes of PostgreSQL's regular expressions: what separates words, and what of it did not before."""
    points = [point for point in range(1, 0xE0080) if not 0xD800 <= point < 0xF900 and separates(point)]
    return in_class(points), in_class([point for point in points if not SEPARATED_BEFORE.match(chr(point))])


def in_class(points: list[int]) -> str:
    ranges: list[list[int]] = []
    for point in points:
        if ranges and point == ranges[-1][1] + 1:
            ranges[-1][1] = point
        else:
            ranges.append([point, point])
    return "".join(rf"\U{first:08x}-\U{last:08x}" for first, last in ranges)


def lite_parts() -> dict[str, str]:
    parts = {name: part.format("OLD") for name, part in search.LITE[search.MESSAGE].items()}
    signs = "".join(chr(point) for point in SIGNS if separates(point))
    rows = [
        search.LITE_OLD.format(table=table, key=part["key"].format("old"), old_to_find=part["to_find"].format("old"))
        for table, part in search.LITE.items()
    ]
    return {
        "tokenizer": f"""\"unicode61 remove_diacritics 2 separators '{signs}'\"""",
        "note_all": ";;".join(rows),
        "old_tables": search.LITE_TABLES,
        "table": search.MESSAGE,
        "columns": parts["columns"],
        "key": parts["key"],
        "to_find": parts["to_find"],
        "forget": search.LITE_FORGET.format(**parts),
        "forget_outdated": LITE_FORGET_OUTDATED.format(**parts),
    }


def folding(cursor: Any) -> tuple[str, bool]:
    """The collation that folds letters, and whether the database's own did before: "C" and others know only ASCII.

    ICU's root collation comes with nearly every server. With it a dump also means the same in another database.
    """
    cursor.execute("SELECT lower('Я') = 'я', EXISTS (SELECT FROM pg_collation WHERE collname = 'und-x-icu')")
    folds, has_icu = cursor.fetchone()
    return (' COLLATE "und-x-icu"' if has_icu else ""), folds


def make(apps: Any, schema_editor: Any) -> None:
    if schema_editor.connection.vendor == "sqlite":
        statements = LITE.format(**lite_parts())
    else:
        with schema_editor.connection.cursor() as cursor:
            cursor.execute("SELECT quote_ident(current_schema())")
            [schema] = cursor.fetchone()
            collation, _ = folding(cursor)
        values = {"{collation}": collation, "{schema}": schema, "{separators}": classes()[0]}
        statements = POSTGRES
        for name, value in values.items():
            statements = statements.replace(name, value)
    for statement in statements.split(";;"):
        schema_editor.execute(statement)


def unmake(apps: Any, schema_editor: Any) -> None:
    if schema_editor.connection.vendor == "sqlite":
        statements = LITE_BACK.format(**lite_parts())
    else:
        start = search.POSTGRES.index("CREATE FUNCTION sessions_api_words")
        old = search.POSTGRES[start : search.POSTGRES.index(";;")].replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION")
        statements = POSTGRES_BACK + ";;" + old
    for statement in statements.split(";;"):
        schema_editor.execute(statement)


class Migration(migrations.Migration):
    dependencies = [("sessions_api", "0008_closed_of_owner")]

    operations = [migrations.RunPython(make, unmake)]

"""What the service's own user may do with its tables, on PostgreSQL. SQLite knows no rights."""

import functools

from django.apps import apps
from django.db import connection

NEEDED = ["SELECT", "INSERT", "UPDATE", "DELETE"]
MISSING = """
SELECT name, needed FROM unnest(%s::text[]) name, unnest(%s::text[]) needed
WHERE NOT has_table_privilege(to_regclass(quote_ident(name)), needed) LIMIT 1
"""


@functools.cache
def tables() -> list[str]:
    """All that the service reads and writes, those without a model included."""
    return [
        *(model._meta.db_table for model in apps.get_models(include_auto_created=True)),
        "sessions_api_messagewords",
    ]


def missing_rights() -> list[tuple[str, str]]:
    """The first table and right that is missing, if there is one. A table that is missing counts as there."""
    if connection.vendor == "sqlite":
        return []
    with connection.cursor() as cursor:
        cursor.execute(MISSING, [tables(), NEEDED])
        return list(cursor.fetchall())

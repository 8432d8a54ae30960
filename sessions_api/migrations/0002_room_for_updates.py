"""Leaves room in PostgreSQL's pages, so that a turn's updates need no new entries in the indexes."""

from typing import Any

from django.db import migrations


def leave_room(apps: Any, schema_editor: Any) -> None:
    if schema_editor.connection.vendor == "postgresql":
        for model in ("session", "message"):
            schema_editor.execute(f"ALTER TABLE sessions_api_{model} SET (fillfactor = 80)")


class Migration(migrations.Migration):
    dependencies = [("sessions_api", "0001_initial")]
    operations = [migrations.RunPython(leave_room, migrations.RunPython.noop)]

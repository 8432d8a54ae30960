from typing import Any

from django.db import migrations

# What the model refuses, the database refuses too, whoever asks. Removing has to be possible when the time has come.
ON_POSTGRESQL = """
CREATE FUNCTION access_audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'the audit log is not to be changed'; END $$;
CREATE TRIGGER access_audit_is_append_only BEFORE UPDATE ON access_auditentry
FOR EACH ROW EXECUTE FUNCTION access_audit_is_append_only();
"""
ON_SQLITE = """
CREATE TRIGGER access_audit_is_append_only BEFORE UPDATE ON access_auditentry
BEGIN SELECT RAISE(ABORT, 'the audit log is not to be changed'); END;
"""


def forbid_changes(apps: Any, schema_editor: Any) -> None:
    on_postgresql = schema_editor.connection.vendor == "postgresql"
    schema_editor.execute(ON_POSTGRESQL if on_postgresql else ON_SQLITE)


def allow_changes(apps: Any, schema_editor: Any) -> None:
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute("DROP FUNCTION access_audit_is_append_only() CASCADE")
    else:
        schema_editor.execute("DROP TRIGGER access_audit_is_append_only")


class Migration(migrations.Migration):
    dependencies = [("access", "0001_initial")]

    operations = [migrations.RunPython(forbid_changes, allow_changes)]

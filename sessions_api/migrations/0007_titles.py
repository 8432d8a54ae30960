"""Titles for the conversations that were begun before they had any."""

from typing import Any

from django.db import migrations

from sessions_api.store.titles import title_of

BATCH = 1000


def entitle(apps: Any, schema_editor: Any) -> None:
    sessions, messages = (apps.get_model("sessions_api", name).objects for name in ("Session", "Message"))
    last = 0
    while batch := list(sessions.filter(title="", pk__gt=last).order_by("pk").only("pk")[:BATCH]):
        last = batch[-1].pk
        first = messages.filter(session__in=batch, position=0, role="user").values_list("session_id", "content")
        titles = {pk: title_of(content) for pk, content in first}
        for session in batch:
            session.title = titles.get(session.pk, "")
        sessions.bulk_update(batch, ["title"])


class Migration(migrations.Migration):
    dependencies = [("sessions_api", "0006_statistics")]

    operations = [migrations.RunPython(entitle, migrations.RunPython.noop)]

"""The admin's list of sessions has an export action for each format."""

from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from access import audit
from sessions_api.console.session_list import audit_sessions
from sessions_api.exports.formats import FORMATS, Format
from sessions_api.exports.reading import conversations
from sessions_api.exports.writing import ExportOptions, in_pieces
from sessions_api.models import Session
from web.responses import Download

MAX_AT_ONCE = 500  # sessions; manage.py export_sessions has no limit


class ExportActions:
    """For the ModelAdmin of sessions. An export takes the permission to view."""

    def get_actions(self: Any, request: HttpRequest) -> dict[str, Any]:
        actions: dict[str, Any] = super().get_actions(request)  # type: ignore[misc] # the ModelAdmin's
        if self.has_view_permission(request):
            for name, chosen in FORMATS.items():
                description = _("Export selected sessions: %(format)s") % {"format": chosen.label}
                actions[f"export_{name}"] = (export_as(name), f"export_{name}", description)
        return actions


def export_as(name: str) -> Callable[[Any, HttpRequest, QuerySet[Session]], Any]:
    def export(model_admin: Any, request: HttpRequest, queryset: QuerySet[Session]) -> Download | None:
        chosen = list(queryset.only("session_id", "owner")[: MAX_AT_ONCE + 1])
        if len(chosen) > MAX_AT_ONCE:
            text = _("At most %d sessions at once: select fewer, or use manage.py export_sessions.") % MAX_AT_ONCE
            model_admin.message_user(request, text, messages.ERROR)
            return None
        audit_sessions(request, audit.Action.EXPORTED, chosen, format=name)
        return download(FORMATS[name], [session.pk for session in chosen])

    return export


def download(chosen: Format, pks: list[int]) -> Download:
    sessions = Session.objects.filter(pk__in=pks)
    read = conversations(sessions, superseded=chosen.superseded)
    pieces = in_pieces(chosen.write(read, ExportOptions()))
    return Download(pieces, chosen.content_type, chosen.filename(f"bancobot-{timezone.now():%Y-%m-%d}"))

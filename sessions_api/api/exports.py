"""A session as a file."""

from typing import Any

from django.http import HttpResponseBase
from django.utils.translation import gettext as _
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

from access import audit
from access.callers import caller_of
from access.models import Scope
from sessions_api.api.views import RecordViewSet, find_session, told
from sessions_api.exports.formats import CLOCKS, FORMATS
from sessions_api.exports.reading import conversation
from sessions_api.exports.writing import ExportOptions, in_pieces
from web.parsers import AcceptHeader
from web.responses import Download


class FileOrError(AcceptHeader):
    """`?format=` says what the file is to be; whatever else the Accept header names, an error is JSON."""

    def select_renderer(self, request: Any, renderers: Any, format_suffix: Any = None) -> Any:
        return renderers[0], renderers[0].media_type


class ExportViewSet(RecordViewSet):
    """/sessions/{session_id}/export"""

    scopes = {"retrieve": (Scope.READ, Scope.ADMIN)}
    content_negotiation_class = FileOrError

    def retrieve(self, request: Request, session_id: str) -> HttpResponseBase:
        name, clock = _choice(request, "format", FORMATS), _choice(request, "clock", CLOCKS)
        included = _choice(request, "include", ("", "superseded"))
        session = find_session(request, session_id)
        if caller_of(request).kind != "open":
            told(request, audit.Action.EXPORTED, session, format=name)
        chosen = FORMATS[name]
        read = conversation(session, superseded=bool(included) or chosen.superseded)
        pieces = in_pieces(chosen.write([read], ExportOptions(clock == "simulated")))
        return Download(pieces, chosen.content_type, chosen.filename(f"bancobot-{session.session_id}"))


def _choice(request: Request, name: str, values: Any) -> str:
    """A query parameter's value; the first of `values` where there is none."""
    value = request.query_params.get(name, next(iter(values)))
    if value not in values:
        raise ValidationError({name: [_("Use one of: %s.") % ", ".join(filter(None, values))]})
    return str(value)

"""A session as a file."""

from typing import Any

from django.http import HttpResponseBase
from drf_spectacular.utils import OpenApiExample, OpenApiResponse, extend_schema
from rest_framework.request import Request

from access import audit
from access.callers import caller_of
from access.models import Scope
from access.schema import errors
from sessions_api.api.base import RecordViewSet, audit_session, find_session
from sessions_api.api.queries import ExportQuery, OwnerQuery
from sessions_api.api.schema import IN_SESSION, RECORD
from sessions_api.exports.formats import FORMATS
from sessions_api.exports.reading import conversation
from sessions_api.exports.writing import ExportOptions, in_pieces
from web.openapi import examples_of
from web.parsers import AcceptHeader
from web.responses import Download


class FileOrError(AcceptHeader):
    """`?format=` says what the file is to be; whatever else the Accept header names, an error is JSON."""

    def select_renderer(self, request: Any, renderers: Any, format_suffix: Any = None) -> Any:
        return renderers[0], renderers[0].media_type


def _examples(media_type: str) -> list[OpenApiExample]:
    chosen = {name: one for name, one in FORMATS.items() if one.content_type == media_type and one.example}
    return examples_of({name: one.example for name, one in chosen.items()})


@extend_schema(tags=["Sessions"])
class ExportViewSet(RecordViewSet):
    """/sessions/{session_id}/export"""

    scopes = {"retrieve": (Scope.READ, Scope.ADMIN)}
    content_negotiation_class = FileOrError

    @extend_schema(
        operation_id="exportSession",
        summary="A session as a file",
        description="With all its messages: docs/research.md describes the formats.",
        parameters=[IN_SESSION, ExportQuery, OwnerQuery],
        responses={
            (200, media_type): OpenApiResponse({"type": "string"}, examples=_examples(media_type))
            for media_type in {chosen.content_type: "" for chosen in FORMATS.values()}
        }
        | errors(*RECORD, "session_not_found", problems={"format": f"Use um destes: {', '.join(FORMATS)}."}),
    )
    def retrieve(self, request: Request, session_id: str) -> HttpResponseBase:
        asked = ExportQuery.read(request)
        session = find_session(request, session_id)
        if caller_of(request).kind != "open":
            audit_session(request, audit.Action.EXPORTED, session, format=asked["format"])
        chosen = FORMATS[asked["format"]]
        read = conversation(session, superseded=bool(asked["include"]) or chosen.superseded)
        pieces = in_pieces(chosen.write([read], ExportOptions(asked["clock"] == "simulated")))
        return Download(pieces, chosen.content_type, chosen.filename(f"bancobot-{session.session_id}"))

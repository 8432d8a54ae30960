"""The endpoints of the record: plain synchronous Django."""

from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet
from django.utils.translation import gettext as _
from rest_framework.exceptions import ValidationError
from rest_framework.permissions import SAFE_METHODS
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import ViewSet

from access import audit
from access.callers import caller_of
from access.limits import LIMIT_HEADERS
from access.models import Scope
from sessions_api import search
from sessions_api.api import feedback, pagination
from sessions_api.api.forks import fork
from sessions_api.api.serializers import (
    FeedbackSerializer,
    ForkSerializer,
    MessageSerializer,
    OpinionSerializer,
    SessionPatchSerializer,
    SessionSerializer,
)
from sessions_api.models import Message, Session, new_public_id
from sessions_api.retention import erasure
from web.errors import ApiError, in_language_of
from web.fields import given
from web.logs import add_log_fields
from web.parsers import AcceptHeader

NEWEST_MESSAGES = 20  # shown with a session
ALL_OWNERS = "*"


def open_sessions(request: Request) -> QuerySet[Session]:
    """The caller's sessions that are not closed; or those of `?owner=`, `*` for all, where the caller may read them."""
    caller = caller_of(request)
    add_log_fields(owner_kind=caller.kind)
    owner = request.query_params.get("owner") or caller.owner
    if owner != caller.owner:
        if request.method not in SAFE_METHODS:
            raise ApiError("permission_denied")
        caller.require(Scope.ADMIN)
    sessions = Session.objects.filter(closed_at=None)
    return sessions if owner == ALL_OWNERS else sessions.filter(owner=owner)


def find_session(request: Request, session_id: str) -> Session:
    add_log_fields(session=session_id[:128])
    session = open_sessions(request).filter(session_id=session_id).first()
    if session is None:
        raise ApiError("session_not_found")
    return session


def find_to_read(request: Request, session_id: str) -> Session:
    """The session, after the audit log says who reads it. (An open caller is nobody in particular.)"""
    session = find_session(request, session_id)
    if caller_of(request).kind != "open":
        told(request, audit.Action.READ, session)
    return session


def shown(request: Request, session: Session) -> dict[str, Any]:
    """The session, and whose it is where that is not a matter of course."""
    whose = {"owner": session.owner} if request.query_params.get("owner") else {}
    return {**SessionSerializer(session).data, **whose}


def told(request: Request, action: str, session: Session, **details: Any) -> None:
    """Tell the audit log what the caller does to a session."""
    caller, address = caller_of(request), audit.address_of(request)
    audit.record(action, caller.name, target=session.session_id, owner=session.owner, address=address, **details)


def told_of_others(request: Request, found: int) -> None:
    """Tell the audit log who lists the sessions of somebody else."""
    caller, owner = caller_of(request), request.query_params.get("owner", "")
    if owner not in ("", caller.owner):
        audit.record(audit.Action.LISTED, caller.name, owner=owner, address=audit.address_of(request), found=found)


class RecordViewSet(ViewSet):
    """A view set whose errors and answers speak the caller's language."""

    metadata_class = None
    content_negotiation_class = AcceptHeader

    def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        with in_language_of(request):
            return super().dispatch(request, *args, **kwargs)

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        response = super().finalize_response(request, response, *args, **kwargs)
        for name, value in request.META.get(LIMIT_HEADERS, {}).items():
            response[name] = value
        return response


class SessionIdsViewSet(RecordViewSet):
    """The ids alone: /api/sessions."""

    scopes = {"list": (Scope.READ, Scope.ADMIN)}

    def list(self, request: Request) -> Response:
        limit = pagination.limit_of(request, default=1000, most=1000)
        sessions = open_sessions(request)
        page, following = pagination.page_of_sessions(request, sessions.only("session_id", "last_activity_at"), limit)
        told_of_others(request, len(page))
        ids = [session.session_id for session in page]
        return Response({"sessions": ids, "count": sessions.count(), "next": following})


class SessionsViewSet(RecordViewSet):
    """Conversations and their messages: /sessions."""

    scopes = {
        "list": (Scope.READ, Scope.ADMIN),
        "retrieve": (Scope.READ, Scope.ADMIN),
        "messages": (Scope.READ, Scope.ADMIN),
        "partial_update": (Scope.WRITE,),
        "destroy": (Scope.WRITE, Scope.ERASE),
        "fork": (Scope.WRITE,),
    }

    def list(self, request: Request) -> Response:
        limit = pagination.limit_of(request, default=20, most=100)
        page, following = pagination.page_of_sessions(request, self._filtered(request), limit)
        told_of_others(request, len(page))
        return Response({"data": [shown(request, session) for session in page], "next": following})

    def retrieve(self, request: Request, session_id: str) -> Response:
        session = find_to_read(request, session_id)
        newest = list(_messages(request, session).order_by("-position")[:NEWEST_MESSAGES])
        return Response({**shown(request, session), "messages": in_words(newest[::-1])})

    def partial_update(self, request: Request, session_id: str) -> Response:
        changes = given(SessionPatchSerializer().run_validation(request.data))
        session = find_session(request, session_id)
        for name, value in changes.items():
            setattr(session, name, value)
        with transaction.atomic():
            session.save(update_fields=changes)
            told(request, audit.Action.CHANGED, session, fields=sorted(changes))
        return Response(SessionSerializer(session).data)

    def destroy(self, request: Request, session_id: str) -> Response:
        erasing = pagination.flag_of(request, "erase")
        caller_of(request).require(Scope.ERASE if erasing else Scope.WRITE)
        session = find_session(request, session_id)
        gone = erasing or settings.SESSION_CLOSED_RETENTION_HOURS == 0
        told(request, audit.Action.ERASED if gone else audit.Action.CLOSED, session)
        sessions = Session.objects.filter(pk=session.pk)
        if not (erasure.erase(sessions) if erasing else erasure.close(sessions)):
            raise ApiError("session_not_found")
        return Response({"status": "success", "message": f"Sessão {session_id} removida"})

    def messages(self, request: Request, session_id: str) -> Response:
        limit = pagination.limit_of(request, default=100, most=100)
        messages = _messages(request, find_to_read(request, session_id))
        page, following = pagination.page_of_messages(request, messages, limit)
        return Response({"data": in_words(page), "next": following})

    def fork(self, request: Request, session_id: str) -> Response:
        wanted = ForkSerializer().run_validation(request.data)
        after_turn = (wanted["after_turn"] or "") if "after_turn" in wanted else None
        session = find_session(request, session_id)
        copy = fork(session, after_turn, wanted.get("session_id") or new_public_id())
        told(request, audit.Action.FORKED, copy, of=session.session_id)
        return Response(SessionSerializer(copy).data, status=201)

    def _filtered(self, request: Request) -> QuerySet[Session]:
        sessions = open_sessions(request)
        since, until = pagination.moment_of(request, "since"), pagination.moment_of(request, "until")
        if since:
            sessions = sessions.filter(last_activity_at__gte=since)
        if until:
            sessions = sessions.filter(last_activity_at__lt=until)
        if persona := request.query_params.get("persona_id"):
            sessions = sessions.filter(persona_id=persona, persona_id__gt="")  # as the index says
        if text := request.query_params.get("q"):
            owner = request.query_params.get("owner") or caller_of(request).owner
            # A page's search begins behind the page before it.
            sessions = pagination.behind_cursor(request, sessions)
            sessions = search.matching(sessions, None if owner == ALL_OWNERS else owner, text)
        return sessions


class FeedbackViewSet(RecordViewSet):
    """What somebody thinks of a reply: /messages/{id}/feedback."""

    scopes = {"create": (Scope.CHAT, Scope.WRITE)}

    def create(self, request: Request, message_id: str) -> Response:
        opinion = OpinionSerializer().run_validation(request.data)
        reply = feedback.find_reply(caller_of(request).owner, message_id)
        given = feedback.give(reply, opinion["rating"], opinion.get("comment") or "")
        return Response({"id": reply.public_id, "feedback": given and FeedbackSerializer(given).data})


def in_words(messages: list[Message]) -> Any:
    """Messages of one session in the words of the wire contract."""
    return MessageSerializer(messages, many=True, context={"feedback": feedback.by_position(messages)}).data


def _messages(request: Request, session: Session) -> QuerySet[Message]:
    """The conversation as it stands; with `?include=superseded` also what a later turn took the place of."""
    included = request.query_params.get("include", "")
    if included not in ("", "superseded"):
        raise ValidationError({"include": [_("Use “superseded”.")]})
    return session.messages.all() if included else session.messages.filter(superseded_at=None)

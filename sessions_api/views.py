"""The endpoints of the record: plain synchronous Django."""

from typing import Any

from django.conf import settings
from django.db.models import Exists, OuterRef, Q, QuerySet
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import ViewSet

from access.callers import caller_of
from bancobot_project.errors import ApiError, speaking
from bancobot_project.fields import given
from bancobot_project.logs import note
from bancobot_project.parsers import AcceptHeader
from sessions_api import housekeeping, paging
from sessions_api.models import Message, Session
from sessions_api.serializers import MessageSerializer, SessionPatchSerializer, SessionSerializer

NEWEST_MESSAGES = 20  # shown with a session


def open_sessions(request: Request) -> QuerySet[Session]:
    """The caller's sessions that are not closed."""
    caller = caller_of(request)
    note(owner_kind=caller.kind)
    return Session.objects.filter(owner=caller.owner, closed_at=None)


def find_session(request: Request, session_id: str) -> Session:
    note(session=session_id[:128])
    session = open_sessions(request).filter(session_id=session_id).first()
    if session is None:
        raise ApiError("session_not_found")
    return session


class RecordViewSet(ViewSet):
    """A view set whose errors and answers speak the caller's language."""

    metadata_class = None
    content_negotiation_class = AcceptHeader

    def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        with speaking(request):
            return super().dispatch(request, *args, **kwargs)


class SessionIdsViewSet(RecordViewSet):
    """The ids alone: /api/sessions."""

    def list(self, request: Request) -> Response:
        limit = paging.limit_of(request, default=1000, most=1000)
        sessions = open_sessions(request)
        page, following = paging.page_of_sessions(request, sessions.only("session_id", "last_activity_at"), limit)
        ids = [session.session_id for session in page]
        return Response({"sessions": ids, "count": sessions.count(), "next": following})


class SessionsViewSet(RecordViewSet):
    """Conversations and their messages: /sessions."""

    def list(self, request: Request) -> Response:
        limit = paging.limit_of(request, default=20, most=100)
        page, following = paging.page_of_sessions(request, self._filtered(request), limit)
        return Response({"data": SessionSerializer(page, many=True).data, "next": following})

    def retrieve(self, request: Request, session_id: str) -> Response:
        session = find_session(request, session_id)
        newest = list(_messages(session).order_by("-position")[:NEWEST_MESSAGES])
        messages = MessageSerializer(newest[::-1], many=True).data
        return Response({**SessionSerializer(session).data, "messages": messages})

    def partial_update(self, request: Request, session_id: str) -> Response:
        changes = given(SessionPatchSerializer().run_validation(request.data))
        session = find_session(request, session_id)
        for name, value in changes.items():
            setattr(session, name, value)
        session.save(update_fields=changes)
        return Response(SessionSerializer(session).data)

    def destroy(self, request: Request, session_id: str) -> Response:
        erasing = paging.flag_of(request, "erase")
        sessions = Session.objects.filter(pk=find_session(request, session_id).pk)
        removed = housekeeping.erase(sessions) if erasing else housekeeping.close(sessions)
        if not removed:
            raise ApiError("session_not_found")
        return Response({"status": "success", "message": f"Sessão {session_id} removida"})

    def messages(self, request: Request, session_id: str) -> Response:
        limit = paging.limit_of(request, default=100, most=100)
        page, following = paging.page_of_messages(request, _messages(find_session(request, session_id)), limit)
        return Response({"data": MessageSerializer(page, many=True).data, "next": following})

    def _filtered(self, request: Request) -> QuerySet[Session]:
        sessions = open_sessions(request)
        since, until = paging.moment_of(request, "since"), paging.moment_of(request, "until")
        if since:
            sessions = sessions.filter(last_activity_at__gte=since)
        if until:
            sessions = sessions.filter(last_activity_at__lt=until)
        if persona := request.query_params.get("persona_id"):
            sessions = sessions.filter(persona_id=persona, persona_id__gt="")  # as the index says
        if text := request.query_params.get("q"):
            said = Message.objects.filter(session=OuterRef("pk"), content__icontains=text[: settings.MAX_MESSAGE_CHARS])
            sessions = sessions.filter(Q(title__icontains=text) | Exists(said))
        return sessions


def _messages(session: Session) -> QuerySet[Message]:
    return session.messages.filter(superseded_at=None)

"""The endpoints of the record: plain synchronous Django."""

from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework.request import Request
from rest_framework.response import Response

from access import audit
from access.callers import caller_of
from access.models import Scope
from access.schema import errors
from sessions_api import search, search_hits
from sessions_api.api import feedback, pagination, queries, schema, serializers
from sessions_api.api.base import (
    ALL_OWNERS,
    RecordViewSet,
    audit_list,
    audit_session,
    find_session,
    find_to_read,
    open_sessions,
    owner_asked,
)
from sessions_api.api.forks import fork
from sessions_api.api.schema import IN_SESSION, RECORD, STORING
from sessions_api.models import Message, Session, new_public_id
from sessions_api.retention import erasure
from sessions_api.store.quotas import charge_quota, growth_by
from web.errors import ApiError
from web.fields import without_nulls
from web.openapi import answer, examples_of

NEWEST_MESSAGES = 20  # shown with a session


@extend_schema(tags=["Sessions"])
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

    @extend_schema(
        operation_id="listSessions",
        summary="Your sessions",
        description="Last active first.",
        parameters=[queries.SessionsQuery, queries.FilterQuery, queries.OwnerQuery],
        responses=answer(serializers.SessionPageSerializer, {"sessões": schema.SESSION_PAGE})
        | errors(*RECORD, problems={"limit": "Use um número inteiro de 1 a 100."}),
    )
    def list(self, request: Request) -> Response:
        asked = queries.SessionsQuery.read(request)
        sessions, words = filtered(request, asked["cursor"])
        page, following = pagination.page_of_sessions(request, sessions, **asked)
        audit_list(request, len(page))
        matches = None if words is None else search_hits.newest_in(page, words)
        return Response({"data": serialize(request, page, many=True, matches=matches), "next": following})

    @extend_schema(
        operation_id="getSession",
        summary="A session",
        description="What it is, what it took, and its newest messages.",
        parameters=[IN_SESSION, queries.IncludeQuery, queries.OwnerQuery],
        responses=answer(serializers.SessionWithMessagesSerializer, {"sessão": schema.SESSION_WITH_MESSAGES})
        | errors(*RECORD, "session_not_found"),
    )
    def retrieve(self, request: Request, session_id: str) -> Response:
        session = find_to_read(request, session_id)
        newest = list(messages_of(request, session).order_by("-position")[:NEWEST_MESSAGES])
        return Response({**serialize(request, session), "messages": serialize_messages(newest[::-1])})

    @extend_schema(
        operation_id="updateSession",
        summary="Change a session",
        description="What is left out stays as it is; metadata is replaced as a whole.",
        parameters=[IN_SESSION],
        request=serializers.SessionPatchSerializer,
        examples=examples_of({"título": schema.CHANGES}, request_only=True),
        responses=answer(serializers.SessionSerializer, {"sessão": schema.SESSION})
        | errors(*STORING, "session_not_found", problems={"title": "Não é um string válido."}),
    )
    def partial_update(self, request: Request, session_id: str) -> Response:
        changes = without_nulls(serializers.SessionPatchSerializer().run_validation(request.data))
        session = find_session(request, session_id)
        charge_quota(caller_of(request), growth_by(changes, session))
        for name, value in changes.items():
            setattr(session, name, value)
        with transaction.atomic():
            if changes and not Session.objects.filter(pk=session.pk, closed_at=None).update(**changes):
                raise ApiError("session_not_found")  # it was erased meanwhile, or closed
            audit_session(request, audit.Action.CHANGED, session, fields=sorted(changes))
        return Response(serializers.SessionSerializer(session).data)

    @extend_schema(
        operation_id="deleteSession",
        summary="Remove a session",
        description=schema.REMOVE,
        parameters=[IN_SESSION, queries.EraseQuery],
        responses=answer(serializers.RemovedSerializer, {"removida": schema.REMOVED})
        | errors(*RECORD, "session_not_found", problems={"erase": "Use true ou false."}),
    )
    def destroy(self, request: Request, session_id: str) -> Response:
        erasing = queries.EraseQuery.read(request)["erase"]
        caller_of(request).require(Scope.ERASE if erasing else Scope.WRITE)
        session = find_session(request, session_id)
        gone = erasing or settings.SESSION_CLOSED_RETENTION_HOURS == 0
        audit_session(request, audit.Action.ERASED if gone else audit.Action.CLOSED, session)
        sessions = Session.objects.filter(pk=session.pk)
        if not (erasure.erase(sessions) if erasing else erasure.close(sessions)):
            raise ApiError("session_not_found")
        return Response({"status": "success", "message": f"Sessão {session_id} removida"})

    @extend_schema(
        operation_id="listMessages",
        summary="A session's messages",
        description="The whole conversation, page by page.",
        parameters=[IN_SESSION, queries.MessagesQuery, queries.RangeQuery, queries.IncludeQuery, queries.OwnerQuery],
        responses=answer(serializers.MessagePageSerializer, {"mensagens": schema.MESSAGE_PAGE})
        | errors(*RECORD, "session_not_found", problems={"order": "Use asc ou desc."}),
    )
    def messages(self, request: Request, session_id: str) -> Response:
        asked, between = queries.MessagesQuery.read(request), queries.RangeQuery.read(request)
        session = find_to_read(request, session_id)
        messages = messages_of(request, session)
        if (asked["q"] or "").strip():
            messages = search_hits.among(messages, session, search.query_of(session.owner, asked["q"]))
        if asked["around"] is None:
            page, following = pagination.page_of_messages(request, messages, asked["limit"], **between)
            return Response({"data": serialize_messages(page), "next": following})
        page, links = pagination.page_around(request, messages, asked["limit"], asked["around"], between["order"])
        return Response({"data": serialize_messages(page), **links})

    @extend_schema(
        operation_id="forkSession",
        summary="Copy a session",
        description="A new session with what was said up to the end of a turn: all of it without `after_turn`, nothing "
        "where that is null. Superseded messages are left out; the copies cost nothing, and so have no usage.",
        parameters=[IN_SESSION],
        request=serializers.ForkSerializer,
        examples=examples_of({"até um turno": {"after_turn": schema.TURN_ID}}, request_only=True),
        responses=answer(serializers.SessionSerializer, {"cópia": schema.COPY}, 201)
        | errors(
            *STORING, "session_not_found", "turn_not_found", "session_busy", "session_exists",
            problems={"session_id": "Use de 1 a 128 caracteres dentre A-Z a-z 0-9 . _ : -"},
        ),
    )  # fmt: skip
    def fork(self, request: Request, session_id: str) -> Response:
        wanted = serializers.ForkSerializer().run_validation(request.data)
        after_turn = (wanted["after_turn"] or "") if "after_turn" in wanted else None
        session = find_session(request, session_id)
        copy = fork(session, after_turn, wanted.get("session_id") or new_public_id(), caller_of(request))
        audit_session(request, audit.Action.FORKED, copy, of=session.session_id)
        return Response(serializers.SessionSerializer(copy).data, status=201)


@extend_schema_view(
    destroy=extend_schema(
        operation_id="deleteSessionById",
        description=f"The same as DELETE /sessions/{{session_id}}. {schema.REMOVE}",
    )
)
class SessionIdsViewSet(SessionsViewSet):
    """The ids alone: /api/sessions."""

    @extend_schema(
        operation_id="listSessionIds",
        summary="Your sessions' ids",
        description="Last active first.",
        parameters=[queries.SessionIdsQuery, queries.OwnerQuery],
        responses=answer(serializers.SessionIdsSerializer, {"sessões": schema.SESSION_IDS})
        | errors(*RECORD, problems={"limit": "Use um número inteiro de 1 a 1000."}),
    )
    def list(self, request: Request) -> Response:
        asked = queries.SessionIdsQuery.read(request)
        sessions = open_sessions(request)
        page, following = pagination.page_of_sessions(request, sessions.only("session_id", "last_activity_at"), **asked)
        audit_list(request, len(page))
        ids = [session.session_id for session in page]
        return Response({"sessions": ids, "count": sessions.count(), "next": following})


@extend_schema(tags=["Sessions"])
class FeedbackViewSet(RecordViewSet):
    """What somebody thinks of a reply: /messages/{id}/feedback."""

    scopes = {"create": (Scope.CHAT, Scope.WRITE)}

    @extend_schema(
        operation_id="giveFeedback",
        summary="Say what you think of a reply",
        description="The newest opinion counts; a rating of null takes it back.",
        parameters=[schema.IN_MESSAGE],
        request=serializers.OpinionSerializer,
        examples=examples_of({"boa": schema.OPINION}, request_only=True),
        responses=answer(serializers.MessageFeedbackSerializer, {"avaliada": schema.FEEDBACK})
        | errors(*STORING, "message_not_found", problems={"rating": "Use “up”, “down” ou null."}),
    )
    def create(self, request: Request, message_id: str) -> Response:
        opinion = serializers.OpinionSerializer().run_validation(request.data)
        reply = feedback.find_reply(caller_of(request).owner, message_id)
        comment = opinion.get("comment") or ""
        charge_quota(caller_of(request), feedback.growth_by(comment, reply))
        kept = feedback.give(reply, opinion["rating"], comment)
        return Response(serializers.MessageFeedbackSerializer({"id": reply.public_id, "feedback": kept}).data)


def serialize(request: Request, sessions: Any, *, many: bool = False, matches: dict[int, Message] | None = None) -> Any:
    """A session, or many; whose they are where the request names an owner, and the `matches` of a search."""
    context = {"with_owner": bool(owner_asked(request)), "matches": matches}
    return serializers.SessionSerializer(sessions, many=many, context=context).data


def serialize_messages(messages: list[Message]) -> Any:
    """Messages of one session."""
    return serializers.MessageSerializer(messages, many=True, context={"feedback": feedback.by_position(messages)}).data


def messages_of(request: Request, session: Session) -> QuerySet[Message]:
    """The conversation as it stands; with `?include=superseded` also what a later turn took the place of."""
    included = queries.IncludeQuery.read(request)["include"]
    return session.messages.all() if included else session.messages.filter(superseded_at=None)


def filtered(request: Request, cursor: pagination.Cursor | None) -> tuple[QuerySet[Session], str | None]:
    """The sessions that the request asks for, those of other pages included; and what it searches for, as a query."""
    sessions, asked = open_sessions(request), queries.FilterQuery.read(request)
    if asked["since"]:
        sessions = sessions.filter(last_activity_at__gte=asked["since"])
    if asked["until"]:
        sessions = sessions.filter(last_activity_at__lt=asked["until"])
    if asked["persona_id"]:
        sessions = sessions.filter(persona_id=asked["persona_id"], persona_id__gt="")  # as the index says
    if not (asked["q"] or "").strip():
        return sessions, None
    owner: str | None = owner_asked(request) or caller_of(request).owner
    owner = None if owner == ALL_OWNERS else owner
    words = search.query_of(owner, asked["q"])
    # A page's search begins behind the page before it.
    return search.having(pagination.behind_cursor(cursor, sessions), owner, words), words

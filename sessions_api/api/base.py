"""What the endpoints of the record share: they find a caller's sessions and write to the audit log."""

from typing import Any

from django.db.models import QuerySet
from rest_framework.permissions import SAFE_METHODS
from rest_framework.request import Request
from rest_framework.viewsets import ViewSet

from access import audit
from access.callers import caller_of
from access.limits import LIMIT_HEADERS
from access.models import Scope
from sessions_api.api.queries import OwnerQuery
from sessions_api.models import Session
from web.errors import ApiError, in_language_of
from web.logs import add_log_fields
from web.parsers import AcceptHeader

ALL_OWNERS = "*"


def open_sessions(request: Request) -> QuerySet[Session]:
    """The caller's sessions that are not closed; or those of `?owner=`, `*` for all, where the caller may read them."""
    caller = caller_of(request)
    add_log_fields(owner_kind=caller.kind)
    owner = owner_asked(request) or caller.owner
    if owner != caller.owner:
        if request.method not in SAFE_METHODS:
            raise ApiError("permission_denied")
        caller.require(Scope.ADMIN)
    sessions = Session.objects.filter(closed_at=None)
    return sessions if owner == ALL_OWNERS else sessions.filter(owner=owner)


def owner_asked(request: Request) -> str:
    """The owner whose sessions the request names, or nothing."""
    return OwnerQuery.read(request)["owner"] or ""


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
        audit_session(request, audit.Action.READ, session)
    return session


def audit_session(request: Request, action: str, session: Session, **details: Any) -> None:
    """Record what the caller does to a session."""
    caller, address = caller_of(request), audit.address_of(request)
    audit.record(action, caller.name, target=session.session_id, owner=session.owner, address=address, **details)


def audit_list(request: Request, found: int) -> None:
    """Record who lists the sessions of somebody else."""
    caller, owner = caller_of(request), owner_asked(request)
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

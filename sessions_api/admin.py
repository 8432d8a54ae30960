"""Conversations for the operators: they can find, read, close and erase them, and never edit them."""

import json
import math
from collections.abc import Iterable
from itertools import groupby
from typing import Any

from django.conf import settings
from django.contrib import admin, messages
from django.contrib.admin.actions import delete_selected
from django.contrib.admin.models import CHANGE, LogEntry
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.timezone import localtime
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from access import audit
from access.admin_site import site
from sessions_api.console import pages, session_list
from sessions_api.console.exports import ExportActions
from sessions_api.console.formatting import money
from sessions_api.console.session_list import audit_sessions
from sessions_api.models import Feedback, Message, Session
from sessions_api.retention import erasure
from sessions_api.store.titles import shortened
from web.modeladmin import BoundedPaginator, PageWithMore

MAX_AT_ONCE = 500  # sessions in one action
MAX_NAMED = 100
MAX_NAME = 40  # characters of a persona or a model in the list; the session's page has them whole
TRANSCRIPT_PAGE = 200  # messages

site.pages += [
    path("overview/", site.admin_view(pages.overview_page), name="overview"),
    path("running/", site.admin_view(pages.running_page), name="running"),
    path("running/<str:turn_id>/cancel/", site.admin_view(pages.cancel_view), name="running_cancel"),
]


@admin.register(Session, site=site)
class SessionAdmin(ExportActions, PageWithMore):
    """Closing needs the permission to change sessions; erasing, the permission to delete them."""

    list_display = [
        "conversation", "owner_kind", "persona", "model_name", "message_count", "tokens", "cost_usd", "activity",
        "status",
    ]  # fmt: skip
    list_display_links = ["conversation"]
    list_filter = [
        session_list.ActivityFilter,
        session_list.ClosedFilter,
        session_list.ReplyFilter,
        session_list.FeedbackFilter,
        session_list.OwnerFilter,
        session_list.ModelFilter,
    ]
    sortable_by = ["activity"]  # an index gives no other order
    search_fields = ["session_id", "title"]  # shows the box; session_list.search answers it
    search_help_text = _("Session id (whole, or how it begins), or part of the title or of any message")
    actions = ["close_selected", "delete_selected"]
    list_per_page = list_max_show_all = 100
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    changelist = session_list.SessionList
    paginator = session_list.BoundedPaginator
    fieldsets = [
        (None, {"fields": [
            "session_id", "title", "state", "owner_shown", "persona_id", "model", "created_at", "last_activity_at",
            "closed_at", "forked_from", "message_count", "superseded_count", "prompt_tokens", "completion_tokens",
            "cost_usd",
        ]}),
        (_("System prompt and metadata"), {"fields": ["system_prompt", "metadata_text"], "classes": ["collapse"]}),
    ]  # fmt: skip
    readonly_fields = ["state", "owner_shown", "cost_usd", "metadata_text"]

    class Media:
        css = {"all": ["sessions_api/admin.css"]}

    # Permissions

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Session | None = None) -> bool:
        return False

    def has_view_permission(self, request: HttpRequest, obj: Session | None = None) -> bool:
        return pages.may_view(request)

    def has_close_permission(self, request: HttpRequest) -> bool:
        """No closing where it would erase at once: it asks for no confirmation."""
        keeps = settings.SESSION_CLOSED_RETENTION_HOURS != 0
        return keeps and request.user.has_perm("sessions_api.change_session")

    # The list

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Session], search_term: str
    ) -> tuple[QuerySet[Session], bool]:
        """Audited without a search too, since the list shows titles. The text stays out of the log."""
        text = search_term.strip()
        who, where = audit.staff(request), audit.address_of(request)
        audit.record(audit.Action.LISTED, who, address=where, searched=bool(text))
        return (session_list.search(queryset, text) if text else queryset), False

    @admin.display(description=_("conversation"))
    def conversation(self, session: Session) -> str:
        if not session.title:
            return session.session_id
        return format_html("{}<br><small>{}</small>", shortened(session.title, 80), session.session_id)

    @admin.display(description=_("owner"))
    def owner_kind(self, session: Session) -> Any:
        kind = session.owner.partition(":")[0]
        return session_list.OWNER_KINDS.get(kind, kind)

    @admin.display(description=_("persona"))
    def persona(self, session: Session) -> str:
        return shortened(session.persona_id, MAX_NAME)

    @admin.display(description=_("model"))
    def model_name(self, session: Session) -> str:
        return shortened(session.model, MAX_NAME)

    @admin.display(description=_("tokens"))
    def tokens(self, session: Session) -> int:
        return session.total_tokens

    @admin.display(description=_("cost (USD)"))
    def cost_usd(self, session: Session) -> str:
        return money(session.cost)

    @admin.display(description=_("last activity"), ordering="last_activity_at")
    def activity(self, session: Session) -> str:
        return date_format(localtime(session.last_activity_at), "SHORT_DATETIME_FORMAT")

    @admin.display(description=_("state"))
    def status(self, session: Session) -> Any:
        """Open or closed, and below it the newest reply's status."""
        newest = getattr(session, "newest_status", None)
        if newest is None:
            return self.state(session)
        label = Message.Status(newest).label
        return format_html('{}<br><small class="status {}">{}</small>', self.state(session), newest, label)

    @admin.display(description=_("owner"))
    def owner_shown(self, session: Session) -> Any:
        kind = self.owner_kind(session)
        return f"{kind} ({session.owner})" if ":" in session.owner else kind

    @admin.display(description=_("state"))
    def state(self, session: Session) -> Any:
        return _("open") if session.closed_at is None else _("closed")

    @admin.display(description=_("metadata"))
    def metadata_text(self, session: Session) -> str:
        return json.dumps(session.metadata, ensure_ascii=False, indent=2) if session.metadata else ""

    def get_paginator(self, request: HttpRequest, queryset: Any, *args: Any, **kwargs: Any) -> Any:
        """The list's adds up; the history of a session is a list of other things."""
        adds_up = queryset.model is Session
        return (self.paginator if adds_up else BoundedPaginator)(queryset, *args, **kwargs)

    # Closing

    @admin.action(permissions=["close"], description=_("Close selected sessions"))
    def close_selected(self, request: HttpRequest, queryset: QuerySet[Session]) -> None:
        if self._few_enough(request, queryset):
            self._close(request, list(queryset))

    def close_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """The button on a session's page comes here."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not self.has_close_permission(request):
            raise PermissionDenied
        session = self.get_object(request, object_id)
        if session is not None:
            self._close(request, [session])
        return HttpResponseRedirect(reverse("admin:sessions_api_session_changelist"))

    def _close(self, request: HttpRequest, sessions: list[Session]) -> None:
        still_open = [session for session in sessions if session.closed_at is None]
        user: Any = request.user
        LogEntry.objects.log_actions(user.pk, without_text(still_open), CHANGE, str(_("Closed")))
        audit_sessions(request, audit.Action.CLOSED, still_open)
        count = erasure.close(Session.objects.filter(pk__in=[session.pk for session in still_open]))
        said = ngettext("%d session was closed.", "%d sessions were closed.", count) % count
        self.message_user(request, said, messages.SUCCESS)

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.close_view)
        return [path("<int:object_id>/close/", view, name="sessions_api_session_close"), *super().get_urls()]

    # Erasing: Django's own pages, which count the messages and do not name them

    @admin.action(permissions=["delete"], description=_("Erase selected sessions permanently"))
    def delete_selected(self, request: HttpRequest, queryset: QuerySet[Session]) -> Any:
        return delete_selected(self, request, queryset) if self._few_enough(request, queryset) else None

    def get_deleted_objects(
        self, objs: Iterable[Session], request: HttpRequest
    ) -> tuple[list[Any], dict[str, int], set[str], list[str]]:
        sessions = list(objs)
        named = [str(session) for session in sessions[:MAX_NAMED]]
        if len(sessions) > MAX_NAMED:
            named.append("…")
        counts = {
            str(Session._meta.verbose_name_plural): len(sessions),
            str(Message._meta.verbose_name_plural): sum(session.message_count for session in sessions),
        }
        return named, counts, set(), []

    def delete_model(self, request: HttpRequest, obj: Session) -> None:
        audit_sessions(request, audit.Action.ERASED, [obj])
        erase_after_commit([obj.pk])

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Session]) -> None:
        audit_sessions(request, audit.Action.ERASED, queryset)
        erase_after_commit([session.pk for session in queryset])

    def log_deletions(self, request: HttpRequest, queryset: Iterable[Session]) -> Any:
        untitled: Any = without_text(queryset)
        return super().log_deletions(request, untitled)

    def _few_enough(self, request: HttpRequest, queryset: QuerySet[Session]) -> bool:
        few = queryset[: MAX_AT_ONCE + 1].count() <= MAX_AT_ONCE
        if not few:
            text = _("At most %d sessions at once: select fewer, or use manage.py purge_sessions.") % MAX_AT_ONCE
            self.message_user(request, text, messages.ERROR)
        return few

    # The session's page

    def more(self, request: HttpRequest, record: Session) -> dict[str, Any]:
        who, where = audit.staff(request), audit.address_of(request)
        audit.record(audit.Action.READ, who, target=record.session_id, owner=record.owner, address=where)
        can_close = record.closed_at is None and self.has_close_permission(request)
        return {"transcript": transcript(record, wished_page(record, request)), "can_close": can_close}


def erase_after_commit(pks: list[int]) -> None:
    """Django deletes inside a transaction. Erasing takes several small ones and then empties the journal."""
    transaction.on_commit(lambda: erasure.erase(Session.objects.filter(pk__in=pks)))


def without_text(sessions: Iterable[Session]) -> list[Session]:
    """The sessions without titles: the admin's log outlives them."""
    return [Session(pk=session.pk, session_id=session.session_id) for session in sessions]


def wished_page(session: Session, request: HttpRequest) -> int:
    """The page of the transcript that the address names, by itself or by a message's position."""
    page, position = (request.GET.get(name, "") for name in ("p", "message"))
    if position.isdecimal() and len(position) < 10 and not page:
        return (session.message_count - 1 - int(position)) // TRANSCRIPT_PAGE + 1
    return int(page) if page.isdecimal() and len(page) < 10 else 1


def transcript(session: Session, wished_page: int) -> dict[str, Any]:
    """A page of the conversation, in its order. Page 1 is the newest. Positions have no gaps, so a page is a range.

    `runs`: neighbouring messages, and whether a later turn replaced them.
    """
    pages = max(1, math.ceil(session.message_count / TRANSCRIPT_PAGE))
    page = min(pages, max(1, wished_page))
    end = session.message_count - TRANSCRIPT_PAGE * (page - 1)
    shown: dict[str, Any] = {"session": session, "position__gte": end - TRANSCRIPT_PAGE, "position__lt": end}
    opinions = {opinion.position: opinion for opinion in Feedback.objects.filter(**shown)}
    found: list[Any] = list(Message.objects.filter(**shown).defer("metadata").order_by("position"))
    for message in found:
        message.opinion = opinions.get(message.position)
    runs = groupby(found, key=lambda message: message.superseded_at is not None)
    return {
        "runs": [{"superseded": superseded, "messages": list(together)} for superseded, together in runs],
        "page": page,
        "pages": pages,
        "older": page + 1 if page < pages else None,
        "newer": page - 1 if page > 1 else None,
    }

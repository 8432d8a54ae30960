"""Pages of `{"data": […], "next": URL or null}` by key: a page costs the same wherever it lies."""

from datetime import datetime, timedelta
from typing import Any

from django.db.models import Q, QuerySet
from rest_framework.request import Request

from sessions_api.models import Message, Session
from web.moments import EPOCH

Cursor = tuple[datetime, int]  # when the last session of a page was last active, and its key


def behind_cursor(cursor: Cursor | None, sessions: QuerySet[Session]) -> QuerySet[Session]:
    """Those that a page, and the pages after it, have to show."""
    if cursor is None:
        return sessions
    moment, key = cursor
    return sessions.filter(last_activity_at__lte=moment).filter(Q(last_activity_at__lt=moment) | Q(pk__lt=key))


def page_of_sessions(
    request: Request, sessions: QuerySet[Session], limit: int, cursor: Cursor | None
) -> tuple[list[Session], str | None]:
    """The next `limit` sessions, last active first, and where the page after them is."""
    page = list(behind_cursor(cursor, sessions).order_by("-last_activity_at", "-pk")[: limit + 1])
    if len(page) <= limit:
        return page, None
    last = page[limit - 1]
    ticks = (last.last_activity_at - EPOCH) // timedelta(microseconds=1)
    return page[:limit], link(request, cursor=f"{ticks}.{last.pk}")


def page_of_messages(
    request: Request, messages: QuerySet[Message], limit: int, after: int | None, before: int | None, order: str
) -> tuple[list[Message], str | None]:
    """The next `limit` messages between the positions `after` and `before`, oldest first or by `order` desc."""
    if after is not None:
        messages = messages.filter(position__gt=after)
    if before is not None:
        messages = messages.filter(position__lt=before)
    page = list(messages.order_by("-position" if order == "desc" else "position")[: limit + 1])
    if len(page) <= limit:
        return page, None
    further: dict[str, Any] = {"before" if order == "desc" else "after": page[limit - 1].public_id}
    return page[:limit], link(request, **further)


def page_around(
    request: Request, messages: QuerySet[Message], limit: int, around: int, order: str
) -> tuple[list[Message], dict[str, str | None]]:
    """The `limit` messages around a position, and what is `previous` and `next` to them."""
    half = limit // 2
    older = list(messages.filter(position__lt=around).order_by("-position")[: half + 1])
    newer = list(messages.filter(position__gte=around).order_by("position")[: limit - half + 1])
    page = older[:half][::-1] + newer[: limit - half]
    first, last = (page[0].public_id, page[-1].public_id) if page else (str(around), str(around))
    there = {"around": None, "after": None, "before": None}
    above = link(request, **there | {"before": first, "order": "desc"}) if len(older) > half else None
    below = link(request, **there | {"after": last, "order": "asc"}) if len(newer) > limit - half else None
    if order == "desc":
        return page[::-1], {"previous": below, "next": above}
    return page, {"previous": above, "next": below}


def link(request: Request, **changed: str | None) -> str:
    """This request's own address with some parameters changed, or left out: every filter is kept."""
    parameters = request.query_params.copy()
    for name, value in changed.items():
        if value is None:
            parameters.pop(name, None)
        else:
            parameters[name] = value
    return str(request.build_absolute_uri(f"{request.path}?{parameters.urlencode()}"))

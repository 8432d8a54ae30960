"""Pages of `{"data": […], "next": URL or null}` by key: a page costs the same wherever it lies."""

import re
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Q, QuerySet
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

from sessions_api.models import Message, Session
from web.moments import EPOCH, utc

A_CURSOR = re.compile(r"([0-9]{1,17})\.([0-9]{1,18})")  # microseconds until the year 5138, and a key


def limit_of(request: Request, default: int, most: int) -> int:
    value = request.query_params.get("limit", str(default))
    if not re.fullmatch(r"[0-9]{1,6}", value) or not 1 <= int(value) <= most:
        raise ValidationError({"limit": [_("Use a whole number from 1 to %d.") % most]})
    return int(value)


def moment_of(request: Request, name: str) -> datetime | None:
    """A query parameter that is a moment in ISO 8601; UTC where it names no zone."""
    value = request.query_params.get(name)
    if not value:
        return None
    try:
        moment = parse_datetime(value.replace(" ", "+")) or parse_datetime(f"{value}T00:00:00")
        if moment is not None:
            return utc(moment)
    except (ValueError, OverflowError):
        pass
    raise ValidationError({name: [_("Use a date and time in ISO 8601.")]})


def flag_of(request: Request, name: str) -> bool:
    value = request.query_params.get(name, "false").lower()
    if value not in ("true", "false", "1", "0"):
        raise ValidationError({name: [_("Use true or false.")]})
    return value in ("true", "1")


def behind_cursor(request: Request, sessions: QuerySet[Session]) -> QuerySet[Session]:
    """Those that the request's page, and the pages after it, have to show."""
    cursor = request.query_params.get("cursor")
    if not cursor:
        return sessions
    found = A_CURSOR.fullmatch(cursor)
    if not found:
        raise ValidationError({"cursor": [_("This is not a cursor of ours.")]})
    moment = EPOCH + timedelta(microseconds=int(found[1]))
    return sessions.filter(last_activity_at__lte=moment).filter(
        Q(last_activity_at__lt=moment) | Q(pk__lt=int(found[2]))
    )


def page_of_sessions(request: Request, sessions: QuerySet[Session], limit: int) -> tuple[list[Session], str | None]:
    """The next `limit` sessions, last active first, and where the page after them is."""
    page = list(behind_cursor(request, sessions).order_by("-last_activity_at", "-pk")[: limit + 1])
    if len(page) <= limit:
        return page, None
    last = page[limit - 1]
    ticks = (last.last_activity_at - EPOCH) // timedelta(microseconds=1)
    return page[:limit], link(request, cursor=f"{ticks}.{last.pk}")


def page_of_messages(request: Request, messages: QuerySet[Message], limit: int) -> tuple[list[Message], str | None]:
    """The next `limit` messages between `after` and `before` (message ids), oldest first or by `order=desc`."""
    descending = _order(request) == "desc"
    for name, lookup in (("after", "position__gt"), ("before", "position__lt")):
        place = _position(request, name)
        if place is not None:
            messages = messages.filter(**{lookup: place})
    page = list(messages.order_by("-position" if descending else "position")[: limit + 1])
    if len(page) <= limit:
        return page, None
    further: dict[str, str] = {"before" if descending else "after": page[limit - 1].public_id}
    return page[:limit], link(request, **further)


def link(request: Request, **changed: str) -> str:
    """This request's own address with some parameters changed: every filter is kept."""
    parameters = request.query_params.copy()
    for name, value in changed.items():
        parameters[name] = value
    return str(request.build_absolute_uri(f"{request.path}?{parameters.urlencode()}"))


def _order(request: Request) -> str:
    order = request.query_params.get("order", "asc")
    if order not in ("asc", "desc"):
        raise ValidationError({"order": [_("Use asc or desc.")]})
    return str(order)


def _position(request: Request, name: str) -> int | None:
    value = request.query_params.get(name)
    if not value:
        return None
    place: Any = value.rpartition(".")[2]
    if not re.fullmatch(r"[0-9]{1,9}", place):
        raise ValidationError({name: [_("This is not a message's id.")]})
    return int(place)

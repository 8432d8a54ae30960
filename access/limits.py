"""The status of a limit, and requests per minute. The database counts them: exact for any number of workers.

budgets.py limits what turns use.
"""

import ipaddress
import math
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

from django.conf import settings
from django.db import connection
from django.utils import timezone

from access.callers import Caller
from access.models import Account, Forking, RequestWindow, Reservation
from web.errors import ApiError
from web.moments import SKEW, utc
from web.pace import delete_slowly

MINUTE = timedelta(minutes=1)
BUDGETS = ("tokens_per_day", "cost_per_month")
STORAGE = ("sessions", "stored_mb")
WINDOWS = RequestWindow._meta.db_table
LIMIT_HEADERS = "bancobot.limit_headers"  # the key in request.META of the answer's headers


class LimitStatus(NamedTuple):
    """How much of a limit is left. `reset`: seconds until the count starts again."""

    name: str
    limit: Decimal | int
    remaining: Decimal | int
    reset: float
    refused: bool = False
    wanted: Decimal | int = 1

    @property
    def headers(self) -> dict[str, str]:
        left = max(self.remaining, 0)
        return {
            "RateLimit-Limit": str(self.limit),
            "RateLimit-Remaining": str(left if isinstance(left, int) else left.quantize(Decimal("0.000001"))),
            "RateLimit-Reset": str(math.ceil(self.reset)),
        }

    @property
    def error(self) -> ApiError:
        code = "budget_exhausted" if self.name in BUDGETS + STORAGE else "rate_limited"
        passes = self.name not in STORAGE  # there, waiting frees nothing
        return ApiError(
            code,
            detail_code=self.name,
            retry_after=max(self.reset, 1) if passes else None,
            headers=self.headers if passes else {},
            limit=self.name,
            wanted=float(self.wanted),
        )


# Requests per minute


class CountedRequest(NamedTuple):
    """A request to count for `who` (an owner or an address), with `limit` requests allowed per minute."""

    who: str
    limit: int


def requests_to_count(caller: Caller | None, address: str) -> list[CountedRequest]:
    """What to count a request for: its address, unless it has a client's valid key, and then its owner.

    The order matters: a request that the address's limit refuses must not use up the owner's limit.
    """
    counted = []
    if (caller is None or caller.kind != "client") and settings.ADDRESS_REQUESTS_PER_MINUTE:
        counted.append(CountedRequest(f"address:{network_of(address)}", settings.ADDRESS_REQUESTS_PER_MINUTE))
    if caller and caller.limits.requests_per_minute:
        counted.append(CountedRequest(caller.owner, caller.limits.requests_per_minute))
    return counted


def network_of(address: str) -> str:
    """The IPv4 address, or the /64 network of an IPv6 address: a host usually has that whole network."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    parsed = getattr(parsed, "ipv4_mapped", None) or parsed  # a dual-stack socket shows IPv4 clients so
    return str(parsed if parsed.version == 4 else ipaddress.ip_network((parsed, 64), strict=False))


def count_requests(requests: Sequence[CountedRequest]) -> list[LimitStatus]:
    """Count each request, in order, and refuse those beyond the limit.

    A minute begins with the first request. The next minute begins with the first request after its end.
    """
    now = timezone.now()
    times = Counter(request.who for request in requests)
    after = {who: _count(who, times[who], now) for who in sorted(times)}  # one order everywhere prevents deadlocks
    statuses = []
    for request in requests:
        began_at, last = after[request.who]
        number = last - times[request.who] + 1  # this request's place in the minute
        times[request.who] -= 1
        left = request.limit - number
        reset = min(began_at + MINUTE - now, MINUTE).total_seconds()  # it may have begun after `now`, elsewhere
        statuses.append(LimitStatus("requests_per_minute", request.limit, left, reset, left < 0))
    return statuses


def _count(who: str, times: int, now: datetime) -> tuple[datetime, int]:
    """Add requests to the current minute of `who`; return when it began, and its requests so far."""
    moment, ended, latest = map(connection.ops.adapt_datetimefield_value, (now, now - MINUTE, now + SKEW))
    is_current = f"{WINDOWS}.began_at > %s AND {WINDOWS}.began_at <= %s"
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {WINDOWS} (counted, began_at, requests) VALUES (%s, %s, %s) "
            "ON CONFLICT (counted) DO UPDATE SET requests = excluded.requests + "
            f"CASE WHEN {is_current} THEN {WINDOWS}.requests ELSE 0 END, "
            f"began_at = CASE WHEN {is_current} THEN {WINDOWS}.began_at ELSE excluded.began_at END "
            "RETURNING began_at, requests",
            (who, moment, times, ended, latest, ended, latest),
        )
        began_at, requests = cursor.fetchone()
    return utc(began_at), requests


def throttle(caller: Caller | None, address: str) -> dict[str, str]:
    """Count a request without the writer; return the answer's headers. Raises `ApiError` beyond the limit."""
    headers: dict[str, str] = {}
    for one in requests_to_count(caller, address):
        headers = limit_headers(count_requests([one])[0])
    return headers


def limit_headers(status: LimitStatus) -> dict[str, str]:
    """The answer's headers for a status; raises `ApiError` beyond the limit."""
    if status.refused:
        raise status.error
    return status.headers


def purge_counters(now: datetime) -> None:
    """Delete minutes that are over, and accounts last used in an earlier month."""
    Forking.objects.filter(resets_at__lt=now - 2 * MINUTE, expires_at__lt=now).delete()
    delete_slowly(RequestWindow.objects.filter(began_at__lt=now - 2 * MINUTE))
    idle = Account.objects.filter(month__lt=now.date().replace(day=1))
    delete_slowly(idle.exclude(owner__in=Reservation.objects.values("owner")))

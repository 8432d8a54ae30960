"""How many login attempts the admin allows, and the log of who logged in, failed, was locked out or logged out."""

import logging
import unicodedata
from collections.abc import Iterable
from datetime import datetime, timedelta

from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import transaction
from django.db.models import F
from django.http import HttpRequest
from django.utils import timezone
from django.utils.crypto import salted_hmac

from access.audit import address_of
from access.limits import network_of
from access.models import LoginAttempts
from web.moments import lasts, over
from web.pace import delete_slowly

logger = logging.getLogger("bancobot.admin")


def attempt(request: HttpRequest, name: str) -> float:
    """Count an attempt before the password is checked, so that no two get past the limit at the same time.

    Answers 0.0, or for how many seconds no password is checked. The address counts, alone and together with the name:
    so nobody can lock a user out from another address. Attempts that are refused do not count.
    """
    limits = _limits(request, name)
    with transaction.atomic():
        rows = [_locked_row(who) for who in limits]
        now = timezone.now()
        if wait := _wait(rows, limits, now):
            return wait
        for row in rows:
            row.tries = row.tries + 1 if lasts(row.until, now, lockout()) else 1
            row.until = now + lockout()
            row.save()
    return 0.0


def locked_for(request: HttpRequest, name: str) -> float:
    """What `attempt` would answer, without counting."""
    limits = _limits(request, name)
    return _wait(LoginAttempts.objects.filter(who__in=limits), limits, timezone.now())


def reset(request: HttpRequest, name: str) -> None:
    """The password was right. The address's other attempts stay, or an attacker's own account would reset them."""
    address, pair = _limits(request, name)
    LoginAttempts.objects.filter(who=pair).delete()
    LoginAttempts.objects.filter(who=address, tries__gt=0).update(tries=F("tries") - 1)


def purge() -> int:
    """Delete the rows whose time has passed. Answers how many."""
    return delete_slowly(LoginAttempts.objects.filter(over("until", timezone.now(), lockout())))


def lockout() -> timedelta:
    return timedelta(minutes=settings.ADMIN_LOGIN_LOCKOUT_MINUTES)


def log(level: int, happened: str, request: HttpRequest, name: str) -> None:
    """A line in the log. A name that no user has may be a password in the wrong field, so it is not logged."""
    logger.log(level, "admin %s", happened, extra={"who": who_is(name), "address": address_of(request)})


def who_is(name: str) -> str:
    """`staff:` and a user's name, or `unknown:` and a hash, which tells attempts with one name from others."""
    name = _as_stored(name)
    if get_user_model().objects.filter(username=name).exists():
        return f"staff:{name}"
    return f"unknown:{_hash(name)[:12]}"


def _wait(rows: Iterable[LoginAttempts], limits: dict[str, int], now: datetime) -> float:
    """Seconds until the last of the rows that have reached their limit expires."""
    full = [row.until for row in rows if row.tries >= limits[row.who] and lasts(row.until, now, lockout())]
    return max([0.0, *((until - now).total_seconds() for until in full)])


def _locked_row(who: str) -> LoginAttempts:
    rows = LoginAttempts.objects.select_for_update()
    return rows.get_or_create(who=who, defaults={"until": timezone.now()})[0]


def _limits(request: HttpRequest, name: str) -> dict[str, int]:
    """Of the address, and of name and address. Always in this order, since two orders could deadlock."""
    address = network_of(address_of(request))
    return {
        _hash(address): settings.ADMIN_LOGIN_TRIES_PER_ADDRESS,
        _hash(f"{address}\n{_as_stored(name)}"): settings.ADMIN_LOGIN_TRIES,
    }


def _as_stored(name: str) -> str:
    """As Django's login form normalizes it to look for the user; the form takes at most 150 letters."""
    return unicodedata.normalize("NFKC", name.strip())[:150].replace("\0", "")


def _hash(text: str) -> str:
    # The salt stays, whatever its name: stored rows were made with it.
    return salted_hmac("admin.door", text, algorithm="sha256").hexdigest()

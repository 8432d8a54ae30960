"""Bounds for forks, which cost their caller nothing: a budget that is left, one at a time, so much in a minute."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from decimal import Decimal

from django.db import transaction
from django.utils import timezone

from access.budgets import budget_used, current_refusal
from access.callers import Caller
from access.limits import MINUTE, LimitStatus
from access.models import Account, Forking
from access.storage.totals import MB
from web.errors import ApiError
from web.moments import lasting, lasts

MB_PER_MINUTE = 20
LEASE = timedelta(minutes=5)  # of a fork whose process ended on another machine
RETRY_SECONDS = 1.0


def refuse_exhausted(caller: Caller) -> None:
    """Raises `ApiError` where the caller's budget is used up, or has refused its last message."""
    if not (caller.limits.tokens_per_day or caller.limits.cost_per_month):
        return
    now = timezone.now()
    account = Account.objects.filter(owner=caller.owner).first()
    _running, tokens, cost = budget_used(caller.owner, now)
    for name, used in (("tokens_per_day", tokens), ("cost_per_month", cost)):
        limit: Decimal | int = getattr(caller.limits, name)
        until = account.exhausted_until if account and current_refusal(account, now) == name else None
        if limit and (used >= limit or until):
            reset = (until - now).total_seconds() if until else 0
            raise LimitStatus(name, limit, max(0, limit - used), reset, True, 0).error


def refuse_busy(owner: str, is_gone: Callable[[str], bool]) -> None:
    """Raises `ApiError` while another fork of the owner runs: a cheap look, before the conversation is measured."""
    last = Forking.objects.filter(lasting("expires_at", timezone.now(), LEASE), owner=owner).first()
    if last and not is_gone(last.holder):
        raise _busy()


def _busy() -> ApiError:
    return LimitStatus("forks_at_once", 1, 0, RETRY_SECONDS, True).error


@contextmanager
def one_fork(owner: str, size: int, holder: str, is_gone: Callable[[str], bool]) -> Iterator[None]:
    """The owner's only fork while the block runs, of so many bytes. Raises `ApiError`.

    `holder` names this process, and `is_gone` tells whether a process of such a name certainly exists no more.
    """
    until = _begin(owner, size, holder, is_gone)
    try:
        yield
    finally:
        Forking.objects.filter(owner=owner, expires_at=until).update(expires_at=timezone.now())


def _begin(owner: str, size: int, holder: str, is_gone: Callable[[str], bool]) -> datetime:
    """When the lease ends. A minute begins with its first fork, which may be larger: then it lasts longer."""
    now = timezone.now()
    never = {"holder": "", "expires_at": now, "size": 0, "resets_at": now}
    with transaction.atomic():
        Forking.objects.bulk_create([Forking(owner=owner, **never)], ignore_conflicts=True)
        last = Forking.objects.select_for_update().get(owner=owner)
        now = timezone.now()
        if lasts(last.expires_at, now, LEASE) and not is_gone(last.holder):
            raise _busy()
        if not lasts(last.resets_at, now, _time_for(last.size)):
            last.size, last.resets_at = 0, now + _time_for(size)
        elif last.size + size > MB_PER_MINUTE * MB:
            left, wanted = Decimal(MB_PER_MINUTE * MB - last.size) / MB, Decimal(size) / MB
            reset = (last.resets_at - now).total_seconds()
            raise LimitStatus("forked_mb_per_minute", MB_PER_MINUTE, left, reset, True, wanted).error
        last.size, last.holder, last.expires_at = last.size + size, holder, now + LEASE
        last.save()
    return last.expires_at


def _time_for(size: int) -> timedelta:
    return MINUTE * max(1, size / (MB_PER_MINUTE * MB))

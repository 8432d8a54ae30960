"""Moments are in UTC everywhere.

A stored one may come from a clock that was ahead and has been set back (by NTP, or with a virtual machine). Where it
decides what somebody may do, such a moment counts as past: nobody waits for a clock to catch up.
"""

from datetime import UTC, datetime, timedelta

from django.db.models import Q

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SKEW = timedelta(seconds=10)  # between a moment and its being compared: other machines' clocks, and waits for a lock


def lasts(until: datetime, now: datetime, most: timedelta) -> bool:
    """Whether an end that was at most `most` away when it was stored is still to come."""
    return now < until <= now + most + SKEW


def lasting(column: str, now: datetime, most: timedelta) -> Q:
    """The rows whose end `lasts`."""
    return Q(**{f"{column}__gt": now, f"{column}__lte": now + most + SKEW})


def over(column: str, now: datetime, most: timedelta) -> Q:
    """All others."""
    return Q(**{f"{column}__lte": now}) | Q(**{f"{column}__gt": now + most + SKEW})


def utc(moment: datetime) -> datetime:
    """This moment in UTC. One without a zone is in UTC already: SQLite's driver and many clients name none."""
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)

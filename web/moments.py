"""Moments are in UTC everywhere."""

from datetime import UTC, datetime

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def utc(moment: datetime) -> datetime:
    """This moment in UTC. One without a zone is in UTC already: SQLite's driver and many clients name none."""
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)

"""The tables of the record."""

from .record import (
    NOTES,
    Cancellation,
    Feedback,
    IdempotencyKey,
    Lease,
    Message,
    Outcome,
    Session,
    new_public_id,
)
from .statistics import CountedUntil, SessionCost, Tally

__all__ = [
    "NOTES",
    "Cancellation",
    "CountedUntil",
    "Feedback",
    "IdempotencyKey",
    "Lease",
    "Message",
    "Outcome",
    "Session",
    "SessionCost",
    "Tally",
    "new_public_id",
]

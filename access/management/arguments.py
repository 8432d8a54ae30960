"""Arguments that the commands for clients and keys share."""

import re
from datetime import UTC, date, datetime, timedelta

from django.core.exceptions import ValidationError
from django.core.management.base import CommandError
from django.utils import timezone

from access import clients
from access.models import Client, Key
from web.moments import utc

UNITS = {"h": "hours", "d": "days", "w": "weeks"}


def client_called(name: str) -> Client:
    """The client with that name; raises `CommandError` if there is none."""
    client = clients.find(name)
    if client is None:
        raise CommandError(f"There is no client called {name!r}. The admin and list_keys --all name those that exist.")
    return client


def end_of(text: str) -> datetime:
    """12h, 90d, 52w from now; the end of a day (2027-03-31); or a moment, in UTC unless it names a zone."""
    moment = _moment(text)
    if moment is None:
        raise CommandError(
            f"--expires takes a time from now (12h, 90d, 52w), a day (2027-03-31, to its end in UTC) or a moment "
            f"(2027-03-31T12:00-03:00), not {text!r}."
        )
    if moment <= timezone.now():
        raise CommandError(f"--expires {text}: that is over.")
    return moment


def _moment(text: str) -> datetime | None:
    if found := re.fullmatch(r"(\d{1,5})([hdw])", text, re.ASCII):
        return timezone.now() + timedelta(**{UNITS[found[2]]: int(found[1])})
    try:
        if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text, re.ASCII):
            day = date.fromisoformat(text) + timedelta(days=1)
            return datetime(day.year, day.month, day.day, tzinfo=UTC)
        return utc(datetime.fromisoformat(text))
    except (ValueError, OverflowError):
        return None


def check_label(label: str) -> None:
    try:
        Key(label=label).clean_fields(exclude=["client", "secret_hash"])
    except ValidationError as problem:
        raise CommandError(in_words(problem)) from None


def in_words(problem: ValidationError) -> str:
    """A model's validation errors in one line."""
    if not hasattr(problem, "error_dict"):
        return " ".join(problem.messages)
    return " ".join(f"{name}: {' '.join(said)}" for name, said in problem.message_dict.items())

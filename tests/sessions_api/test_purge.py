"""manage.py purge_sessions."""

from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from sessions_api.models import Message, Session
from tests.support.records import make_session

pytestmark = pytest.mark.django_db(transaction=True)

DAY = timedelta(days=1)


def purge(*arguments: str) -> str:
    output = StringIO()
    call_command("purge_sessions", *arguments, stdout=output)
    return output.getvalue()


def left() -> list[str]:
    return sorted(Session.objects.values_list("session_id", flat=True))


def closed(session_id: str, ago: timedelta, **more: Any) -> Session:
    return make_session(session_id, closed_at=timezone.now() - ago, **more)


def test_it_deletes_what_is_idle_for_longer_and_its_messages() -> None:
    make_session("velha", age=2 * DAY, turns=3)
    kept = make_session("nova", age=DAY / 2)
    assert purge("--older-than", "24h") == "Purged 1 session (6 messages), idle for more than 24h.\n"
    assert left() == ["nova"]
    assert set(Message.objects.values_list("session_id", flat=True)) == {kept.pk}


@pytest.mark.parametrize(("length", "gone"), [("90m", 4), ("24h", 3), ("2d", 2), ("30d", 1), ("2w", 1), ("6w", 0)])
def test_it_knows_minutes_hours_days_and_weeks(length: str, gone: int) -> None:
    for age in (timedelta(hours=2), 1.5 * DAY, 3 * DAY, 31 * DAY):
        make_session(age=age)
    assert purge("--older-than", length).startswith(f"Purged {gone} session")
    assert len(left()) == 4 - gone


@pytest.mark.parametrize("length", ["", "24", "h", "24 h", "-1h", "1.5h", "24H", "1y", "1h30m", "٣h", "999999999h"])
def test_another_length_is_refused_and_deletes_nothing(length: str) -> None:
    make_session(age=400 * DAY)
    with pytest.raises(CommandError, match="90m, 24h, 30d or 2w"):
        purge(f"--older-than={length}")
    assert len(left()) == 1


def test_closed_only_goes_by_the_time_since_it_was_closed() -> None:
    make_session("aberta", age=9 * DAY)
    closed("fechada-agora", ago=DAY / 2, age=9 * DAY)
    closed("fechada-antes", ago=2 * DAY, age=9 * DAY)
    assert purge("--closed-only", "--older-than=1d") == "Purged 1 session (2 messages), closed for more than 1d.\n"
    assert left() == ["aberta", "fechada-agora"]


def test_without_a_length_the_settings_rule(settings: Any) -> None:
    settings.SESSION_CLEANUP_HOURS, settings.SESSION_CLOSED_RETENTION_HOURS = 24, 1.5
    make_session("parada", age=2 * DAY)
    make_session("ativa")
    closed("fechada", ago=DAY / 12)
    closed("fechada-agora", ago=DAY / 24)
    assert purge() == "Purged 2 sessions (4 messages), idle for more than 24h or closed for more than 1.5h.\n"
    assert left() == ["ativa", "fechada-agora"]


def test_idle_sessions_are_kept_where_no_setting_limits_them(settings: Any) -> None:
    settings.SESSION_CLEANUP_HOURS, settings.SESSION_CLOSED_RETENTION_HOURS = None, 720
    make_session("parada", age=900 * DAY)
    assert purge() == "Purged 0 sessions (0 messages), closed for more than 720h.\n"
    assert left() == ["parada"]


def test_closed_only_without_a_length_leaves_idle_ones_alone(settings: Any) -> None:
    settings.SESSION_CLEANUP_HOURS, settings.SESSION_CLOSED_RETENTION_HOURS = 1, 720
    make_session("parada", age=9 * DAY)
    closed("fechada", ago=31 * DAY)
    assert purge("--closed-only") == "Purged 1 session (2 messages), closed for more than 720h.\n"
    assert left() == ["parada"]


def test_a_session_whose_turn_runs_is_kept() -> None:
    make_session("respondendo", age=9 * DAY, status="pending")
    closed("fechada-respondendo", ago=9 * DAY, status="pending")
    purge("--older-than=1h")
    purge("--older-than=1h", "--closed-only")
    assert left() == ["fechada-respondendo", "respondendo"]


def test_a_dry_run_counts_and_deletes_nothing() -> None:
    make_session(age=2 * DAY, turns=2)
    make_session(age=2 * DAY)
    assert purge("--older-than=1d", "--dry-run") == "Would purge 2 sessions (6 messages), idle for more than 1d.\n"
    assert (Session.objects.count(), Message.objects.count()) == (2, 6)


def test_many_sessions_and_long_ones_go_completely() -> None:
    make_session(age=2 * DAY, turns=800)
    for _ in range(300):
        make_session(age=2 * DAY, turns=2)
    assert purge("--older-than=1d") == "Purged 301 sessions (2800 messages), idle for more than 1d.\n"
    assert (Session.objects.count(), Message.objects.count()) == (0, 0)

"""The overview in the admin: permissions, figures, and that nothing in it is executed."""

import re
from datetime import timedelta
from decimal import Decimal
from xml.etree import ElementTree

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from access.models import Client as AccessClient
from sessions_api.console import charts, facts
from sessions_api.console.charts import Series
from sessions_api.models import Feedback, Lease
from sessions_api.statistics import tallies
from sessions_api.statistics.overview import MAX_SESSIONS
from tests.support.ended import add_ended, add_random
from tests.support.operators import session_staff
from tests.support.records import make_session

pytestmark = pytest.mark.django_db(transaction=True)

PAGE = "/admin/overview/"
PERIODS = ("24h", "yesterday", "7d", "30d")
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{ 7|add:7 }}"


def text(client: Client, period: str = "") -> str:
    response = client.get(PAGE, {"period": period} if period else {})
    assert response.status_code == 200
    return str(response.content.decode())


def tile(page: str, label: str) -> str:
    found = re.search(rf"<dt>{label}</dt><dd>(.*?)</dd>", page, re.DOTALL)
    assert found, label
    return " ".join(re.sub(r"<[^>]+>", " ", found[1]).split())


def rows(page: str, title: str) -> list[list[str]]:
    """The cells of the table with that heading, line by line."""
    section = next(part for part in page.split("<section") if f"<h2>{title}</h2>" in part)
    lines = re.findall(r"<tr><th scope=\"row\">(.*?)</tr>", section, re.DOTALL)
    return [[re.sub(r"<[^>]+>", "", cell).strip() for cell in re.split(r"</th>|</td>", line)[:-1]] for line in lines]


def test_who_may_view_sessions_sees_it_and_nobody_else() -> None:
    assert Client().get(PAGE)["Location"].startswith("/admin/login/")
    client = session_staff()
    assert client.get(PAGE).status_code == 403
    assert PAGE not in client.get("/admin/").content.decode()


@pytest.mark.parametrize("permission", ["view", "change"])
def test_the_admins_first_page_leads_there(permission: str) -> None:
    client = session_staff(permission)
    assert f'href="{PAGE}"' in client.get("/admin/").content.decode()
    assert "<h1>Overview</h1>" in text(client)


def test_it_says_how_many_turns_there_were_and_what_they_took() -> None:
    session = make_session(turns=0, owner=AccessClient.objects.create(name="Mobile app").owner)
    now = timezone.now()
    good = {"prompt_tokens": 1000, "completion_tokens": 200, "cost": Decimal("0.25"), "model": "m/x"}
    for latency in (1000, 2000, 3000):
        add_ended(session, now, **good, first_token_ms=100, latency_ms=latency)
    add_ended(session, now, status="failed", error_code="provider_timeout", model="m/x")
    Feedback.objects.create(session=session, position=1, rating="down", created_at=now)
    page = text(session_staff("view"))
    assert tile(page, "Turns") == "4 3 completed"
    assert tile(page, "Failed") == "25.0% 1 turn"
    assert tile(page, "Active sessions") == "1"
    assert tile(page, "Tokens") == "3.6 k 3 k + 600"
    assert tile(page, "Cost") == "US$ 0.7500"
    assert tile(page, "Complete reply") == "1.9 s / 3.0 s p50 / p95"
    assert tile(page, "Feedback") == "0 / 1 good / bad"
    line = ["4", "25.0%", "0", "3,000", "600", "0.750000", "101 ms / 101 ms", "1.9 s / 3.0 s"]
    assert rows(page, "By model") == [["m/x", *line]]
    assert rows(page, "By client") == [["Mobile app", *line]]
    assert rows(page, "Errors by code") == [["provider_timeout", "1", "25.0%"]]


def test_yesterdays_most_expensive_conversation_is_two_clicks_away() -> None:
    yesterday = tallies.day_of(timezone.now()) - HOUR
    for number in range(MAX_SESSIONS + 5):
        add_ended(make_session(f"s{number}", turns=0, title=f"T{number}"), yesterday, cost=Decimal(number))
    tallies.count_ended()
    client = session_staff("view")
    assert "?period=yesterday" in text(client)
    page = text(client, "yesterday")
    dearest = rows(page, "Most expensive conversations")
    assert [line[0] for line in dearest] == [f"s{number}" for number in range(14, 4, -1)]
    link = re.search(r'<a href="(/admin/sessions_api/session/\d+/change/)">s14</a>', page)
    assert link and client.get(link[1]).status_code == 200


@pytest.mark.parametrize("period", [*PERIODS, "nonsense"])
def test_the_number_of_queries_does_not_depend_on_what_there_is(period: str) -> None:
    client, counts = session_staff("view"), []
    for seed in (1, 2):
        add_random(60 * seed, timezone.now(), 20 * DAY, seed)
        tallies.count_ended()
        add_random(20 * seed, timezone.now(), HOUR, seed + 10)
        with CaptureQueriesContext(connection) as queries:
            text(client, period)
        counts.append(len(queries))
    assert counts[0] == counts[1] <= 19


@pytest.mark.parametrize("period", PERIODS)
def test_before_the_first_turn_every_period_has_its_page(period: str) -> None:
    page = text(session_staff("view"), period)
    assert tile(page, "Turns") == "0 0 completed"
    assert page.count("Nothing in this period") == 4
    assert "No errors." in page


def test_names_that_others_chose_are_shown_and_never_executed() -> None:
    owner = AccessClient.objects.create(name=HOSTILE[:100]).owner
    session = make_session(turns=0, title=HOSTILE, owner=owner)
    now = timezone.now() - HOUR
    for _ in range(2):  # first from the messages, then from the tallies
        add_ended(session, now, model=HOSTILE, status="failed", error_code="<script>", cost=Decimal(1))
        page = text(session_staff("view") if not User.objects.exists() else again())
        assert "<script>" not in page
        assert "<img src=x" not in page
        assert page.count("&lt;script&gt;") >= 3
        assert "{{ 7|add:7 }}" in page
        tallies.count_ended()
    assert "&lt;script&gt;alert(1)" in rows(page, "By model")[0][0]


def again() -> Client:
    client = Client(headers={"Accept-Language": "en"})
    client.force_login(User.objects.get())
    return client


def test_the_page_has_no_scripts_or_styles_of_its_own_within() -> None:
    add_random(30, timezone.now(), DAY)
    page = text(session_staff("view"))
    assert re.findall(r"<script(?![^>]*\bsrc=)[^>]*>", page) == []
    assert "<style" not in page
    assert not re.search(r'\s(style|on[a-z]+)="', page)


def test_charts_are_told_to_screen_readers_too() -> None:
    add_random(30, timezone.now(), DAY)
    drawn = re.findall(r'<svg class="chart".*?</svg>', text(session_staff("view")), re.DOTALL)
    assert len(drawn) == 4
    for one in drawn:
        chart = ElementTree.fromstring(one)  # noqa: S314 - it is our own, and well-formed or the test fails
        said = {child.get("id"): child.text for child in chart if child.tag in ("title", "desc")}
        assert said[chart.get("aria-labelledby")]
        assert len(str(said[chart.get("aria-describedby")]).split(";")) == 24


def test_bars_stand_upon_each_other_and_fill_the_chart_at_most() -> None:
    series = [Series("completed", "ok", [3, 0, 5]), Series("failed", "bad", [1, 2, 0])]
    chart = charts.bars("Turns", ["a", "b", "c"], series, str)
    assert [row.text for row in chart.rows] == ["0.0", "2.5", "5.0"]
    full = charts.DOWN
    assert re.findall(r" ([\d.]+)h[\d.]+v([\d.]+)", chart.marks[0].path) == [
        (f"{charts.FLOOR - full * 3 / 5:.2f}", f"{full * 3 / 5:.2f}"),
        (f"{charts.TOP:.2f}", f"{full:.2f}"),
    ]
    assert re.findall(r" ([\d.]+)h", chart.marks[1].path)[0] == f"{charts.FLOOR - full * 4 / 5:.2f}"


def test_a_line_is_interrupted_where_nothing_is_known() -> None:
    chart = charts.lines("Time", ["a", "b", "c", "d"], [Series("half", "p50", [1, None, 3, 4])], str)
    line, dots = chart.marks
    assert (line.path.count("M"), line.path.count("L"), dots.path.count("M")) == (2, 1, 3)
    assert [step.text for step in chart.steps] == ["a: p50 1", "b: –", "c: p50 3", "d: p50 4"]


@pytest.mark.parametrize(("most", "top"), [(0, 1), (1, 1), (3, 4), (4.1, 5), (7, 10), (0.03, 0.04), (1234, 2000)])
def test_an_axis_ends_at_a_round_number(most: float, top: float) -> None:
    assert charts.nice_top(most) == pytest.approx(top)


def test_it_says_how_the_service_is() -> None:
    found = {fact.label: fact for fact in facts.facts()}
    kind = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}[connection.vendor]
    page = text(session_staff("view"))
    assert kind in page
    assert any(kind in str(fact.value) for fact in found.values())
    assert "not running" in page
    Lease.objects.create(name="maintenance", holder="x", expires_at=timezone.now() + timedelta(seconds=15))
    assert "not running" not in text(again())

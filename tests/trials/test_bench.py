"""The parts of the benchmark that can be wrong without its noticing."""

import sqlite3
import sys
from contextlib import closing
from types import FrameType
from xml.etree import ElementTree

import psycopg
import pytest
from django.db import connection

from sessions_api.models import Message, Session
from sessions_api.store.messages import BegunTurn, NewTurn
from sessions_api.store.turns import begin_turns
from testing.environment import ROOT
from trials.bench import checks, sampler, streams
from trials.bench.document.chart import Chart
from trials.bench.drip import SAMPLE
from trials.bench.fill import Filling, fill_postgresql, fill_sqlite
from trials.bench.load import CallCounts, percentile
from trials.bench.pairs import Interval, interval
from trials.bench.wire import StreamedAnswer, answer, chunk

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
COMPLETED = {("user", "completed"): 5, ("assistant", "completed"): 5}


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_streamed_answer_is_the_same_however_it_is_cut(size: int) -> None:
    raw = HEAD + chunk(b"event: a\n\n") + chunk(b"event: b\n\n") + chunk(b"")
    reader = StreamedAnswer()
    body = b"".join(reader.feed(raw[start : start + size]) for start in range(0, len(raw), size))
    assert (reader.first_line, body, reader.ended) == (b"HTTP/1.1 200 OK", b"event: a\n\nevent: b\n\n", True)


def test_a_streamed_answer_of_known_length_ends_with_it() -> None:
    reader = StreamedAnswer()
    assert reader.feed(answer(b"{}", status="503 Overloaded")) == b"{}"
    assert reader.ended


def test_an_event_arrives_with_its_last_part() -> None:
    assert streams.events([(1.0, b"event: a\n\neve"), (2.0, b"nt: b\n\n")]) == [(1.0, b"event: a"), (2.0, b"event: b")]


def test_joined_pieces_each_have_their_moment_of_sending() -> None:
    later = SAMPLE.replace(b"00@0000000.0", b"01@0000000.5")
    assert streams.stamps(b'data: {"text": "' + SAMPLE + later + b'"}') == [(0, 0.0), (1, 0.5)]


def test_a_window_counts_only_what_came_while_the_clock_ran() -> None:
    tally = CallCounts(turns=[(0.9, 0.1, 0), (1.5, 0.2, 2), (2.0, 0.3, 4)])
    tally.pieces.extend((0.9, 5.0, 1.1, 7.0, 1.2, 6.0))
    window = tally.between(1.0, 2.0)
    assert (window.turns_per_second, window.latencies, window.delays) == (1.0, [0.2], [6.0, 7.0])


def test_a_percentile_of_nothing_is_zero_and_the_last_one_is_the_slowest() -> None:
    assert (percentile([], 0.99), percentile([1.0, 2.0, 3.0], 0.99)) == (0.0, 3.0)


def test_what_the_database_held_before_is_not_taken_for_a_turn() -> None:
    assert checks.stored_problems(COMPLETED, dict.fromkeys(COMPLETED, 7), 2) == []


@pytest.mark.parametrize("acknowledged", [1, 3])
def test_a_lost_or_doubled_turn_is_a_problem(acknowledged: int) -> None:
    assert checks.stored_problems(COMPLETED, dict.fromkeys(COMPLETED, 7), acknowledged)


def test_a_turn_that_left_its_reply_pending_is_a_problem() -> None:
    assert checks.stored_problems({}, {("user", "completed"): 1, ("assistant", "pending"): 1}, 1)


@pytest.mark.parametrize(
    ("file", "package"),
    [
        ("/venv/lib/python3.11/site-packages/httpx/_client.py", "httpx"),
        ("/usr/lib/python3.11/json/decoder.py", None),  # works for whoever called it
        (f"{ROOT}/chat/providers/replies/sse.py", "chat.providers"),
        (f"{ROOT}/manage.py", None),
    ],
)
def test_a_file_counts_for_its_package(file: str, package: str | None) -> None:
    assert sampler.package(file) == package


def test_a_sample_counts_for_the_innermost_package() -> None:
    frame: FrameType = sys._getframe()
    assert sampler.label(frame) == "tests.trials"


def test_a_chart_is_xml_with_a_point_for_each_value() -> None:
    svg = Chart("A <b>", "ms", ["x", "y"], {"one": [1.0, None], "two": [10.0, 100.0]}, log=True).svg()
    circles = ElementTree.fromstring(svg).findall("{http://www.w3.org/2000/svg}circle")  # noqa: S314  our own
    assert len([circle for circle in circles if circle.get("r") == "4"]) == 3


@pytest.mark.django_db(transaction=True)
def test_a_filled_session_goes_on_like_any_other() -> None:
    filling = Filling("filled", 3, 6)
    fill(filling)
    [begun] = begin_turns([NewTurn("open", "filled-2", "turn", "Oi", history_limit=4)])
    assert isinstance(begun, BegunTurn)
    assert (begun.position, begun.unread) == (7, 2)
    assert [message.role for message in begun.history] == ["user", "assistant"] * 2
    assert (Session.objects.count(), Message.objects.count()) == (3, 3 * 6 + 2)


def fill(filling: Filling) -> None:
    settings = connection.settings_dict
    if connection.vendor == "sqlite":
        with closing(sqlite3.connect(settings["NAME"])) as file:
            fill_sqlite(file, [filling])
    else:
        url = "postgresql://{USER}:{PASSWORD}@{HOST}:{PORT}/{NAME}".format_map(settings)
        with psycopg.connect(url, autocommit=True) as server:
            fill_postgresql(server, [filling])


@pytest.mark.parametrize(
    "count, low, high, confidence",
    [(4, 1, 4, 0.875), (8, 1, 8, 1 - 2 / 2**8), (10, 2, 9, 1 - 22 / 2**10), (20, 6, 15, 1 - 2 * 21700 / 2**20)],
)
def test_a_median_s_interval_leaves_out_as_many_values_as_it_may(
    count: int, low: int, high: int, confidence: float
) -> None:
    assert interval(range(count, 0, -1)) == Interval(low, high, confidence)

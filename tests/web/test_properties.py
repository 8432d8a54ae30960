"""Promises of parsers and readers for any input, tested with generated input that is the same in every run."""

import json
import math
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.core.exceptions import ImproperlyConfigured
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.test import APIRequestFactory

from bancobot_project.configuration.environment import Environment
from chat.providers.replies.sse import EventParser
from chat.serializers import ChatRequestSerializer, MessageRequestSerializer
from sessions_api.api import pagination
from sessions_api.api.queries import EraseQuery, FilterQuery, RangeQuery, SessionsQuery
from sessions_api.models import Message, Session, new_public_id
from testing.environment import ROOT
from tests.support.records import add_turns, make_session
from web.addresses import Proxies, address, networks
from web.errors import ApiError
from web.fields import MAX_METADATA_BYTES, Flag, Metadata, Number, Text, Whole
from web.parsers import MAX_DEPTH, parse_json

tried = settings(max_examples=100, derandomize=True, database=None, deadline=None)
tried_on_the_database = settings(tried, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])

texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30)
numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
# JSON from an attacker; some of it is invalid.
written = st.recursive(
    st.sampled_from(
        [
            *(
                r'"\u0000"',
                r'"\ud83d\ude00"',
                r'"\ud800"',
                r'"\\u0000"',
                r'"\\\u0000"',
                r'"\"[{"',
                '"é"',
                "-0",
                "0.1e-400",
            ),
            *("1e308", "1e309", "9" * 300, "9" * 401, "NaN", "1.", "01", "null", '""', '"\x7f"', '"\u2028"', '"\\', ""),
        ]
    ),
    lambda inner: (
        st.lists(inner, max_size=4).map(lambda parts: f"[{','.join(parts)}]")
        | st.lists(st.tuples(inner, inner), max_size=3).map(lambda p: "{" + ",".join(":".join(x) for x in p) + "}")
        | st.lists(inner, max_size=3).map(lambda parts: f'{{"a":[{", ".join(parts)}], "a\\u00e9": "x"}}')
    ),
    max_leaves=8,
)


def parts_of(value: Any) -> Iterable[Any]:
    """A JSON value and everything in it, names included."""
    yield value
    for inner in [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from parts_of(inner)


def depth_of(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(depth_of, inner), default=0)


def request_with(**parameters: str) -> Request:
    return Request(APIRequestFactory().get("/sessions", parameters))


# The JSON of a request


@tried
@given(values)
def test_json_that_can_be_stored_comes_back_as_it_was_written(value: Any) -> None:
    for as_ascii in (True, False):
        assert parse_json(json.dumps(value, ensure_ascii=as_ascii).encode()) == value


@tried
@given(st.binary() | written.map(str.encode) | st.text().map(lambda text: text.encode("utf-8", "surrogatepass")))
@example(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH)
@example(b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1))
def test_a_body_is_a_storable_value_or_a_refusal(body: bytes) -> None:
    try:
        value = parse_json(body)
    except ApiError as refusal:
        assert refusal.code == "invalid_request"
        return
    assert depth_of(value) <= MAX_DEPTH
    for part in parts_of(value):
        assert not isinstance(part, str) or "\0" not in part.encode().decode()
        assert not isinstance(part, float) or math.isfinite(part)


@tried
@given(written)
def test_json_is_refused_for_one_of_four_reasons_alone(text: str) -> None:
    """Everything that Python's own parser accepts is accepted, except what the refusals exist for."""
    try:
        value = json.loads(text, parse_constant=lambda name: math.nan)
    except ValueError:
        value = math.nan
    good = all(
        storable(part) if isinstance(part, str) else not isinstance(part, float) or math.isfinite(part)
        for part in parts_of(value)
    ) and not any(isinstance(part, int) and abs(part) >= 10**400 for part in parts_of(value))
    assert accepts(text) == (good and depth_of(value) <= MAX_DEPTH)


def storable(text: str) -> bool:
    return "\0" not in text and text.encode("utf-8", "ignore").decode() == text


def accepts(text: str) -> bool:
    try:
        parse_json(text.encode())
    except ApiError:
        return False
    return True


@tried_on_the_database
@given(written)
@pytest.mark.django_db
def test_what_is_accepted_can_be_stored(text: str) -> None:
    if accepts(text):
        value = {"kept": parse_json(text.encode())}
        session = Session.objects.first() or make_session()
        Session.objects.filter(pk=session.pk).update(metadata=value, title=json.dumps(value, ensure_ascii=False)[:200])
        assert Session.objects.values_list("metadata", flat=True).get(pk=session.pk) == numbers_as_stored(value)


def numbers_as_stored(value: Any) -> Any:
    """PostgreSQL stores numbers as decimals: 1e308 comes back as a whole number."""

    class Close(float):
        def __eq__(self, other: object) -> bool:
            return isinstance(other, int | float) and float(other) == float(self)

        __hash__ = float.__hash__

    return json.loads(json.dumps(value), parse_float=Close)


# The events of a provider


def events_of(chunks: Iterable[bytes]) -> list[bytes]:
    parser = EventParser()
    return [event for chunk in chunks for event in parser.feed(chunk)] + parser.finish()


def cut(body: bytes, places: Iterable[int]) -> list[bytes]:
    ends = sorted({place % (len(body) + 1) for place in places})
    return [body[start:end] for start, end in zip([0, *ends], [*ends, len(body)], strict=True)]


pieces = st.sampled_from([b"data:", b"data: ", b"{}", b"\n", b"\r\n", b"\n\n", b": keep-alive", b"event: x", b"[DONE]"])
streams = st.lists(pieces | st.binary(max_size=5) | texts.map(str.encode), max_size=30).map(b"".join)
somewhere = st.lists(st.integers(0, 1000), max_size=12)


@tried
@given(streams, somewhere)
def test_events_are_the_same_wherever_the_network_cuts(body: bytes, places: list[int]) -> None:
    assert events_of(cut(body, places)) == events_of([body])


@tried
@given(st.lists(values), somewhere, st.sampled_from(["\n", "\r\n"]), st.sampled_from(["", ": keep-alive", "event: x"]))
def test_every_event_arrives_as_it_was_sent(sent: list[Any], places: list[int], end: str, between: str) -> None:
    lines = [part for value in sent for part in (between, f"data: {json.dumps(value, ensure_ascii=False)}", "")]
    body = "".join(line + end for line in lines).encode()
    assert [json.loads(event) for event in events_of(cut(body, places))] == sent


# Lists and their parameters

TRYING: list[tuple[str, Callable[[Request], Any], Callable[[Any], bool]]] = [
    ("limit", SessionsQuery.read, lambda limit: 1 <= limit <= 100),
    ("since", FilterQuery.read, lambda at: at is None or at.tzinfo is UTC),
    ("erase", EraseQuery.read, lambda flag: isinstance(flag, bool)),
]
odd = texts | st.integers().map(str) | st.datetimes(timezones=st.timezones() | st.none()).map(str) | st.text("0١٣9.-")


@pytest.mark.parametrize(("name", "read", "is_good"), TRYING, ids=[name for name, *_ in TRYING])
@settings(tried, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(odd)
def test_a_parameter_is_good_or_its_refusal_names_it(name: str, read: Any, is_good: Any, text: str) -> None:
    try:
        assert is_good(read(request_with(**{name: text}))[name])
    except serializers.ValidationError as problem:
        assert isinstance(problem.detail, dict)
        assert list(problem.detail) == [name]


@tried
@given(st.datetimes(timezones=st.timezones()))
def test_a_moment_means_the_same_in_every_zone(at: datetime) -> None:
    offset = at.utcoffset()
    if 2 <= at.year <= 9998 and offset is not None and not offset.seconds % 60:  # ISO 8601 writes no seconds of it
        assert FilterQuery.read(request_with(since=at.isoformat()))["since"] == at.astimezone(UTC)


moments = st.integers(-2, 2).map(lambda seconds: datetime(2026, 11, 22, tzinfo=UTC) + timedelta(seconds=seconds))


@tried_on_the_database
@given(st.lists(moments, max_size=9), st.integers(1, 4), texts)
@pytest.mark.django_db
def test_the_pages_of_sessions_hold_each_of_them_once(active: list[datetime], limit: int, filtered: str) -> None:
    Session.objects.all().delete()
    Session.objects.bulk_create(
        Session(owner="open", session_id=str(number), created_at=moment, last_activity_at=moment)
        for number, moment in enumerate(active)
    )
    found: list[Session] = []
    cursor: str | None = ""
    while cursor is not None:
        request = request_with(q=filtered, cursor=cursor, limit=str(limit))
        page, url = pagination.page_of_sessions(request, Session.objects.all(), **SessionsQuery.read(request))
        found += page
        assert url is None or (len(page) == limit and kept(url, "q") == filtered)
        cursor = kept(url, "cursor") if url else None
    assert found == list(Session.objects.order_by("-last_activity_at", "-pk"))


@tried_on_the_database
@given(st.integers(0, 4), st.integers(1, 3), st.sampled_from(["asc", "desc"]))
@pytest.mark.django_db
def test_the_pages_of_messages_hold_each_of_them_once(turns: int, limit: int, order: str) -> None:
    session = make_session(turns=0)
    add_turns(session, turns)
    name = "after" if order == "asc" else "before"
    found: list[int] = []
    place: str | None = ""
    while place is not None:
        request = request_with(order=order, **{name: place})
        page, url = pagination.page_of_messages(request, session.messages.all(), limit, **RangeQuery.read(request))
        found += [message.position for message in page]
        place = kept(url, name) if url else None
    assert (
        found
        == sorted(Message.objects.filter(session=session).values_list("position", flat=True))[
            :: 1 if order == "asc" else -1
        ]
    )


def kept(url: str, name: str) -> str:
    return parse_qs(urlsplit(url).query, keep_blank_values=True)[name][0]


@tried_on_the_database
@given(odd)
@pytest.mark.django_db
def test_a_strange_cursor_is_a_page_or_a_refusal(cursor: str) -> None:
    try:
        request = request_with(cursor=cursor, limit="1")
        page, _ = pagination.page_of_sessions(request, Session.objects.all(), **SessionsQuery.read(request))
        assert len(list(page)) <= 1
    except serializers.ValidationError as problem:
        assert isinstance(problem.detail, dict)
        assert list(problem.detail) == ["cursor"]


# The values of a request

anything = values | st.floats() | st.integers(-(10**400), 10**400)
FIELDS: list[tuple[Any, Callable[[Any], bool]]] = [
    (Text(max_length=20), lambda value: isinstance(value, str) and 0 < len(value) <= 20),
    (Flag(), lambda value: isinstance(value, bool)),
    (Number(min_value=0, max_value=2), lambda value: isinstance(value, float) and 0 <= value <= 2),
    (Whole(min_value=1, max_value=9), lambda value: type(value) is int and 1 <= value <= 9),
    (
        Metadata(),
        lambda value: isinstance(value, dict) and len(json.dumps(value, allow_nan=False)) <= MAX_METADATA_BYTES,
    ),
]


@pytest.mark.parametrize(("field", "is_good"), FIELDS, ids=lambda part: type(part).__name__)
@tried
@given(value=anything)
def test_a_field_gives_a_good_value_unchanged_or_a_refusal(field: Any, is_good: Any, value: Any) -> None:
    try:
        result = field.run_validation(value)
    except serializers.ValidationError:
        return
    assert is_good(result)
    assert result == value


bodies = st.fixed_dictionaries(
    {},
    optional={
        "message": texts | anything,
        "session_id": st.from_regex(r"[A-Za-z0-9._:-]{0,9}") | anything,
        "stream": st.booleans() | anything,
        "on_busy": st.sampled_from(["wait", "reject"]) | anything,
        "model": texts | anything,
        "temperature": st.floats(0, 2) | anything,
        "max_tokens": st.integers(1, 9) | anything,
        "persona_id": texts | anything,
        "timing_metadata": st.dictionaries(texts, values) | anything,
        "unknown": values,
    },
)


@pytest.mark.parametrize("serializer", [ChatRequestSerializer(), MessageRequestSerializer()], ids=["chat", "message"])
@tried
@given(body=bodies | values)
def test_the_short_way_of_validating_finds_what_the_library_s_finds(serializer: Any, body: Any) -> None:
    def found(validate: Callable[[Any], Any]) -> Any:
        try:
            return dict(validate(body))
        except serializers.ValidationError as problem:
            return problem.detail

    library = serializers.Serializer.to_internal_value
    assert found(serializer.to_internal_value) == found(lambda given: library(serializer, given))


# The environment and the peers

variables = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20) | numbers.map(str)
READERS: dict[str, tuple[Callable[[Environment], Any], Callable[[Any], bool]]] = {
    "boolean": (lambda env: env.boolean("TRIED", False), lambda value: isinstance(value, bool)),
    "choice": (lambda env: env.choice("TRIED", "a", ("a", "b")), lambda value: value in ("a", "b")),
    "integer": (lambda env: env.integer("TRIED", 5, 0, 9), lambda value: type(value) is int and 0 <= value <= 9),
    "seconds": (lambda env: env.seconds("TRIED", 5, 0.5, 9), lambda value: 0.5 <= value <= 9),
    "hours_if_set": (lambda env: env.hours_if_set("TRIED", 1), lambda value: value is None or 1 <= value <= 87_600),
    "listing": (
        lambda env: env.listing("TRIED", ["a"]),
        lambda value: all(part == part.strip() != "" for part in value),
    ),
    "model_lists": (lambda env: env.model_lists("TRIED", 2), lambda value: isinstance(value, dict)),
    "parameters": (lambda env: env.parameters("TRIED", ("a",)), lambda value: isinstance(value, dict)),
    "url": (lambda env: env.url("TRIED", "http://a"), lambda value: bool(urlsplit(value).hostname)),
}


@pytest.mark.parametrize("kind", READERS)
@settings(tried, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=variables | st.sampled_from(["true", "b", "7", "0x7", "١", "1e0", "inf", "nan", "http://[", "https://x/v1"])
)
def test_a_setting_is_good_or_stops_the_start_with_its_name(kind: str, text: str) -> None:
    read, is_good = READERS[kind]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRIED", text)
        try:
            assert is_good(read(Environment(ROOT / "none.env")))
        except ImproperlyConfigured as problem:
            assert str(problem).startswith("TRIED must ")


hosts = st.ip_addresses().map(str)
entries = hosts | hosts.map("[{}]:80".format) | st.text(st.characters(codec="latin-1"), max_size=20)


@tried
@given(st.lists(entries), hosts)
def test_only_a_trusted_proxy_s_word_counts(forwarded: list[str], outside: str) -> None:
    proxies = Proxies(networks("TRUSTED_PROXIES", ["10.0.0.0/8"]))
    header = (b"x-forwarded-for", ",".join(forwarded).encode("latin-1"))
    for peer in ("10.1.2.3", outside):
        scope: dict[str, Any] = {"client": (peer, 4711), "headers": [header], "scheme": "http"}
        proxies.reveal(scope)
        client = scope["client"][0]
        assert address(client) is not None
        if not proxies.is_proxy(peer):
            assert address(client) == address(peer)


# Ids


def test_ids_begin_with_a_letter_or_digit_and_are_all_different() -> None:
    made = [new_public_id() for _ in range(2000)]
    assert all(re.fullmatch("[A-Za-z0-9][A-Za-z0-9_-]{21}", one, re.ASCII) for one in made)
    assert len(set(made)) == 2000

"""What an owner stores is counted as the record says, whatever is written, erased or repeated, and bounded."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from rest_framework.test import APIRequestFactory

from access.budgets import Offer, Quote
from access.callers import Caller, Limits
from access.limits import LimitStatus
from access.models import Client, Forking, Stored, StoredChange
from access.storage import totals
from access.storage.totals import Growth
from sessions_api.api.views import SessionsViewSet
from sessions_api.imports.storing import Parts
from sessions_api.imports.storing import store as store_imported
from sessions_api.models import Feedback, Message, Session
from sessions_api.retention import erasure
from sessions_api.store import quotas, sizes
from sessions_api.store.lookups import SESSIONS
from sessions_api.store.messages import BegunTurn, NewTurn
from sessions_api.store.quotas import charge_quota, count_again
from sessions_api.store.turns import begin_turns, finish_turns
from tests.support.stored_turns import begin, outcome, question
from web import pace
from web.errors import ApiError

pytestmark = pytest.mark.django_db(transaction=True)

PLENTY = Limits(sessions=1000, stored_mb=1000)
MB = 1_000_000


def asked(session_id: str = "s", text: str = "Oi", limits: Limits = PLENTY, **more: Any) -> NewTurn:
    return question(session_id, text, **{"owner": "a", "storage_limits": limits, **more})


def say(session_id: str = "s", text: str = "Oi", reply: str = "Olá", **more: Any) -> BegunTurn:
    begun = begin(asked(session_id, text, **more))
    finish_turns([outcome(begun, reply, stored_for="a")])
    return begun


def refusals(*turns: NewTurn) -> list[str]:
    """The limit that refuses each turn; empty where it begins."""
    return [one.name if isinstance(one, LimitStatus) else "" for one in begin_turns(turns)]


def counted(owner: str = "a") -> tuple[int, int]:
    rows = [
        *Stored.objects.filter(owner=owner).values_list("sessions", "size"),
        *StoredChange.objects.filter(owner=owner).values_list("sessions", "size"),
    ]
    return sum(sessions for sessions, _ in rows), sum(size for _, size in rows)


def caller(**limits: Any) -> Caller:
    return Caller("a", "client", limits=Limits(**limits))


# Counting


def test_turns_are_counted_as_the_record_has_them() -> None:
    say(text="Ação" * 100, reply="Não" * 1000, system_prompt="Seja breve, João.")
    say(text="😀", reply="")
    assert counted() == (1, sizes.PER_SESSION + 4 * sizes.PER_MESSAGE + 600 + 4000 + 18 + 4 + 5 * 2)
    say(text="outra", system_prompt="Seja muito breve, João.")
    say("t", "nova", metadata={}, default_system_prompt="Sou o banco.")
    assert counted()[0] == 2
    assert sizes.difference("a") == (0, 0)


def test_a_running_turn_counts_without_its_reply() -> None:
    begun = begin(asked())
    Message.objects.filter(position=1).update(content="até agora")
    assert sizes.difference("a") == (0, 0)
    finish_turns([outcome(begun, "até agora e mais", stored_for="a")])
    assert sizes.difference("a") == (0, 0)


def test_what_a_later_turn_replaced_still_counts() -> None:
    say(text="um")
    before = counted()[1]
    say(text="dois", after_turn="")
    assert counted()[1] > before + 2 * sizes.PER_MESSAGE
    assert sizes.difference("a") == (0, 0)


def test_a_turn_whose_answer_was_lost_counts_once() -> None:
    turn = asked()
    begin(turn)
    before = counted()
    begun = begin(turn)
    last = outcome(begun, "Olá", stored_for="a")
    for _ in range(2):
        assert finish_turns([last]) == ["completed"]
    assert counted() == (1, before[1] + 4 + 2)


def test_who_has_no_limit_is_counted_nowhere() -> None:
    with CaptureQueriesContext(connection) as queries:
        begun = begin(question(owner="b"))
        finish_turns([outcome(begun)])
        erasure.erase(Session.objects.filter(owner="b"))
    assert not Stored.objects.exists()
    assert not [query for query in queries if totals.CHANGES in query["sql"]]
    assert len([query for query in queries if totals.TOTALS in query["sql"]]) == 1  # whether anybody has one


def test_sets_of_several_owners_are_counted_for_each() -> None:
    begin_turns([asked("s"), asked("t"), asked("s", owner="b"), question("s", owner="c")])
    assert (counted("a")[0], counted("b")[0], counted("c")[0]) == (2, 1, 0)


# Refusing


def test_sessions_end_at_their_limit_and_those_that_exist_go_on() -> None:
    two = Limits(sessions=2)
    assert refusals(*(asked(name, limits=two) for name in "stu")) == ["", "", "sessions"]
    assert counted()[0] == 2
    erasure.close(Session.objects.filter(session_id="t"))
    assert refusals(asked("t", limits=two)) == ["sessions"]  # closed ones count
    Message.objects.filter(status="pending").update(status="failed")
    assert refusals(asked("s", limits=two)) == [""]


def test_text_ends_at_its_limit_whoever_wrote_it() -> None:
    one = Limits(stored_mb=1)
    say(text="x" * 400_000, reply="y" * 400_000, limits=one)
    assert refusals(asked(text="x" * 200_000, limits=one)) == ["stored_mb"]
    assert refusals(asked("t", "Oi", system_prompt="x" * 200_000, limits=one)) == ["stored_mb"]
    assert refusals(asked("t", "Oi", metadata={"a": "x" * 200_000}, limits=one)) == ["stored_mb"]
    assert Session.objects.count() == 1
    assert sizes.difference("a") == (0, 0)
    assert refusals(asked(text="x" * 190_000, limits=one)) == [""]


def test_a_set_is_refused_from_the_turn_on_that_does_not_fit() -> None:
    one = Limits(stored_mb=1)
    turns = [asked(name, "x" * 400_000, limits=one) for name in "stu"]
    assert refusals(*turns, asked("v", limits=one)) == ["", "", "stored_mb", ""]
    assert sizes.difference("a") == (0, 0)


def test_what_a_budget_refuses_is_not_counted() -> None:
    quote = Quote(Limits(tokens_per_day=1), {"m": Offer(1000, 1000)})
    assert refusals(asked(quote=quote)) == ["tokens_per_day"]
    assert counted() == (0, 0)


def test_who_is_over_a_new_limit_may_not_store_more_but_less() -> None:
    say(text="x" * MB)
    one = caller(stored_mb=1)
    with pytest.raises(ApiError):
        charge_quota(one, Growth(0, 1))
    charge_quota(one, Growth(0, 0))


# Charging a quota


def test_what_is_erased_makes_room_at_once() -> None:
    one = Limits(stored_mb=1, sessions=2)
    for name in "st":
        say(name, "x" * 400_000, limits=one)
    assert refusals(asked("u", limits=one)) == ["sessions"]
    erasure.erase(Session.objects.filter(session_id="s"))
    assert refusals(asked("u", "x" * 400_000, limits=one)) == [""]


def test_a_long_session_that_is_erased_piece_by_piece_is_subtracted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "FIRST_ROWS", 4)
    monkeypatch.setattr(pace, "MAX_ROWS", 4)
    for number in range(6):
        say(text="x" * number)
    say("t")
    erasure.erase(Session.objects.filter(session_id="s"))
    assert counted()[0] == 1
    assert abs(sizes.difference("a")[1]) <= 2 * 14  # the empty metadata of what is gone
    Stored.objects.update(counted_at=None)
    count_again(5)
    assert sizes.difference("a") == (0, 0)


def test_metadata_that_is_gone_is_found_by_the_next_count() -> None:
    say(metadata={"a": "x" * 5000})
    charge_quota(caller(stored_mb=1), quotas.growth_by({"metadata": {"b": 1}}, Session.objects.get()))
    assert sizes.difference("a")[1] < 0
    Stored.objects.update(counted_at=timezone.now() - timedelta(days=2))
    count_again(5)
    assert sizes.difference("a")[1] < 0
    totals.tidy()
    count_again(5)
    assert sizes.difference("a") == (0, 0)


def test_a_text_that_is_shortened_twice_at_once_makes_no_room_twice() -> None:
    say(system_prompt="x" * 5000)
    same_moment = Session.objects.get()
    for _ in range(2):
        charge_quota(caller(stored_mb=1), quotas.growth_by({"system_prompt": ""}, same_moment))
    Session.objects.update(system_prompt="")
    charge_quota(caller(stored_mb=1), quotas.growth_by({"system_prompt": "x" * 6000}, same_moment))
    Session.objects.update(system_prompt="x" * 6000)
    assert sizes.difference("a") == (0, 0)


def test_nothing_that_is_written_and_erased_again_makes_room_for_more() -> None:
    """The database may write JSON longer than the client did: a number of six characters may have three hundred."""
    turn = begin(asked(metadata={"a": [1e300] * 1000}))
    finish_turns([outcome(turn, "Olá", stored_for="a")])
    for metadata in ({"a": [1e300] * 1000}, {}):
        charge_quota(caller(stored_mb=1), quotas.growth_by({"metadata": metadata}, Session.objects.get()))
        Session.objects.update(metadata=metadata)
    Session.objects.update(system_prompt="x")
    erasure.erase(Session.objects.all())
    assert counted()[1] >= 0


# Counting again


def test_what_is_there_before_the_limit_counts_from_the_first_write_on() -> None:
    for name in "stu":
        begin(question(name, "x" * 1000, owner="a"))
    assert refusals(asked("v", limits=Limits(sessions=3))) == ["sessions"]
    assert sizes.difference("a") == (0, 0)


def test_a_large_record_is_counted_by_the_housekeeping(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quotas, "FEW_SESSIONS", 2)
    for name in "stu":
        begin(question(name, owner="a"))
    erasure.close(Session.objects.filter(session_id="s"))
    assert refusals(asked("v", limits=Limits(sessions=3))) == [""]  # nobody waits for the count
    count_again(5)
    assert sizes.difference("a") == (0, 0)
    assert refusals(asked("w", limits=Limits(sessions=4))) == ["sessions"]


def test_a_refusal_has_an_old_count_made_again() -> None:
    begin(asked())
    refused = asked("t", limits=Limits(sessions=1))
    assert refusals(refused) == ["sessions"]
    assert Stored.objects.get().counted_at
    Stored.objects.update(counted_at=timezone.now() - 2 * totals.COUNTED_FOR)
    assert refusals(refused) == ["sessions"]
    assert Stored.objects.get().counted_at is None


def test_while_a_fork_runs_its_owner_is_not_counted() -> None:
    begin(asked())
    now = timezone.now()
    Forking.objects.create(owner="a", holder="x", expires_at=now + timedelta(minutes=1), size=0, resets_at=now)
    Stored.objects.update(counted_at=None, sessions=9)
    count_again(5)
    assert counted()[0] == 9


def test_an_import_and_an_opinion_are_found() -> None:
    begin(asked())
    Feedback.objects.create(
        session=Session.objects.get(), position=1, rating="up", comment="ção", created_at=timezone.now()
    )
    now = timezone.now()
    new = Session(owner="a", session_id="imported", created_at=now, last_activity_at=now, message_count=1)
    said = Message(
        session=new, position=0, turn_id="x", role="user", content="x" * 50, status="completed", created_at=now
    )
    assert list(store_imported([Parts(new, [said], [])])) == [True]
    count_again(5)
    assert counted()[0] == 2
    assert sizes.difference("a") == (0, 0)


def test_rows_of_owners_without_a_limit_are_forgotten(settings: Any) -> None:
    limited, free = (Client.objects.create(name=name, sessions=count) for name, count in (("x", 5), ("y", 0)))
    for owner in (limited.owner, free.owner, "open", "byok:1"):
        Stored.objects.create(owner=owner, sessions=1, size=1)
    Stored.objects.create(owner="byok:2", counted_at=timezone.now())
    totals.tidy()
    assert set(Stored.objects.values_list("owner", flat=True)) == {limited.owner, "byok:1"}
    settings.BYOK_SESSIONS = settings.BYOK_STORED_MB = 0
    totals.tidy()
    assert Stored.objects.get().owner == limited.owner


def test_a_fork_is_measured_as_what_it_will_be() -> None:
    for number in range(3):
        say(text="ção" * number, system_prompt="Seja breve.")
    session = Session.objects.get()
    places = list(range(4))
    copied = Message.objects.filter(position__lte=3)
    texts = sum(len(message.content.encode()) for message in copied)
    assert sizes.of_copy(session.pk, places) == 4 * (sizes.PER_MESSAGE + 2) + texts
    assert sizes.of_copy(session.pk, []) == 0
    assert sizes.of_session(session) == sizes.PER_SESSION + len("Seja breve.") + 2


def test_an_amount_of_nothing_needs_no_room() -> None:
    charge_quota(caller(stored_mb=1), Growth(0, 0))
    charge_quota(caller(), Growth(1, 10 * MB))
    assert not Stored.objects.exists()
    assert totals.Total("a", 0, 0, None).try_add(Growth(1, 2 * MB), Limits(stored_mb=1)) == LimitStatus(
        "stored_mb", 1, Decimal(1), 0, True, Decimal(2)
    )


def test_who_changes_a_session_that_is_erased_at_that_moment_is_told_so() -> None:
    begin(question(owner="open"))
    erased: list[int] = []

    def erase_first(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if sql.startswith("UPDATE") and SESSIONS in sql and not erased:
            erased.append(1)
            Session.objects.all().delete()
        return execute(sql, params, many, context)

    request = APIRequestFactory().patch("/sessions/s", {"title": "Tarde"}, format="json")
    with connection.execute_wrapper(erase_first):
        answer = SessionsViewSet.as_view({"patch": "partial_update"})(request, session_id="s")
    assert (answer.status_code, answer.data["code"], erased) == (404, "session_not_found", [1])

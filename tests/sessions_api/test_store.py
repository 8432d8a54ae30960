"""sessions_api/store/turns.py: the record when a turn begins, runs and ends; each operation may run again."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from sessions_api.models import IdempotencyKey, Message, Outcome, Session
from sessions_api.retention.erasure import close
from sessions_api.retention.expiry import drop_expired_keys
from sessions_api.store import lookups
from sessions_api.store.lookups import find_keys, find_replies
from sessions_api.store.messages import BegunTurn, SessionBusy, TooManySuperseded, TurnProgress, UsedIdempotencyKey
from sessions_api.store.process import this_process
from sessions_api.store.turns import (
    RunSeparately,
    abandon_turns,
    begin_turns,
    cancel_turns,
    finish_turns,
    save_progress,
)
from tests.support.stored_turns import begin, outcome, question, rows, say

pytestmark = pytest.mark.django_db(transaction=True)


# Beginning a turn


def test_a_question_and_its_pending_reply_are_stored_together() -> None:
    begun = begin(question(text="Quanto custa?", metadata={"ção": [1]}))
    assert rows() == [(0, "user", "Quanto custa?", "completed"), (1, "assistant", "", "pending")]
    assert (begun.position, begun.history, begun.unread) == (1, [], 0)
    asked, reply = Message.objects.order_by("position")
    assert asked.metadata == {"ção": [1]}
    assert asked.turn_id == reply.turn_id
    assert reply.runner == this_process()
    assert Session.objects.get().message_count == 2


def test_the_history_is_what_came_before() -> None:
    say("s", "Um", "Eins")
    say("s", "Dois", "Zwei")
    begun = begin(question(text="Três"))
    assert [(past.role, past.content) for past in begun.history] == [
        ("user", "Um"), ("assistant", "Eins"), ("user", "Dois"), ("assistant", "Zwei"),
    ]  # fmt: skip
    assert begun.position == 5


def test_what_was_superseded_is_no_history() -> None:
    first = say("s", "Um", "Eins")
    Message.objects.filter(session=first.session_pk).update(superseded_at=timezone.now())
    assert begin(question(text="Dois")).history == []


def test_a_long_history_is_read_from_its_end() -> None:
    for number in range(5):
        say("s", f"Pergunta {number}", f"Resposta {number}")
    begun = begin(question(history_limit=4))
    assert [past.content for past in begun.history] == ["Pergunta 3", "Resposta 3", "Pergunta 4", "Resposta 4"]
    assert begun.unread == 6


def test_a_busy_session_names_the_turn_that_runs() -> None:
    running = question()
    begin(running)
    [busy] = begin_turns([question()])
    assert isinstance(busy, SessionBusy)
    assert busy.turn_id == running.turn_id
    assert timezone.now() - busy.heartbeat_at < timedelta(minutes=1)
    assert len(rows()) == 2


@pytest.mark.parametrize("known", [False, True])
def test_of_two_questions_in_a_set_the_first_is_taken(known: bool) -> None:
    if known:
        say("s", "Antes", "Sim")
    first, second, other = question(), question(), question("outra")
    begun, busy, elsewhere = begin_turns([first, second, other])
    assert isinstance(begun, BegunTurn)
    assert isinstance(elsewhere, BegunTurn)
    assert isinstance(busy, SessionBusy)
    assert busy.turn_id == first.turn_id


def test_a_set_mixes_new_and_known_sessions_of_several_owners() -> None:
    say("velha", "Um", "Eins")
    say("velha", "Um", "Eins", owner="outro")
    turns = [
        question("velha", "a"), question("nova", "b"), question("outra", "c"), question("nova", "d", owner="outro"),
        question("velha", "e", owner="outro"),
    ]  # fmt: skip
    answers = [begun for begun in begin_turns(turns) if isinstance(begun, BegunTurn)]
    assert len({begun.session_pk for begun in answers}) == 5
    assert [len(begun.history) for begun in answers] == [2, 0, 0, 0, 2]
    for turn, begun in zip(turns, answers, strict=True):
        asked = Message.objects.get(session=begun.session_pk, position=begun.position - 1)
        assert (asked.content, asked.turn_id, asked.session.owner) == (turn.question, turn.turn_id, turn.owner)


@pytest.mark.parametrize("session_id", ["s", "nova"])
def test_a_beginning_that_is_run_again_recognises_its_own_work(session_id: str) -> None:
    """The answer to a commit may get lost: then the writer runs it again."""
    say("s", "Antes", "Sim")
    turn = question(session_id)
    first = begin(turn)
    again = begin(turn)
    assert replace(again, history=[]) == replace(first, history=[])
    assert [past.content for past in again.history] == [past.content for past in first.history]
    assert Message.objects.filter(turn_id=turn.turn_id).count() == 2
    assert Session.objects.get(pk=first.session_pk).message_count == first.position + 1


def test_a_closed_session_s_id_begins_a_new_one() -> None:
    old = say("s", "Um", "Eins")
    close(Session.objects.filter(pk=old.session_pk))
    begun = begin(question())
    assert begun.session_pk != old.session_pk
    assert begun.history == []


def test_the_database_itself_allows_one_running_turn_a_session() -> None:
    begun = begin(question())
    values: dict[str, Any] = {"role": "assistant", "status": "pending", "turn_id": "x", "created_at": timezone.now()}
    with pytest.raises(IntegrityError), transaction.atomic():
        Message.objects.create(session_id=begun.session_pk, position=9, **values)


def test_the_database_itself_allows_one_open_session_an_id_and_owner() -> None:
    begin(question())
    now = timezone.now()
    with pytest.raises(IntegrityError), transaction.atomic():
        Session.objects.create(owner="open", session_id="s", created_at=now, last_activity_at=now)
    Session.objects.create(owner="open", session_id="s", created_at=now, last_activity_at=now, closed_at=now)


# TurnProgress and outcome


def test_progress_is_kept_while_the_turn_runs_and_not_after() -> None:
    begun = begin(question())
    assert save_progress([TurnProgress(begun.session_pk, 1, "Olá, tu")]) == [True]
    assert rows()[1] == (1, "assistant", "Olá, tu", "pending")
    finish_turns([outcome(begun, "Olá, tudo bem?")])
    assert save_progress([TurnProgress(begun.session_pk, 1, "Olá")]) == [False]
    assert rows()[1][2] == "Olá, tudo bem?"


def test_of_a_set_only_the_ended_turns_are_told_so() -> None:
    running, ended = begin(question("a")), begin(question("b"))
    finish_turns([outcome(ended)])
    progress = [
        TurnProgress(ended.session_pk, 1, "x"),
        TurnProgress(running.session_pk, 1, "y"),
        TurnProgress(10**9, 1, "z"),
    ]
    assert save_progress(progress) == [False, True, False]
    assert rows("a")[1][2] == "y"


def test_an_outcome_is_recorded_and_totalled() -> None:
    begun = begin(question())
    recorded = outcome(
        begun, "Olá", model="m", provider="p", generation_id="g", finish_reason="length", prompt_tokens=7,
        completion_tokens=3, cached_tokens=2, reasoning_tokens=1, usage_estimated=True, cost=Decimal("0.000000000007"),
        first_token_ms=5, latency_ms=9, history_omitted=4,
    )  # fmt: skip
    assert finish_turns([recorded]) == ["completed"]
    reply = Message.objects.get(position=1)
    for name in Outcome.__slots__:
        if name not in ("session_pk", "settlement", "stored_for"):
            assert getattr(reply, name) == getattr(recorded, name), name
    assert reply.heartbeat_at is None
    assert reply.completed_at is not None
    session = Session.objects.get()
    assert (session.prompt_tokens, session.completion_tokens, session.cost) == (7, 3, Decimal("0.000000000007"))


def test_an_outcome_that_is_recorded_again_counts_once() -> None:
    recorded = outcome(begin(question()), prompt_tokens=7, completion_tokens=3, cost=Decimal("0.5"))
    assert finish_turns([recorded]) == ["completed"]
    assert finish_turns([recorded]) == ["completed"]
    session = Session.objects.get()
    assert (session.prompt_tokens, session.cost) == (7, Decimal("0.5"))


def test_two_outcomes_of_one_session_in_a_set_are_both_totalled() -> None:
    begun = say("s", "Um", "Eins")
    Message.objects.filter(session=begun.session_pk).update(status="completed")
    second = begin(question())
    third = begin(question("outra"))
    finish_turns([outcome(second, prompt_tokens=1), outcome(third, prompt_tokens=2)])
    assert sorted(Session.objects.values_list("prompt_tokens", flat=True)) == [1, 2]


def test_an_outcome_does_not_bring_back_what_somebody_else_ended() -> None:
    begun = begin(question())
    Message.objects.filter(position=1).update(status="cancelled", content="Até aqui")
    assert finish_turns([outcome(begun, "Tudo")]) == ["cancelled"]
    assert rows()[1] == (1, "assistant", "Até aqui", "cancelled")
    assert Session.objects.get().completion_tokens == 0


def test_an_outcome_of_an_erased_session_is_dropped() -> None:
    begun = begin(question())
    Message.objects.all().delete()
    Session.objects.all().delete()
    assert finish_turns([outcome(begun)]) == [None]
    assert Message.objects.count() == 0


def test_a_set_with_one_ended_turn_asks_to_be_taken_apart() -> None:
    good, ended = begin(question("a")), begin(question("b"))
    Message.objects.filter(session=ended.session_pk, position=1).update(status="cancelled")
    with pytest.raises(RunSeparately), transaction.atomic():
        finish_turns([outcome(good), outcome(ended)])
    assert rows("a")[1][3] == "pending"


@pytest.mark.parametrize("status", ["completed", "failed", "interrupted", "cancelled"])
def test_an_outcome_that_is_recorded_twice_counts_once(status: str) -> None:
    """The writer runs a batch again if the answer to its commit was lost."""
    recorded = outcome(begin(question()), status=status, prompt_tokens=7, cost=Decimal("0.5"))
    assert [finish_turns([recorded]) for _ in range(2)] == [[status], [status]]
    session = Session.objects.get()
    assert (session.prompt_tokens, session.cost) == (7, Decimal("0.5"))


def test_a_reply_that_was_cancelled_meanwhile_gets_all_that_had_come_and_what_it_cost() -> None:
    turn = question()
    begun = begin(turn)
    assert cancel_turns([turn.turn_id]) == [True]
    late = outcome(begun, "Tudo o que veio", prompt_tokens=7)
    assert [finish_turns([late]) for _ in range(2)] == [["cancelled"], ["cancelled"]]
    assert rows()[1] == (1, "assistant", "Tudo o que veio", "cancelled")
    assert Message.objects.get(position=1).finish_reason == "cancelled"
    assert Session.objects.get().prompt_tokens == 7


# Keys, and reading replies


def test_a_turn_whose_beginning_was_never_answered_is_abandoned_and_its_key_is_free() -> None:
    lost = question(idempotency_key="k", fingerprint="f")
    begin(lost)
    foreign = question("outra", idempotency_key="l", fingerprint="f")
    begin(foreign)
    Message.objects.filter(turn_id=foreign.turn_id).update(runner="elsewhere")
    abandon_turns([lost.turn_id, foreign.turn_id])
    assert rows()[1] == (1, "assistant", "", "failed")
    assert rows("outra")[1][3] == "pending"
    assert IdempotencyKey.objects.values_list("key", flat=True).get() == "l"
    assert begin(question(idempotency_key="k", fingerprint="f")).position == 3


def test_a_key_outlives_its_running_turn(settings: Any) -> None:
    settings.IDEMPOTENCY_HOURS, settings.TURN_DEADLINE_SECONDS = 0.01, 7200
    turn = question(idempotency_key="k", fingerprint="f")
    begin(turn)
    IdempotencyKey.objects.update(created_at=timezone.now() - timedelta(hours=1))
    assert find_keys([turn]) == [UsedIdempotencyKey(turn.turn_id, "f")]
    assert drop_expired_keys() == 0
    IdempotencyKey.objects.update(created_at=timezone.now() - timedelta(hours=3))
    assert find_keys([turn]) == [None]
    assert drop_expired_keys() == 1


def test_replies_are_found_for_their_owner_alone() -> None:
    turn = question()
    begin(turn)
    found, stranger, missing = find_replies([("open", turn.turn_id), ("outro", turn.turn_id), ("open", "nada")])
    assert found is not None
    assert found.role == "assistant"
    assert (stranger, missing) == (None, None)


def test_no_turn_supersedes_more_text_than_others_can_wait_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookups, "MAX_CHARS_AT_ONCE", 100)
    say("s", "um", "resposta")
    say("s", "x" * 90, "resposta")
    first = Message.objects.get(content="um")
    [whole] = begin_turns([question("s", "de novo", after_turn="")])
    [end] = begin_turns([question("s", "de novo", after_turn=first.turn_id)])
    assert isinstance(whole, TooManySuperseded)
    assert isinstance(end, BegunTurn)

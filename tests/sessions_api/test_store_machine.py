"""The store as a state machine: operations in any order, in sets and repeated, leave a consistent record."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import transaction
from django.db.models import Sum
from django.utils import timezone
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from sessions_api.models import IdempotencyKey, Message, Outcome, Session, new_public_id
from sessions_api.retention.dead_turns import interrupt_dead_turns, interrupt_turns
from sessions_api.retention.erasure import close, erase
from sessions_api.store.lookups import find_keys
from sessions_api.store.messages import BegunTurn, NewTurn, SessionBusy, TurnProgress, UsedIdempotencyKey
from sessions_api.store.turns import (
    RunSeparately,
    abandon_turns,
    begin_turns,
    cancel_turns,
    finish_turns,
    save_progress,
)

ENDED = ("completed", "failed", "cancelled", "interrupted")


@dataclass
class Known:
    """The expected record of a turn. `outcome` is what its process has reported so far."""

    turn: NewTurn
    begun: BegunTurn
    status: str = "pending"
    content: str = ""
    outcome: Outcome | None = None
    closed: bool = False  # its session
    erased: bool = False

    @property
    def runs(self) -> bool:
        return self.status == "pending" and not self.erased


def perform(operation: Callable[[Sequence[Any]], Sequence[Any]], arguments: Sequence[Any]) -> list[Any]:
    """Like the writer: all in one transaction; if that fails, each alone."""
    try:
        with transaction.atomic():
            return list(operation(arguments))
    except RunSeparately:
        return [perform(operation, [argument])[0] for argument in arguments]


def each_once(some: list[Known]) -> list[Known]:
    return list({one.turn.turn_id: one for one in some}.values())


questions = st.builds(
    NewTurn,
    owner=st.sampled_from(["ana", "bruno"]),
    session_id=st.sampled_from(["s", "t"]),
    turn_id=st.builds(new_public_id),
    question=st.sampled_from(["Oi", "Quanto custa?"]),
    model=st.sampled_from([None, "m"]),
    history_limit=st.integers(1, 6),
    idempotency_key=st.sampled_from([None, None, "k", "l"]),
    fingerprint=st.sampled_from(["f", "g"]),
)


class Store(RuleBasedStateMachine):
    """Two owners, two session names, two keys: few enough to collide often."""

    turns: Bundle[Known] = Bundle("turns")

    @initialize()
    def forget(self) -> None:
        IdempotencyKey.objects.all().delete()
        Message.objects.all().delete()
        Session.objects.all().delete()
        self.known: dict[str, Known] = {}
        self.keys: dict[tuple[str, str], Known] = {}

    @rule(target=turns, asked=st.lists(questions, min_size=1, max_size=4), again=st.booleans())
    def begin(self, asked: list[NewTurn], again: bool) -> Any:
        running = {one.turn.session_key: one for one in self.known.values() if one.runs and not one.closed}
        answers = perform(begin_turns, asked)
        made = [self._check_begun(turn, answer, running) for turn, answer in zip(asked, answers, strict=True)]
        if again:  # the commit's answer was lost
            self._check_repeated(asked, answers)
        return multiple(*(known for known in made if known))

    def _check_begun(self, turn: NewTurn, answer: Any, running: dict[tuple[str, str], Known]) -> Known | None:
        """Its own key is checked first; but the second turn of a set may only learn that the session is busy."""
        used = self.keys.get(turn.owned_key) if turn.owned_key else None
        if used is not None and isinstance(answer, UsedIdempotencyKey):
            assert answer == UsedIdempotencyKey(used.turn.turn_id, used.turn.fingerprint)
        elif turn.session_key in running:
            assert isinstance(answer, SessionBusy)
            assert answer.turn_id == running[turn.session_key].turn.turn_id
        else:
            assert isinstance(answer, BegunTurn)
            assert used is None
            known = self.known[turn.turn_id] = running[turn.session_key] = Known(turn, answer)
            self._check_history(known)
            if turn.owned_key:
                self.keys[turn.owned_key] = known
            return known
        return None

    def _check_history(self, known: Known) -> None:
        """The session's earlier messages, as many as requested, as stored."""
        said = [
            part
            for other in self._same_session(known)[:-1]
            for part in ((other.turn.turn_id, "user", other.turn.question, "completed"), self._reply(other))
        ]
        assert known.begun.position == len(said) + 1
        assert [past[:4] for past in known.begun.history] == said[known.begun.unread :]
        assert known.begun.unread == max(0, len(said) - known.turn.history_limit)

    def _same_session(self, known: Known) -> list[Known]:
        """The turns of its session, in the order of their beginnings."""
        return [other for other in self.known.values() if other.begun.session_pk == known.begun.session_pk]

    def _reply(self, known: Known) -> tuple[str, str, str, str]:
        return known.turn.turn_id, "assistant", known.content, known.status

    def _check_repeated(self, asked: list[NewTurn], answers: list[Any]) -> None:
        for first, second in zip(answers, perform(begin_turns, asked), strict=True):
            if isinstance(first, SessionBusy):  # its own key, which was new in that set, may be stored by now
                assert isinstance(second, UsedIdempotencyKey) or second.turn_id == first.turn_id
            else:
                assert second == first

    @precondition(lambda self: bool(self.known))
    @rule(some=st.lists(turns, max_size=3).map(each_once), text=st.sampled_from(["Até", "Até aqui"]))
    def progress(self, some: list[Known], text: str) -> None:
        running = perform(save_progress, [TurnProgress(one.begun.session_pk, one.begun.position, text) for one in some])
        assert running == [one.runs for one in some]
        for one in some:
            if one.runs:
                one.content = text

    @precondition(lambda self: bool(self.known))
    @rule(
        some=st.lists(turns, max_size=3).map(each_once),
        status=st.sampled_from(ENDED),
        tokens=st.integers(0, 2**31 - 1) | st.none(),
        cost=st.decimals(0, 1000, places=12) | st.none(),
        times=st.integers(1, 2),
    )
    def finish(self, some: list[Known], status: str, tokens: int | None, cost: Decimal | None, times: int) -> None:
        for one in some:  # a process reports one outcome of its turn, however often it repeats it
            one.outcome = one.outcome or Outcome(
                one.begun.session_pk,
                one.begun.position,
                f"Tudo {status}",
                status,
                prompt_tokens=tokens,
                completion_tokens=tokens and tokens // 2,
                cost=cost,
            )
        expected = [self._after_finish(one) for one in some]
        for _ in range(times):
            assert perform(finish_turns, [one.outcome for one in some]) == expected

    def _after_finish(self, one: Known) -> str | None:
        assert one.outcome is not None
        if one.erased:
            return None
        if one.status in ("pending", "interrupted"):  # marked as dead, but alive: all its text is kept
            one.status, one.content = one.outcome.status, one.outcome.content
        elif one.status == "cancelled":
            one.content = one.outcome.content
        return one.status

    @rule(one=turns)
    def cancel(self, one: Known) -> None:
        assert perform(cancel_turns, [one.turn.turn_id]) == [one.runs]
        self._end(one, "cancelled")

    @rule(one=turns, all_at_once=st.booleans())
    def fall_silent(self, one: Known, all_at_once: bool) -> None:
        Message.objects.filter(turn_id=one.turn.turn_id, status="pending").update(
            heartbeat_at=timezone.now() - timedelta(hours=1)
        )
        ended = interrupt_dead_turns() if all_at_once else perform(interrupt_turns, [one.turn.turn_id])[0]
        assert ended == one.runs
        self._end(one, "interrupted")

    @rule(one=turns)
    def abandon(self, one: Known) -> None:
        """Nothing was sent upstream: the key is free again."""
        if one.runs and one.turn.owned_key:
            del self.keys[one.turn.owned_key]
        perform(abandon_turns, [one.turn.turn_id])
        self._end(one, "failed")

    def _end(self, one: Known, status: str) -> None:
        if one.runs:
            one.status = status

    @rule(one=turns)
    def close(self, one: Known) -> None:
        """A new message begins a new session; a running turn may end."""
        close(Session.objects.filter(pk=one.begun.session_pk))
        for other in self._same_session(one):
            other.closed = True

    @rule(one=turns)
    def erase(self, one: Known) -> None:
        erase(Session.objects.filter(pk=one.begun.session_pk))
        for other in self._same_session(one):
            other.erased = True
        self.keys = {key: known for key, known in self.keys.items() if not known.erased}

    @invariant()
    def every_turn_is_as_its_process_knows_it(self) -> None:
        rows = Message.objects.filter(role="assistant").values_list("turn_id", "content", "status")
        living = [one for one in self.known.values() if not one.erased]
        assert sorted(rows) == sorted((one.turn.turn_id, one.content, one.status) for one in living)

    @invariant()
    def a_session_is_questions_and_replies_by_turns_without_a_gap(self) -> None:
        by_session: dict[int, list[tuple[int, str, str]]] = {}
        columns = ("session_id", "position", "role", "turn_id")
        rows = Message.objects.order_by(*columns[:2]).values_list(*columns)
        for pk, *row in rows:
            by_session.setdefault(pk, []).append(tuple(row))
        for pk, count in Session.objects.values_list("pk", "message_count"):
            messages = by_session.pop(pk)
            assert [position for position, _, _ in messages] == list(range(count))
            assert [role for _, role, _ in messages] == ["user", "assistant"] * (count // 2)
            assert [turn for _, _, turn in messages[::2]] == [turn for _, _, turn in messages[1::2]]
        assert by_session == {}

    @invariant()
    def a_session_has_one_running_turn_at_the_most_and_its_name_to_itself(self) -> None:
        running = list(Message.objects.filter(status="pending").values_list("session_id", flat=True))
        assert len(running) == len(set(running))
        names = list(Session.objects.filter(closed_at=None).values_list("owner", "session_id"))
        assert len(names) == len(set(names))

    @invariant()
    def the_totals_are_the_sums_of_the_messages(self) -> None:
        columns = ("prompt_tokens", "completion_tokens", "cost")
        sums = Message.objects.order_by().values_list("session_id").annotate(*map(Sum, columns))
        found = {pk: tuple(total or 0 for total in totals) for pk, *totals in sums}
        assert {pk: tuple(totals) for pk, *totals in Session.objects.values_list("pk", *columns)} == found

    @invariant()
    def a_key_stands_for_one_turn(self) -> None:
        rows = IdempotencyKey.objects.values_list("owner", "key", "turn_id", "fingerprint")
        expected = [(*key, known.turn.turn_id, known.turn.fingerprint) for key, known in self.keys.items()]
        assert sorted(rows) == sorted(expected)
        for (owner, key), known in self.keys.items():
            asked = replace(known.turn, owner=owner, idempotency_key=key, turn_id=new_public_id())
            assert find_keys([asked]) == [UsedIdempotencyKey(known.turn.turn_id, known.turn.fingerprint)]


@pytest.mark.django_db(transaction=True)
def test_the_record_holds_together_whatever_happens_in_whatever_order() -> None:
    tried = settings(
        max_examples=20,
        stateful_step_count=25,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        report_multiple_bugs=False,
    )
    run_state_machine_as_test(Store, settings=tried)

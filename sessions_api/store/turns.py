"""The only writer of turns: begins them, stores their progress, ends them.

The operations take lists, because the writer (writer.py) runs all waiting work as one set: a few statements for any
number of turns. Every turn pays for them, so they are SQL that SQLite and PostgreSQL share. Each operation recognises
its own rows, so it can run again when it is unknown whether a commit succeeded.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db import Error, connection
from django.db.models import F
from django.utils import timezone

from access.budgets import Hold, Settlement, charge, reserve, settle
from access.limits import LimitStatus
from sessions_api.models import Cancellation, IdempotencyKey, Message, Outcome, Session
from sessions_api.store.lookups import (
    KEYS,
    MESSAGES,
    SESSIONS,
    find_history_ends,
    find_keys,
    find_sessions,
    oldest_key,
    read_histories,
)
from sessions_api.store.messages import (
    BegunTurn,
    NewTurn,
    SessionBusy,
    SessionKey,
    Title,
    TooManySuperseded,
    TurnNotFound,
    TurnProgress,
    UsedIdempotencyKey,
    token_bound,
)
from sessions_api.store.process import this_process
from sessions_api.store.quotas import Quotas, note_replies
from sessions_api.store.titles import title_of


class RunSeparately(Error):
    """One item of a set needs special care, or a retry. The writer then runs each item alone, and retries it."""


NOT_OUTCOME_COLUMNS = ("session_pk", "position", "completed_at", "cost", "metadata", "settlement", "stored_for")
OUTCOME_COLUMNS = [name for name in Outcome.__slots__ if name not in NOT_OUTCOME_COLUMNS]
RECORD_OUTCOME = (
    f"UPDATE {MESSAGES} SET {', '.join(f'{name} = %s' for name in OUTCOME_COLUMNS)}, cost = %s, metadata = %s, "
    "completed_at = %s, "
    "heartbeat_at = NULL WHERE session_id = %s AND position = %s AND "
)
# After a long database outage a living turn may have been marked as interrupted: its outcome replaces that mark. The
# last condition excludes this very outcome, which may be stored already if the answer to its commit was lost.
STILL_OPEN = "(status = 'pending' OR status = 'interrupted' AND runner = %s AND completed_at <> %s)"
CANCELLED_MEANWHILE = "(status = 'cancelled' AND runner = %s AND completed_at <> %s)"


BeginResult = BegunTurn | SessionBusy | UsedIdempotencyKey | TurnNotFound | TooManySuperseded | LimitStatus


def begin_turns(turns: Sequence[NewTurn]) -> list[BeginResult]:
    """Store each question with a pending reply, and read the history before it.

    A turn does not begin if its idempotency key was used (checked first), if the session is busy or has no such turn
    to follow, or if a limit of the owner is reached.
    """
    now = timezone.now()
    answers: dict[str, BeginResult] = {}
    for turn, used in zip(turns, find_keys(turns), strict=True):
        if used is not None and used.turn_id != turn.turn_id:
            answers[turn.turn_id] = used
    known, busy = find_sessions([turn for turn in turns if turn.turn_id not in answers])
    taken: dict[SessionKey, str] = {}
    for turn in turns:
        running = busy.get(turn.session_key)
        if turn.turn_id in answers:
            continue
        if turn.session_key in taken:
            answers[turn.turn_id] = SessionBusy(taken[turn.session_key], now)
        elif running and running.turn_id != turn.turn_id:
            answers[turn.turn_id] = running
        else:
            taken[turn.session_key] = turn.turn_id
    new = [turn for turn in turns if turn.turn_id not in answers and turn.session_key not in busy]
    answers |= find_history_ends(new, known)
    begun = [turn for turn in turns if turn.turn_id not in answers]
    read_histories([(turn, known[turn.session_key]) for turn in begun if turn.session_key in known])
    fresh = [turn for turn in begun if turn.session_key not in busy]
    quotas = Quotas(fresh, known)
    answers |= quotas.refusals
    answers |= _reserve_budgets([turn for turn in fresh if turn.turn_id not in answers], known)
    quotas.store([turn for turn in fresh if turn.turn_id not in answers])
    begun = [turn for turn in begun if turn.turn_id not in answers]
    known |= _create_sessions([turn for turn in begun if turn.session_key not in known], now)
    new_rows = [(turn, known[turn.session_key]) for turn in begun if turn.session_key not in busy]
    _store_keys([pair for pair in new_rows if pair[0].owned_key], now)
    _store_questions(new_rows, now)
    return [answers.get(turn.turn_id) or known[turn.session_key] for turn in turns]


def _reserve_budgets(turns: Sequence[NewTurn], known: dict[SessionKey, BegunTurn]) -> dict[str, LimitStatus]:
    """Reserve the budgets of turns with limited owners; return the limits that refuse turns."""
    limited = [turn for turn in turns if turn.quote]
    refusals = reserve([_hold(turn, known.get(turn.session_key)) for turn in limited])
    return {turn.turn_id: refusal for turn, refusal in zip(limited, refusals, strict=True) if refusal}


def _hold(turn: NewTurn, begun: BegunTurn | None) -> Hold:
    """The most that a turn can use, as far as the lengths of texts tell."""
    assert turn.quote is not None  # noqa: S101 - the caller has checked
    kept = begun.system_prompt if begun else ""
    prompt = (kept or turn.default_system_prompt) if turn.system_prompt is None else turn.system_prompt
    texts = [prompt, turn.question, *(message.content for message in (begun.history if begun else ()))]
    return turn.quote.hold(turn.turn_id, turn.owner, sum(map(token_bound, texts)))


def save_progress(turns: Sequence[TurnProgress]) -> list[bool]:
    """Store a heartbeat and the text so far, if there is one; return which turns still run by the database."""
    now = connection.ops.adapt_datetimefield_value(timezone.now())
    with connection.cursor() as cursor:
        cursor.executemany(
            f"UPDATE {MESSAGES} SET content = COALESCE(%s, content), heartbeat_at = %s "
            "WHERE session_id = %s AND position = %s AND status = 'pending'",
            [(turn.content, now, turn.session_pk, turn.position) for turn in turns],
        )
        if cursor.rowcount == len(turns):
            return [True] * len(turns)
    return [_status(turn.session_pk, turn.position) == Message.Status.PENDING for turn in turns]


def finish_turns(outcomes: Sequence[Outcome]) -> list[str | None]:
    """Record each outcome on its pending reply and in the session's totals.

    Returns the stored status: a different one if somebody else ended the turn before, `None` if it was erased.
    """
    settle([outcome.settlement for outcome in outcomes if outcome.settlement])
    with connection.cursor() as cursor:
        cursor.executemany(RECORD_OUTCOME + STILL_OPEN, [_outcome_row(outcome) for outcome in outcomes])
        if cursor.rowcount != len(outcomes):
            if len(outcomes) > 1:
                raise RunSeparately
            return [_finish_ended(outcomes[0])]
        _add_to_totals(outcomes)
    return [outcome.status for outcome in outcomes]


def _finish_ended(outcome: Outcome) -> str | None:
    """Record an outcome that comes late: a cancelled reply gets the text that had arrived, and its cost."""
    status = _status(outcome.session_pk, outcome.position)
    if status == Message.Status.CANCELLED:
        with connection.cursor() as cursor:
            cursor.execute(RECORD_OUTCOME + CANCELLED_MEANWHILE, _outcome_row(as_cancelled(outcome)))
            if cursor.rowcount:
                _add_to_totals([outcome])
    return status


def as_cancelled(outcome: Outcome) -> Outcome:
    return replace(outcome, status="cancelled", finish_reason="cancelled", error_code="")


def _add_to_totals(outcomes: Sequence[Outcome]) -> None:
    note_replies(outcomes)
    with connection.cursor() as cursor:
        cursor.executemany(
            # last_activity_at keeps the question's time: a new value would cost an entry in every index.
            f"UPDATE {SESSIONS} SET prompt_tokens = prompt_tokens + %s, "
            "completion_tokens = completion_tokens + %s, cost = cost + %s WHERE id = %s",
            [
                (
                    turn.prompt_tokens or 0,
                    turn.completion_tokens or 0,
                    _decimal(turn.cost or Decimal()),
                    turn.session_pk,
                )
                for turn in sorted(outcomes, key=lambda outcome: outcome.session_pk)
            ],
        )


def store_titles(titles: Sequence[Title]) -> list[None]:
    """Set titles, unless somebody has set one meanwhile, and add their usage to the totals."""
    charge([(title.owner, title.settlement) for title in titles if title.settlement])
    for title in sorted(titles, key=lambda title: title.session_pk):
        session = Session.objects.filter(pk=title.session_pk)
        usage = {name: F(name) + getattr(title, name) for name in ("prompt_tokens", "completion_tokens", "cost")}
        untouched = session.filter(title=title.instead_of)
        if not (title.title and untouched.update(title=title.title, **usage)):
            session.exclude(title=title.title).update(**usage)  # it has this title if this ran before
    return [None] * len(titles)


def request_cancellations(turn_ids: Sequence[str]) -> list[None]:
    """Ask the processes that run these turns to stop them."""
    now = timezone.now()
    Cancellation.objects.bulk_create(
        [Cancellation(turn_id=turn_id, requested_at=now) for turn_id in sorted(set(turn_ids))], ignore_conflicts=True
    )
    return [None] * len(turn_ids)


def find_cancellations(askers: Sequence[None]) -> list[list[str]]:
    """All turns with a requested cancellation: a handful at most."""
    return [list(Cancellation.objects.values_list("turn_id", flat=True))] * len(askers)


def abandon_turns(turn_ids: Sequence[str]) -> list[None]:
    """End turns of this process that no task runs: they were stored, but the answer to that was lost.

    Nothing was sent upstream. Their idempotency keys become free, because the clients learned that nothing had begun.
    """
    mine = Message.objects.filter(status=Message.Status.PENDING, runner=this_process(), turn_id__in=turn_ids)
    stored = list(mine.values_list("turn_id", flat=True))
    IdempotencyKey.objects.filter(turn_id__in=stored).delete()
    settle([Settlement(turn_id, 0, Decimal()) for turn_id in stored])
    mine.update(
        status=Message.Status.FAILED,
        error_code="database_unavailable",
        completed_at=timezone.now(),
        heartbeat_at=None,
    )
    return [None] * len(turn_ids)


def cancel_turns(turn_ids: Sequence[str]) -> list[bool]:
    """Mark turns as cancelled because the processes that run them did not react. Return whether they still ran."""
    pending = Message.objects.filter(status=Message.Status.PENDING)
    ended = {
        "status": Message.Status.CANCELLED,
        "finish_reason": "cancelled",
        "may_have_been_billed": True,
        "completed_at": timezone.now(),
        "heartbeat_at": None,
    }
    return [bool(pending.filter(turn_id=turn_id).update(**ended)) for turn_id in turn_ids]


def _create_sessions(turns: Sequence[NewTurn], now: datetime) -> dict[SessionKey, BegunTurn]:
    turns = sorted(turns, key=lambda turn: turn.session_key)  # one order everywhere prevents deadlocks
    created = Session.objects.bulk_create(
        Session(
            owner=turn.owner,
            session_id=turn.session_id,
            title=title_of(turn.question),
            model=turn.model or "",
            system_prompt=turn.default_system_prompt if turn.system_prompt is None else turn.system_prompt,
            persona_id=turn.persona_id or "",
            created_at=now,
            last_activity_at=now,
        )
        for turn in turns
    )
    return {
        turn.session_key: BegunTurn(session.pk, session.session_id, 1, session.model, session.system_prompt)
        for turn, session in zip(turns, created, strict=True)
    }


def _store_keys(turns: Sequence[tuple[NewTurn, BegunTurn]], now: datetime) -> None:
    """Store the turns' idempotency keys. Replace expired keys; retry if another process just stored one."""
    moment, cutoff = (connection.ops.adapt_datetimefield_value(value) for value in (now, oldest_key(now)))
    rows = [
        (turn.owner, turn.idempotency_key, turn.fingerprint, turn.turn_id, begun.session_pk, moment, cutoff)
        for turn, begun in sorted(turns, key=lambda pair: str(pair[0].owned_key))
    ]
    if not rows:
        return
    with connection.cursor() as cursor:
        cursor.executemany(
            f"INSERT INTO {KEYS} (owner, key, fingerprint, turn_id, session_id, created_at) "
            "VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (owner, key) DO UPDATE SET "
            "fingerprint = excluded.fingerprint, turn_id = excluded.turn_id, session_id = excluded.session_id, "
            f"created_at = excluded.created_at WHERE {KEYS}.created_at < %s",
            rows,
        )
        if cursor.rowcount != len(rows):
            raise RunSeparately


def _store_questions(turns: Sequence[tuple[NewTurn, BegunTurn]], now: datetime) -> None:
    if not turns:
        return
    moment = connection.ops.adapt_datetimefield_value(now)
    rows: list[Any] = []
    for turn, begun in turns:
        begun.model = turn.model or begun.model
        if turn.system_prompt is not None:  # "" removes the session's
            begun.system_prompt = turn.system_prompt
        else:
            begun.system_prompt = begun.system_prompt or turn.default_system_prompt
        shared = (begun.session_pk, turn.turn_id, moment)
        question = (begun.position - 1, "user", turn.question, "completed", json.dumps(turn.metadata), moment, "", None)
        reply = (begun.position, "assistant", "", "pending", "{}", None, this_process(), moment)
        rows += [shared + question, shared + reply]
    superseded = {turn.turn_id: _supersede(begun, now) for turn, begun in turns if turn.after_turn is not None}
    with connection.cursor() as cursor:
        cursor.executemany(
            f"INSERT INTO {MESSAGES} (session_id, turn_id, created_at, position, role, content, status, metadata, "
            "completed_at, runner, heartbeat_at) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            rows,
        )
    _advance_sessions(turns, superseded, moment)


def _advance_sessions(turns: Sequence[tuple[NewTurn, BegunTurn]], superseded: dict[str, int], moment: Any) -> None:
    with connection.cursor() as cursor:
        cursor.executemany(
            f"UPDATE {SESSIONS} SET last_activity_at = %s, message_count = %s, "
            "superseded_count = superseded_count + %s, model = COALESCE(%s, model), "
            "system_prompt = COALESCE(%s, system_prompt), persona_id = COALESCE(%s, persona_id) WHERE id = %s",
            [
                (
                    moment,
                    begun.position + 1,
                    superseded.get(turn.turn_id, 0),
                    turn.model,
                    turn.system_prompt,
                    turn.persona_id,
                    begun.session_pk,
                )
                for turn, begun in sorted(turns, key=lambda pair: pair[1].session_pk)
            ],
        )


def _supersede(begun: BegunTurn, now: datetime) -> int:
    """Take the messages after the followed turn out of the history. Return how many."""
    later = Message.objects.filter(session=begun.session_pk, position__gte=begun.history_end, superseded_at=None)
    return later.update(superseded_at=now)


def _outcome_row(outcome: Outcome) -> tuple[Any, ...]:
    values = (getattr(outcome, name) for name in OUTCOME_COLUMNS)
    ended_at = connection.ops.adapt_datetimefield_value(outcome.completed_at)
    metadata = json.dumps(outcome.metadata) if outcome.metadata else "{}"
    return (
        *values,
        _decimal(outcome.cost),
        metadata,
        ended_at,
        outcome.session_pk,
        outcome.position,
        this_process(),
        ended_at,
    )


def _status(session_pk: int, position: int) -> str | None:
    return Message.objects.filter(session=session_pk, position=position).values_list("status", flat=True).first()


def _decimal(value: Decimal | None) -> Any:
    return connection.ops.adapt_decimalfield_value(value, max_digits=20, decimal_places=12)

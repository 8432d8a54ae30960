"""Reads of the record for turns: a few statements for any number of them (see writer.py)."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from itertools import accumulate
from typing import Any

from django.conf import settings
from django.db import connection
from django.db.models import Max
from django.db.models.functions import Length
from django.utils import timezone

from sessions_api.models import IdempotencyKey, Message, Session
from sessions_api.store.messages import (
    BegunTurn,
    NewTurn,
    PastMessage,
    SessionBusy,
    SessionKey,
    TooManySuperseded,
    TurnNotFound,
    UsedIdempotencyKey,
)
from web.moments import utc

# Messages that one turn may supersede, and their characters: all turns of the process wait for it.
MAX_SUPERSEDED_AT_ONCE, MAX_CHARS_AT_ONCE = 2_000, 10_000_000
MAX_SUPERSEDED = 20_000  # superseded messages of a session: each of its turns has to read past them
SESSIONS = Session._meta.db_table
MESSAGES = Message._meta.db_table
KEYS = IdempotencyKey._meta.db_table


def find_keys(turns: Sequence[NewTurn]) -> list[UsedIdempotencyKey | None]:
    """The earlier use of each turn's idempotency key; `None` for a new key, or none."""
    keys = {turn.owned_key for turn in turns if turn.owned_key}
    cutoff = oldest_key(timezone.now())
    columns = "k.owner, k.key, k.turn_id, k.fingerprint, k.created_at"
    used = {
        (owner, key): UsedIdempotencyKey(turn_id, fingerprint)
        for owner, key, turn_id, fingerprint, created_at in _select_per_pair(
            columns, f"JOIN {KEYS} k ON k.owner = v.column1 AND k.key = v.column2", keys
        )
        if utc(created_at) >= cutoff
    }
    return [used.get(turn.owned_key) if turn.owned_key else None for turn in turns]


def find_sessions(turns: Iterable[NewTurn]) -> tuple[dict[SessionKey, BegunTurn], dict[SessionKey, SessionBusy]]:
    """The turns' open sessions, ready for the next turn, and those that have an unfinished one."""
    keys = {turn.session_key for turn in turns}
    own = {turn.turn_id for turn in turns}
    known: dict[SessionKey, BegunTurn] = {}
    busy: dict[SessionKey, SessionBusy] = {}
    for pk, owner, session_id, model, system_prompt, count, superseded, turn_id, heartbeat_at in _select_per_pair(
        "s.id, s.owner, s.session_id, s.model, s.system_prompt, s.message_count, s.superseded_count, "
        "p.turn_id, p.heartbeat_at",
        f"JOIN {SESSIONS} s ON s.owner = v.column1 AND s.session_id = v.column2 AND s.closed_at IS NULL "
        f"LEFT JOIN {MESSAGES} p ON p.session_id = s.id AND p.status = 'pending'",
        keys,
    ):
        key = (owner, session_id)
        known[key] = BegunTurn(pk, session_id, count + 1, model, system_prompt, superseded)
        if turn_id is not None:
            busy[key] = SessionBusy(turn_id, utc(heartbeat_at))
        if turn_id in own:  # this turn's own rows; the answer to their commit was lost
            known[key].position -= 2
        known[key].history_end = known[key].position - 1
    return known, busy


def find_history_ends(
    turns: Sequence[NewTurn], known: dict[SessionKey, BegunTurn]
) -> dict[str, TurnNotFound | TooManySuperseded]:
    """Set where the history ends for turns that name the turn they follow. Return the turns that can't begin."""
    missing: dict[str, TurnNotFound | TooManySuperseded] = {}
    for turn in turns:
        begun = known.get(turn.session_key)
        if turn.after_turn is None or (begun is None and not turn.after_turn):
            continue
        end = _end_of(begun.session_pk, turn.after_turn) if begun else None
        if begun is None or end is None:
            missing[turn.turn_id] = TurnNotFound()
        elif begun.superseded > MAX_SUPERSEDED or _are_too_many(begun, end):
            missing[turn.turn_id] = TooManySuperseded()
        else:
            past = Message.objects.filter(session=begun.session_pk, position__lt=end)
            begun.history_end, begun.superseded = end, past.exclude(superseded_at=None).count()
    return missing


def _are_too_many(begun: BegunTurn, end: int) -> bool:
    """Whether one turn may not supersede all messages from position `end` on."""
    if begun.position - 1 - end > MAX_SUPERSEDED_AT_ONCE:
        return True
    later = Message.objects.filter(session=begun.session_pk, position__gte=end, superseded_at=None).order_by("position")
    lengths = later.values_list(Length("content"), flat=True).iterator(chunk_size=100)
    return any(length > MAX_CHARS_AT_ONCE for length in accumulate(lengths))


def _end_of(session_pk: int, turn_id: str) -> int | None:
    """The position after a turn of the conversation, 0 for its start; `None` if there is no such turn."""
    if not turn_id:
        return 0
    messages = Message.objects.filter(session=session_pk, turn_id=turn_id, superseded_at=None)
    last: int | None = messages.aggregate(last=Max("position"))["last"]
    return None if last is None else last + 1


def read_histories(turns: Sequence[tuple[NewTurn, BegunTurn]]) -> None:
    """Read the history before each question."""
    by_pk = {begun.session_pk: begun for _, begun in turns}
    for pk, position, *message in _select_per_pair(
        "m.session_id, m.position, m.turn_id, m.role, m.content, m.status, m.finish_reason, m.error_code",
        f"JOIN {MESSAGES} m ON m.session_id = v.column1 AND m.position >= v.column2 AND m.superseded_at IS NULL "
        "ORDER BY m.session_id, m.position",
        {
            (begun.session_pk, max(0, begun.history_end - begun.superseded - turn.history_limit))
            for turn, begun in turns
            if begun.history_end > 0
        },
    ):
        if position < by_pk[pk].history_end:
            by_pk[pk].history.append(PastMessage(*message))
    for turn, begun in turns:
        del begun.history[: -turn.history_limit]  # few are superseded, so more were read than needed
        begun.unread = begun.history_end - begun.superseded - len(begun.history)


def _select_per_pair(columns: str, joined: str, pairs: Iterable[tuple[Any, Any]]) -> list[tuple[Any, ...]]:
    """The rows that a join finds for all pairs; its SQL calls them v.column1 and v.column2."""
    pairs = list(pairs)
    if not pairs:
        return []
    values = ", ".join(["(%s, %s)"] * len(pairs))
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT {columns} FROM (VALUES {values}) AS v {joined}",
            [value for pair in pairs for value in pair],
        )
        return list(cursor.fetchall())


def oldest_key(now: datetime) -> datetime:
    """The age at which idempotency keys expire, as a moment. No key expires while its turn may run."""
    longest_turn = timedelta(seconds=settings.TURN_DEADLINE_SECONDS + settings.TURN_LEASE_SECONDS)
    return now - max(timedelta(hours=settings.IDEMPOTENCY_HOURS), longest_turn)


def find_replies(turns: Sequence[tuple[str, str]]) -> list[Message | None]:
    """The replies of turns, named by owner and turn id; `None` where the owner has no such turn.

    Includes closed sessions.
    """
    replies = Message.objects.filter(
        turn_id__in=[turn_id for _, turn_id in turns], role=Message.Role.ASSISTANT
    ).select_related("session")
    found = {(reply.session.owner, reply.turn_id): reply for reply in replies}
    return [found.get(turn) for turn in turns]


def find_models(sessions: Sequence[tuple[str, str]]) -> list[str]:
    """The models of open sessions, named by owner and session id; empty if there is none."""
    ids = [session_id for _, session_id in sessions]
    rows = Session.objects.filter(session_id__in=ids, closed_at=None).values_list("owner", "session_id", "model")
    found = {(owner, session_id): model for owner, session_id, model in rows}
    return [found.get(session, "") for session in sessions]

"""Conversations for process mining: cases, and events with a start and an end."""

import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from sessions_api.exports.reading import Conversation, Said
from sessions_api.exports.writing import ExportOptions
from sessions_api.models import Message, Session
from web.moments import utc

MILLISECONDS_FROM = 1e11  # as seconds, this is in the year 5138
A_YEAR = timedelta(days=366)  # no reply takes longer, so no event runs past datetime's last year
FIRST = datetime(1, 1, 1, tzinfo=UTC) + A_YEAR
LAST = datetime.max.replace(tzinfo=UTC) - A_YEAR

# A stable vocabulary (docs/research.md). A running reply is no event yet.
QUESTION = "Cliente envia mensagem"
OTHER = "Sistema envia mensagem"
REPLIES = {
    Message.Status.COMPLETED: "BancoBot responde",
    Message.Status.CANCELLED: "Resposta cancelada",
    Message.Status.FAILED: "Resposta falha",
    Message.Status.INTERRUPTED: "Resposta interrompida",
}
CUSTOMER, BOT, SYSTEM = "cliente", "bot", "sistema"


class Event(NamedTuple):
    """`agent` is the kind of actor, `resource` the actor. `ended_well`: not cancelled, failed or interrupted."""

    case_id: str
    event_id: str
    activity: str
    start: datetime
    end: datetime
    resource: str
    agent: str
    ended_well: bool
    said: Said


def events(conversation: Conversation, options: ExportOptions) -> Iterator[Event]:
    """An event for each message, in their order, except messages without a place on the clock."""
    clock = SimulatedClock() if options.simulated else RealClock()
    for said in conversation.messages:
        start = clock.moment_of(said.message)
        if start is None or said.message.status == Message.Status.PENDING:
            options.counts.messages_left_out += 1
            continue
        yield _event(conversation, said, start)


def _event(conversation: Conversation, said: Said, start: datetime) -> Event:
    message = said.message
    activity, agent, resource = _who_does_what(conversation.session, message)
    took = max((message.completed_at or message.created_at) - message.created_at, timedelta())
    ended_well = message.status == Message.Status.COMPLETED
    return Event(
        conversation.case_id, message.public_id, activity, start, start + min(took, A_YEAR), resource, agent,
        ended_well, said,
    )  # fmt: skip


def _who_does_what(session: Session, message: Message) -> tuple[str, str, str]:
    """Activity, agent and resource."""
    if message.role == Message.Role.USER:
        return QUESTION, CUSTOMER, session.persona_id or CUSTOMER
    if message.role == Message.Role.ASSISTANT:
        return REPLIES[Message.Status(message.status)], BOT, message.model or session.model or BOT
    return OTHER, SYSTEM, SYSTEM


class RealClock:
    def moment_of(self, message: Message) -> datetime | None:
        """When the event began. `None`: it has no place on this clock."""
        return _in_bounds(message.created_at, timedelta())


class SimulatedClock(RealClock):
    """A question happens when its client says. What follows keeps its real distance to the question.

    So replies take their real time, and a question without a moment of its own follows the earlier ones.
    """

    def __init__(self) -> None:
        self._shift: timedelta | None = None

    def moment_of(self, message: Message) -> datetime | None:
        """`None`: no question has named its moment yet, or this one would be out of bounds."""
        told = simulated_moment(message.metadata)
        if told is not None:
            self._shift = told - message.created_at
        return None if self._shift is None else _in_bounds(message.created_at, self._shift)


def _in_bounds(moment: datetime, shift: timedelta) -> datetime | None:
    try:
        shifted = moment + shift
    except OverflowError:
        return None
    return shifted if FIRST <= shifted <= LAST else None


def simulated_moment(metadata: Any) -> datetime | None:
    """`timing_metadata.simulated_timestamp` of a question's metadata, if it is a moment.

    It is ISO 8601 (in UTC unless it names a zone), or seconds or milliseconds since 1970, as a number or a text.
    """
    timing = metadata.get("timing_metadata") if isinstance(metadata, dict) else None
    told = timing.get("simulated_timestamp") if isinstance(timing, dict) else None
    try:
        when = _moment(told)
    except (ValueError, OverflowError, OSError):
        return None
    return when if when is not None and FIRST <= when <= LAST else None


def _moment(told: Any) -> datetime | None:
    if isinstance(told, bool) or not isinstance(told, int | float | str):
        return None
    try:
        seconds = float(told)
    except ValueError:
        return utc(datetime.fromisoformat(str(told).strip()))
    if not math.isfinite(seconds):
        return None
    return datetime.fromtimestamp(seconds / 1000 if abs(seconds) >= MILLISECONDS_FROM else seconds, UTC)

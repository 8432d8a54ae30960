"""Questions to the record that the event loop asks through the writer, in sets (see writer.py)."""

from collections.abc import Sequence

from sessions_api.models import Message, Session


def find_replies(turns: Sequence[tuple[str, str]]) -> list[Message | None]:
    """The replies of turns that are named by owner and turn id; `None` where the owner has no such turn.

    Those of closed sessions are among them.
    """
    replies = Message.objects.filter(
        turn_id__in=[turn_id for _, turn_id in turns], role=Message.Role.ASSISTANT
    ).select_related("session")
    found = {(reply.session.owner, reply.turn_id): reply for reply in replies}
    return [found.get(turn) for turn in turns]


def find_models(sessions: Sequence[tuple[str, str]]) -> list[str]:
    """The models that sessions, named by owner and session id, remember; empty where there is none."""
    ids = [session_id for _, session_id in sessions]
    rows = Session.objects.filter(session_id__in=ids, closed_at=None).values_list("owner", "session_id", "model")
    found = {(owner, session_id): model for owner, session_id, model in rows}
    return [found.get(session, "") for session in sessions]

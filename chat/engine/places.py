"""The places of a process: how many turns it takes at once, and how many of them an owner and a session may hold."""

from collections import Counter

from django.conf import settings

from chat.engine.turn import Turn
from sessions_api.store.messages import NewTurn
from web.errors import ApiError

MAX_WAITING = 32  # turns of a session that have not begun
KEPT = 10  # one in so many places is kept for owners who hold few
FEW = 100  # an owner holds few with at most one place, or one in so many


class Places:
    """Counts the turns that run or wait. All that is asked here is answered at once, without the database."""

    def __init__(self) -> None:
        self._taken = 0
        self._owners: Counter[str] = Counter()
        self._waiting: Counter[tuple[str, str]] = Counter()

    def refusal(self, new: NewTurn, turns_in_flight: int) -> ApiError | None:
        """Why this turn gets no place now; `None` where it does. `turns_in_flight`: its owner's limit, or 0."""
        places, holds = settings.MAX_TURNS_IN_FLIGHT, self._owners[new.owner]
        if self._waiting[new.session_key] >= MAX_WAITING:
            return ApiError("session_busy", retry_after=1)
        if turns_in_flight and holds >= turns_in_flight + places // 4:  # most of them wait
            return ApiError("rate_limited", detail_code="turns_in_flight", retry_after=1, limit="turns_in_flight")
        free = places - self._taken
        if free <= 0 or (free <= places // KEPT and holds > max(1, places // FEW)):
            return ApiError("overloaded", retry_after=1)
        return None

    def take(self, turn: Turn) -> None:
        """Until `leave`, and until the turn has begun in the line of its session."""
        self._taken += 1
        self._owners[turn.new.owner] += 1
        session = turn.new.session_key
        self._waiting[session] += 1
        turn.started.add_done_callback(lambda _: _remove(self._waiting, session))

    def leave(self, turn: Turn) -> None:
        self._taken -= 1
        _remove(self._owners, turn.new.owner)


def _remove(counter: Counter, one: object) -> None:
    """Without a trace of what has no count any more."""
    counter[one] -= 1
    if not counter[one]:
        del counter[one]

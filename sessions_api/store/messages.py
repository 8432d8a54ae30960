"""The values that a turn and the store exchange: the new turn, and the answer to it."""

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from access.budgets import Quote, Settlement
from access.callers import Limits

BYTES_PER_TOKEN = 3
TOKENS_PER_MESSAGE = 6  # role and separators

SessionKey = tuple[str, str]  # owner and session id


def token_bound(text: str) -> int:
    """An upper bound of a message's tokens that nearly always holds: a Portuguese token has four bytes or more."""
    return len(text.encode()) // BYTES_PER_TOKEN + TOKENS_PER_MESSAGE


@dataclass(frozen=True, slots=True)
class NewTurn:
    """A question to answer. `None` for model, system prompt and persona means: use the session's.

    `default_system_prompt` applies to a session without a system prompt; a new session keeps it. `history_limit`: the
    most earlier messages to read. `fingerprint` identifies the request that an `idempotency_key` belongs to. `quote`:
    the owner's limits on usage, if any; `storage_limits`: those on what it stores. `after_turn`: the turn that this one
    follows, empty for the conversation's start; later turns are superseded. `None`: append to the end.
    """

    owner: str
    session_id: str
    turn_id: str
    question: str
    model: str | None = None
    system_prompt: str | None = None
    default_system_prompt: str = ""
    persona_id: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    history_limit: int = 100
    idempotency_key: str | None = None
    fingerprint: str = ""
    quote: Quote | None = None
    storage_limits: Limits | None = None
    after_turn: str | None = None

    @property
    def session_key(self) -> SessionKey:
        return self.owner, self.session_id

    @property
    def owned_key(self) -> tuple[str, str] | None:
        return None if self.idempotency_key is None else (self.owner, self.idempotency_key)


class PastMessage(NamedTuple):
    """A message of the history. (A tuple, because a turn reads dozens.)"""

    turn_id: str
    role: str
    content: str
    status: str
    finish_reason: str = ""
    error_code: str = ""


@dataclass(slots=True)
class BegunTurn:
    """A stored question, and its pending reply at `position`.

    `history`: the messages before the question, oldest first, without superseded ones. It ends before position
    `history_end`. `unread`: how many older messages were not read. `superseded`: how many were left out.
    """

    session_pk: int
    session_id: str
    position: int
    model: str
    system_prompt: str
    superseded: int = 0
    history: list[PastMessage] = field(default_factory=list)
    unread: int = 0
    history_end: int = 0


@dataclass(frozen=True, slots=True)
class SessionBusy:
    """The session has another unfinished turn. If its heartbeat is old, it is dead."""

    turn_id: str
    heartbeat_at: datetime


@dataclass(frozen=True, slots=True)
class TurnNotFound:
    """The session has no turn with that id to follow, or it has been superseded."""


@dataclass(frozen=True, slots=True)
class TooManySuperseded:
    """The turn would supersede too many messages for one transaction."""


@dataclass(frozen=True, slots=True)
class UsedIdempotencyKey:
    """The idempotency key was used before, for this turn."""

    turn_id: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class TurnProgress:
    """The text of a running turn so far; `None`: only a sign that it runs."""

    session_pk: int
    position: int
    content: str | None


@dataclass(frozen=True, slots=True)
class Title:
    """A title from a model, which replaces `instead_of`; empty if the model gave no usable one.

    With its usage in tokens and USD; for an owner with limits also as a `settlement`.
    """

    session_pk: int
    instead_of: str
    title: str
    prompt_tokens: int
    completion_tokens: int
    cost: Decimal
    owner: str = ""
    settlement: Settlement | None = None

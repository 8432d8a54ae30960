"""What passes between a turn and the store: what it asks for, what it is given, how it ended."""

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from django.utils import timezone

from access.budgets import Quote, Settlement

BYTES_PER_TOKEN = 3
TOKENS_PER_MESSAGE = 6  # role and separators

SessionKey = tuple[str, str]  # owner and session id


def token_bound(text: str) -> int:
    """Tokens that a message takes at the most, nearly always: Portuguese has four bytes and more in a token."""
    return len(text.encode()) // BYTES_PER_TOKEN + TOKENS_PER_MESSAGE


@dataclass(frozen=True, slots=True)
class NewTurn:
    """A question that wants a reply. `None` for model, system prompt and persona means: as the session has it.

    `default_system_prompt` serves a session that has none, and a new one keeps it. `history_limit`: how many earlier
    messages to read at the most. With an `idempotency_key`, `fingerprint` is what tells this request from others.
    `quote`: the owner's limits, where there are any. `after_turn`: the turn that this one follows, empty for the
    conversation's start; what came after that is superseded. `None`: it goes on at the end.
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
    after_turn: str | None = None

    @property
    def session_key(self) -> SessionKey:
        return self.owner, self.session_id

    @property
    def owned_key(self) -> tuple[str, str] | None:
        return None if self.idempotency_key is None else (self.owner, self.idempotency_key)


class PastMessage(NamedTuple):
    """A message of the history. (A tuple, since a turn reads dozens.)"""

    turn_id: str
    role: str
    content: str
    status: str


@dataclass(slots=True)
class BegunTurn:
    """A stored question and its pending reply, which stands at `position`.

    `history` is what came before the question, oldest first, without what was superseded; `unread` says how many
    messages are older still. It ends before position `history_end`, and `superseded` messages of that are left out.
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
    """The session has another unfinished turn; one whose heartbeat is old is dead."""

    turn_id: str
    heartbeat_at: datetime


@dataclass(frozen=True, slots=True)
class TurnNotFound:
    """The session has no turn to follow with that id, or not any more: it has been superseded."""


@dataclass(frozen=True, slots=True)
class TooManySuperseded:
    """More would be superseded than one transaction should."""


@dataclass(frozen=True, slots=True)
class UsedIdempotencyKey:
    """The idempotency key has been used before, by that turn."""

    turn_id: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class TurnProgress:
    """The text of a running turn so far."""

    session_pk: int
    position: int
    content: str


@dataclass(frozen=True, slots=True)
class Title:
    """What a model calls a conversation, in the place of `instead_of`; empty where it had no good idea.

    And what that took: tokens and USD; for an owner with limits also as a `settlement`.
    """

    session_pk: int
    instead_of: str
    title: str
    prompt_tokens: int
    completion_tokens: int
    cost: Decimal
    owner: str = ""
    settlement: Settlement | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a turn ended: what becomes of its pending reply. The fields are Message's."""

    session_pk: int
    position: int
    content: str
    status: str
    completed_at: datetime = field(default_factory=timezone.now)
    model: str = ""
    provider: str = ""
    generation_id: str = ""
    finish_reason: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    usage_estimated: bool = False
    cost: Decimal | None = None
    first_token_ms: int | None = None
    latency_ms: int | None = None
    history_omitted: int = 0
    error_code: str = ""
    may_have_been_billed: bool = False
    settlement: Settlement | None = None  # where the turn was begun on quote

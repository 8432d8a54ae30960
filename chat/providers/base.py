"""What every provider speaks: messages in, pieces out, one error type. Knows nothing of Django."""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple

CHARACTERS_PER_TOKEN = 4  # the usual rule of thumb for European languages


def estimate_tokens(text: str) -> int:
    """Roughly how many tokens `text` is, where nobody counted them: one per four characters, rounded up."""
    return -(-len(text) // CHARACTERS_PER_TOKEN)


class ChatMessage(NamedTuple):
    """One message of the history as it goes upstream; `role` is system, user, assistant or tool."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Options:
    """How to answer. `None` leaves a choice to the provider.

    `api_key` is the caller's own key, used instead of the server's for this request alone; it is in no `repr`.
    `session_id` is an opaque id that is the same for every turn of a conversation (OpenRouter: sticky routing).
    """

    model: str
    temperature: float | None = None
    max_tokens: int | None = None
    session_id: str | None = None
    api_key: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Usage:
    """What a reply took. `cost` is USD, exact; `None` where the provider names no price.

    `estimated` is true where the provider sent no counts and `estimate_tokens` made them.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    cost: Decimal | None = None
    estimated: bool = False


class Piece(NamedTuple):
    """A part of a reply. Any field may be empty; text arrives in order, the rest whenever it is known.

    A reply is complete when a piece with a `finish_reason` has come and the stream has ended; `usage` comes once, at
    the latest in the last piece.
    """

    text: str = ""
    finish_reason: str | None = None
    usage: Usage | None = None
    model: str | None = None
    provider: str | None = None
    generation_id: str | None = None


class ProviderError(Exception):
    """The only error that leaves a provider.

    `code` is one of the wire contract's machine-readable codes; `detail` says for the log what happened and holds
    neither keys, nor message text, nor the provider's own words. `retryable`: the same request may work later.
    `retry_after`: seconds, where the provider said so. `may_have_been_billed`: the request had been sent.
    """

    def __init__(
        self,
        code: str,
        detail: str = "",
        *,
        retryable: bool = False,
        retry_after: float | None = None,
        may_have_been_billed: bool = False,
    ) -> None:
        super().__init__(f"{code}: {detail}" if detail else code)
        self.code = code
        self.detail = detail
        self.retryable = retryable
        self.retry_after = retry_after
        self.may_have_been_billed = may_have_been_billed


class Provider(ABC):
    """A source of replies. One instance serves the whole process; it is made when the event loop runs."""

    name: str
    default_model: str
    entitles = True  # whether its models can be asked for a conversation's title

    @abstractmethod
    def stream(self, messages: Sequence[ChatMessage], options: Options) -> AsyncGenerator[Piece]:
        """The reply to `messages`, piece by piece, to the end; raises `ProviderError` alone.

        Closing the iterator early closes the connection upstream.
        """

    @abstractmethod
    async def models(self, api_key: str | None = None) -> list[dict[str, Any]]:
        """The models on offer, as the provider lists them (each has at least `id`); raises `ProviderError` alone.

        `api_key` is the caller's own, for a server that has none.
        """

    def try_acquire(self) -> float:
        """Seconds until the provider may be asked again, after it failed too often; 0.0 where it may be asked now.

        For whoever would rather refuse a turn than begin it: `stream` and `models` look for themselves.
        """
        return 0.0

    def release(self) -> None:
        """After `try_acquire`: the turn was not begun."""

    @property
    def is_down(self) -> bool:
        """Whether it has failed too often, and has not been seen to answer since. Lets nobody in."""
        return False

    async def aclose(self) -> None:
        """Let go of the connections."""

"""The interface of a provider: messages in, pieces out, one error type. Knows nothing of Django."""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple

CHARACTERS_PER_TOKEN = 4  # the usual rule of thumb for European languages


def estimate_tokens(text: str) -> int:
    """About how many tokens `text` has, where the provider did not count: one per four characters, rounded up."""
    return -(-len(text) // CHARACTERS_PER_TOKEN)


class ChatMessage(NamedTuple):
    """One message of the history as the provider gets it; `role` is system, user, assistant or tool."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Options:
    """How to answer. `None` leaves a choice to the provider.

    `api_key` is the caller's own key. It replaces the server's for this request alone, and no `repr` shows it.
    `session_id` is opaque and the same for all turns of a conversation (OpenRouter: sticky routing). `has_fallback`:
    another model will be asked where this one does not accept the request, so a long wait for it is not worth it.
    """

    model: str
    temperature: float | None = None
    max_tokens: int | None = None
    session_id: str | None = None
    api_key: str | None = field(default=None, repr=False)
    has_fallback: bool = False


@dataclass(frozen=True, slots=True)
class Usage:
    """What a reply used. `cost` is in USD, exact; `None` where the provider names no price.

    `estimated` is true where the provider sent no counts, so that `estimate_tokens` made them.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    cost: Decimal | None = None
    estimated: bool = False


class Piece(NamedTuple):
    """A part of a reply. Any field may be empty. Text arrives in order, the rest as soon as it is known.

    A reply is complete when a piece had a `finish_reason` and the stream has ended. `usage` comes once, with the last
    piece at the latest. `left_out`: parameters that the model refused, so that it was asked without them.
    """

    text: str = ""
    finish_reason: str | None = None
    usage: Usage | None = None
    model: str | None = None
    provider: str | None = None
    generation_id: str | None = None
    left_out: tuple[str, ...] = ()


class ProviderError(Exception):
    """The only error that leaves a provider.

    `code` is one of the API's error codes. `detail` tells the log what happened; it holds no keys, no message text and
    none of the provider's own words. `retryable`: the same request may work later. `retry_after`: seconds, where the
    provider named them. `may_have_been_billed`: the request had been sent.
    `parameters`: the request's own, where the provider refused them by name. `refused_for`: "parameter" where it never
    takes them, "value" where another value may do, "" where that is not clear. `finish_reason`: where the reply has one
    although it failed. `connected` is false where no connection came about, so that the provider as a whole is down.
    """

    def __init__(
        self,
        code: str,
        detail: str = "",
        *,
        retryable: bool = False,
        retry_after: float | None = None,
        may_have_been_billed: bool = False,
        parameters: tuple[str, ...] = (),
        refused_for: str = "",
        finish_reason: str | None = None,
        connected: bool = True,
    ) -> None:
        super().__init__(f"{code}: {detail}" if detail else code)
        self.code = code
        self.detail = detail
        self.retryable = retryable
        self.retry_after = retry_after
        self.may_have_been_billed = may_have_been_billed
        self.parameters = parameters
        self.refused_for = refused_for
        self.finish_reason = finish_reason
        self.connected = connected


class Provider(ABC):
    """A source of replies. One instance serves the whole process. It is made while the event loop runs."""

    name: str
    default_model: str
    gives_titles = True  # whether its models can give a conversation a title

    @abstractmethod
    def stream(self, messages: Sequence[ChatMessage], options: Options) -> AsyncGenerator[Piece]:
        """The reply to `messages`, piece by piece to the end. Raises nothing but `ProviderError`.

        To close the iterator early is to close the connection to the provider.
        """

    @abstractmethod
    async def models(self, api_key: str | None = None) -> list[dict[str, Any]]:
        """The models as the provider lists them; each has at least `id`. Raises nothing but `ProviderError`.

        `api_key` is the caller's own; without it the server's goes, if there is one.
        """

    def try_acquire(self, model: str = "", api_key: str | None = None) -> float:
        """Seconds until the provider may be asked again after too many failures; 0.0 where it may be asked now.

        Without a model: whether anybody can reach it. With one: whether this model answers to this key; `None` is the
        server's. For callers that want to refuse a turn before it begins. `stream` and `models` check by themselves.
        """
        return 0.0

    def release(self, model: str = "", api_key: str | None = None) -> None:
        """After `try_acquire` with the same arguments: the turn did not begin."""

    @property
    def is_down(self) -> bool:
        """Whether it could not be reached too often, and has not been since."""
        return False

    @property
    def refuses_models(self) -> bool:
        """Whether `try_acquire` may refuse a model now: otherwise nobody need find out which one it is."""
        return False

    @property
    def failing_models(self) -> frozenset[str]:
        """Models that failed too often with some key, and have not answered to it since."""
        return frozenset()

    async def aclose(self) -> None:
        """Close the connections."""

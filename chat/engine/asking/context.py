"""Chooses the part of the history that the provider gets: what can be sent at all, and as much of it as fits."""

import re
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from chat.engine.asking.catalogue import ModelLimits
from chat.providers.base import ChatMessage, ProviderError
from chat.providers.replies.reasons import is_filter
from sessions_api.store.messages import PastMessage, token_bound

TOO_LONG = "context_length_exceeded"
TOO_LARGE = "HTTP 413"  # as details begin
REFUSALS = {"invalid_request", "content_moderated", "permission_denied", "provider_error"}  # of what a request holds
LEAST_REPLY = 16  # tokens, where the question alone seems to fill the context: the count is only an estimate
LEARNED_SECONDS = 3600.0
MAX_LEARNED = 10_000  # sessions

# Letters, digits, signs: what is neither white space nor invisible (formats, fillers, joiners, variation selectors).
VISIBLE = re.compile(
    r"[^\s\x00-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    r"\u2060-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e0fff]"
)
THOUGHTS = re.compile(r"\s*<(think(?:ing)?)>(?:.*?</\1>|.*)", re.DOTALL | re.IGNORECASE)


Key = tuple[int, str]  # a session's primary key, and a model


class Pair(NamedTuple):
    """A question and its reply, as the provider gets them. They were so many `messages` of the history."""

    question: str
    reply: str
    messages: int


class Fitted(NamedTuple):
    """What is sent, and a reply's most tokens. `omitted`: how many messages of the history had no room.

    `past`: the tokens of the history that is sent; `fixed`: those of the system prompt and the question.
    """

    messages: list[ChatMessage]
    max_tokens: int
    omitted: int
    past: int
    fixed: int


def fit(
    history: Sequence[PastMessage],
    system_prompt: str,
    question: str,
    limits: ModelLimits,
    max_tokens: int,
    most_past: int | None = None,
) -> Fitted:
    """The messages for a model.

    The system prompt and the question always go. Of the history, as many of the newest questions with their replies go
    as fit beside a reply of `max_tokens`, or of half the context if that is less, and have no more than `most_past`
    tokens. The reply may then have `max_tokens`, or what is left.
    """
    pairs, omitted = sendable(history)
    system = [ChatMessage("system", system_prompt)] if VISIBLE.search(system_prompt) else []
    fixed = token_bound(system_prompt) + token_bound(question)
    room = limits.context - fixed - min(max_tokens, limits.context // 2)
    budget = room if most_past is None else min(room, most_past)
    past = 0
    kept: list[Pair] = []
    for pair in reversed(pairs):
        cost = token_bound(pair.question) + token_bound(pair.reply)
        budget -= cost
        if budget < 0:
            omitted += pair.messages
        else:
            kept.append(pair)
            past += cost
    messages = [*system]
    for pair in reversed(kept):
        messages += (ChatMessage("user", pair.question), ChatMessage("assistant", pair.reply))
    messages.append(ChatMessage("user", question))
    return Fitted(messages, min(max_tokens, _room_for_reply(limits, fixed, past)), omitted, past, fixed)


def _room_for_reply(limits: ModelLimits, fixed: int, past: int) -> int:
    """The tokens that the context leaves.

    Texts are counted high. So where a question seems to leave nothing, half of what it leaves at four bytes a token
    counts; and a context that is only assumed leaves a quarter of it whatever the question.
    """
    at_least = LEAST_REPLY if limits.is_listed else max(LEAST_REPLY, limits.context // 4)
    return max(limits.context - fixed - past, (limits.context - fixed * 3 // 4) // 2, at_least)


def fit_less(before: Fitted, history: Sequence[PastMessage], system_prompt: str, question: str) -> Fitted:
    """What to send after `before` was too long: with half of its history at the most."""
    less = halved(before)
    return fit(history, system_prompt, question, less, less.reply, before.past // 2)


def halved(fitted: Fitted) -> ModelLimits:
    """With half of its history. The reply gets less only where it was a large part of what was too long."""
    past = fitted.past // 2
    reply = min(fitted.max_tokens, max(past, fitted.max_tokens // 2))
    return ModelLimits(fitted.fixed + past + reply, reply, is_listed=False)


def sendable(history: Sequence[PastMessage]) -> tuple[list[Pair], int]:
    """Questions with their replies, oldest first, and how many replies stand before the first question.

    What a provider would refuse is left out, and the question with its reply: replies that are blank, that a filter
    ended, or that failed without text. In a history of another origin, messages of one role in a row become one, and
    those of the roles system and tool are left out.
    """
    turns: list[tuple[list[PastMessage], list[PastMessage]]] = [([], [])]
    questions, replies = turns[0]
    for message in history:
        if message.role == "assistant":
            replies.append(message)
        elif message.role == "user":
            if replies:
                questions, replies = [], []
                turns.append((questions, replies))
            questions.append(message)
    early = 0
    if not turns[0][0]:  # the question was not read, or there was none
        early = len(turns.pop(0)[1])
    return [pair for asked, answers in turns if (pair := _pair(asked, answers))], early


def _pair(questions: Sequence[PastMessage], replies: Sequence[PastMessage]) -> Pair | None:
    if len(questions) == len(replies) == 1:  # as nearly always
        (question,), (reply,) = questions, replies
        sent = not is_filtered(reply) and is_visible(question.content) and not is_blank(reply.content)
        return Pair(question.content, reply.content, 2) if sent else None
    if any(map(is_filtered, replies)):
        return None
    asked = [message.content for message in questions if VISIBLE.search(message.content)]
    said = [message.content for message in replies if not is_blank(message.content)]
    return Pair("\n\n".join(asked), "\n\n".join(said), len(questions) + len(replies)) if asked and said else None


def _begins_with_a_letter(text: str) -> bool:
    """Nearly always, and quicker to find out. (Some letters beyond ASCII are fillers.)"""
    return text[:1].isascii() and text[:1].isalnum()


def is_visible(text: str) -> bool:
    """Whether there is anything to read in it."""
    return _begins_with_a_letter(text) or VISIBLE.search(text) is not None


def is_blank(reply: str) -> bool:
    """Whether a reply has nothing to read: no text, only invisible characters, or only what the model thought."""
    if _begins_with_a_letter(reply):
        return False
    start = 0
    if "<" in reply[:64]:
        while thought := THOUGHTS.match(reply, start):
            start = thought.end()
    return VISIBLE.search(reply, start) is None


def is_filtered(message: PastMessage) -> bool:
    """Whether a filter ended the reply. It would refuse the question again, and all that follows it."""
    if message.finish_reason == "stop":
        return False
    filtered = is_filter(message.finish_reason)
    return filtered or message.error_code == "content_moderated"


class Learned(NamedTuple):
    """What may be sent of a session until then: within the context, and `past` tokens of its history if it is set."""

    context: int
    until: float
    past: int | None


class LearnedContexts:
    """What the histories of this process's sessions may have, in tokens as counted here, after one was refused.

    The texts of a session decide how far the count is off. So what one session brought about concerns no other.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: dict[Key, Learned] = {}
        self._refused: dict[Key, int] = {}  # how often in a row

    def limit(self, key: Key, limits: ModelLimits) -> ModelLimits:
        """The model's limits for a session."""
        known = self._lately(key)
        if known is None or known.context >= limits.context:
            return limits
        return ModelLimits(known.context, min(limits.reply, known.context), is_listed=False)

    def most_past(self, key: Key) -> int | None:
        """The most tokens that a session's history may have, besides what fits."""
        known = self._lately(key)
        return known.past if known else None

    def _lately(self, key: Key) -> Learned | None:
        known = self._known.get(key)
        return known if known and self._clock() < known.until else None

    def refused(self, key: Key, failure: ProviderError, fitted: Fitted) -> bool:
        """Whether the history was too long. The next one then gets half of this one's room.

        So it does where the request was too large (413), and from the second time in a row on that a request was
        refused for what it holds: maybe something in its history is the reason.
        """
        too_long = failure.code == TOO_LONG
        if not fitted.past or not (too_long or _may_be_the_history_s(failure)):
            return False
        self._refused[key] = self._refused.get(key, 0) + 1
        if too_long or self._refused[key] > 1 or failure.detail.startswith(TOO_LARGE):
            self._known.pop(key, None)
            past = (
                None if too_long else fitted.past // 2
            )  # the room of a short history is the reply's for the most part
            self._known[key] = Learned(halved(fitted).context, self._clock() + LEARNED_SECONDS, past)
        for kept in (self._known, self._refused):
            if len(kept) > MAX_LEARNED:
                del kept[next(iter(kept))]
        return too_long

    def accepted(self, key: Key, *added: str) -> None:
        """The texts that were `added` to the history may be sent besides: what was left out before stays so."""
        self._refused.pop(key, None)
        known = self._known.get(key)
        if known and known.past is not None:
            self._known[key] = known._replace(past=known.past + sum(map(token_bound, added)))


def _may_be_the_history_s(failure: ProviderError) -> bool:
    return failure.code in REFUSALS and not failure.retryable and not failure.may_have_been_billed

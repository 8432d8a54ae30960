"""The body of a request, and how a model is asked again that refused a part of it by name."""

import json
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from .base import ChatMessage, Options, ProviderError
from .errors.parameters import ALTERNATION, SYSTEM

logger = logging.getLogger(__name__)

MAX_REPAIRS = 3  # for one reply
MAX_MODELS = 500  # that refused something, and are remembered
REMEMBERED = 3600.0  # seconds
NO_PARAMETER = "none"
MAX_TOKENS_NAMES = ("max_tokens", "max_completion_tokens")
SYSTEM_LEFT_OUT = "system role"  # as answers name it

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


@dataclass(frozen=True, slots=True)
class Form:
    """How a model wants its requests. `left_out`: parameters, max_tokens by that name.

    `system_role`: the role of the system's text, or "user" for a text in front of the first question. `alternates`:
    there may be no two messages of one role in a row, and no reply before the first question.
    """

    max_tokens: str = "max_tokens"
    left_out: tuple[str, ...] = ()
    system_role: str = "system"
    alternates: bool = False


class LearnedForms:
    """What models refused, by their names, for an hour. `default` is what the settings say."""

    def __init__(self, default: Form, clock: Callable[[], float] = time.monotonic) -> None:
        self.default = default
        self._clock = clock
        self._known: OrderedDict[str, tuple[Form, float]] = OrderedDict()

    def get(self, model: str) -> Form:
        found = self._known.get(model)
        if found is None:
            return self.default
        form, until = found
        if self._clock() < until:
            return form
        del self._known[model]
        return self.default

    def learn(self, model: str, form: Form) -> None:
        self._known[model] = form, self._clock() + REMEMBERED
        self._known.move_to_end(model)
        if len(self._known) > MAX_MODELS:
            self._known.popitem(last=False)


class Request:
    """What a model is asked. `left_out` names what the present `body` lacks."""

    body: bytes
    left_out: tuple[str, ...]

    def __init__(
        self, forms: LearnedForms, model: str, messages: Sequence[ChatMessage], options: Options, extra: dict[str, Any]
    ) -> None:
        self._forms = forms
        self._model = model
        self._messages = messages
        self._options = options
        self._extra = extra
        self._form = self._lasting = self._known = forms.get(model)
        self._named: list[frozenset[str]] = []  # by each refusal that was put right
        self._refused: set[str] = set()  # names of max_tokens, and of the system's role
        self._build()

    def repair(self, refusal: ProviderError) -> bool:
        """Change what the model refused by name. False where it named nothing that can be changed.

        Only a refusal with a status of its own has names: nothing was accepted then, and nothing billed.
        """
        if not refusal.parameters or refusal.may_have_been_billed:
            return False
        if len(self._named) == MAX_REPAIRS:
            self._learn_so_far(refusal)
            return False
        before = self._form
        for name in refusal.parameters:
            change = self._change(name, refusal.refused_for)
            self._form = replace(self._form, **change)
            if refusal.refused_for == "parameter":
                self._lasting = replace(self._lasting, **change)
        if self._form == before:
            return False
        refused = self.body
        self._named.append(frozenset(refusal.parameters))
        self._build()
        if self.body == refused:
            return False  # it had named what this request does not have
        logger.info("a model refused parts of a request", extra={"refused": ", ".join(refusal.parameters)})
        return True

    def accepted(self) -> None:
        """Remember what helped. Words that only looked like a refusal help nothing, so they teach nothing."""
        if self._lasting is not self._known:
            self._forms.learn(self._model, self._lasting)

    def _learn_so_far(self, refusal: ProviderError) -> None:
        """A model that each time named something new refuses more than one turn may find out. The next goes on."""
        if all(map(frozenset(refusal.parameters).isdisjoint, self._named)):
            self.accepted()

    def _build(self) -> None:
        form, options = self._form, self._options
        messages = self._messages if _is_usual(form) else _arranged(self._messages, form)
        body: dict[str, Any] = {
            "model": self._model,
            "messages": [{"role": message.role, "content": message.content} for message in messages],
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if options.temperature is not None:
            body["temperature"] = options.temperature
        if options.max_tokens is not None:
            body[form.max_tokens] = options.max_tokens
        body.update(self._extra)
        self.left_out = _leave_out(body, form) if form.left_out else ()
        if form.system_role == "user" and any(message.role == "system" for message in self._messages):
            self.left_out += (SYSTEM_LEFT_OUT,)
        self.body = _encode(body).encode("utf-8", "replace")

    def _change(self, name: str, reason: str) -> dict[str, Any]:
        """What to change in the form where the model refused `name`."""
        if name == ALTERNATION and (changed := self._without_repeats()):
            return changed
        if name in (SYSTEM, ALTERNATION):
            return self._other_role()
        if name in MAX_TOKENS_NAMES:
            return self._other_max_tokens(reason)
        return self._without(name)

    def _without_repeats(self) -> dict[str, Any]:
        now = _arranged(self._messages, self._form)
        then = _arranged(self._messages, replace(self._form, alternates=True))
        return {} if now == then else {"alternates": True}

    def _other_role(self) -> dict[str, Any]:
        if not any(message.role == "system" for message in self._messages):
            return {}
        self._refused.add(self._form.system_role)
        left = [role for role in ("system", "user") if role not in self._refused]
        return {"system_role": left[0]} if left and self._form.system_role != "user" else {}

    def _other_max_tokens(self, reason: str) -> dict[str, Any]:
        """The other name first; without it where that is refused too, or where the number was refused."""
        self._refused.add(self._form.max_tokens)
        left = [name for name in MAX_TOKENS_NAMES if name not in self._refused]
        if reason != "value" and left and "max_tokens" not in self._form.left_out:
            return {"max_tokens": left[0]}
        return self._without("max_tokens")

    def _without(self, name: str) -> dict[str, Any]:
        return {} if name in self._form.left_out else {"left_out": (*self._form.left_out, name)}


def _is_usual(form: Form) -> bool:
    return form.system_role == "system" and not form.alternates


def _leave_out(body: dict[str, Any], form: Form) -> tuple[str, ...]:
    """Take the form's `left_out` from the body. Returns those that it had; max_tokens by that name."""
    found = []
    for name in form.left_out:
        key = form.max_tokens if name == "max_tokens" else name
        if body.pop(key, None) is not None:
            found.append(name)
    if "stream" not in body:
        body.pop("stream_options", None)  # it is refused without the other
    return tuple(found)


def _arranged(messages: Sequence[ChatMessage], form: Form) -> list[ChatMessage]:
    """The messages with the system's texts and the roles as the form says. No text is lost but a reply to nothing."""
    if form.system_role == "user":
        arranged = _in_the_question(messages)
    else:
        arranged = [m._replace(role=form.system_role) if m.role == "system" else m for m in messages]
    return _alternating(arranged) if form.alternates else arranged


def _in_the_question(messages: Sequence[ChatMessage]) -> list[ChatMessage]:
    texts = [message.content for message in messages if message.role == "system"]
    others = [message for message in messages if message.role != "system"]
    first = next((place for place, message in enumerate(others) if message.role == "user"), None)
    if first is None:
        return [ChatMessage("user", "\n\n".join(texts)), *others] if texts else others
    others[first] = ChatMessage("user", "\n\n".join([*texts, others[first].content]))
    return others


def _alternating(messages: Sequence[ChatMessage]) -> list[ChatMessage]:
    joined = [
        ChatMessage(role, "\n\n".join(message.content for message in run))
        for role, run in groupby(messages, key=lambda message: message.role)
    ]
    first = next((place for place, message in enumerate(joined) if message.role == "user"), 0)
    return [message for place, message in enumerate(joined) if place >= first or message.role != "assistant"]

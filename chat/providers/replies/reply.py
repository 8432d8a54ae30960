"""A reply as it arrives: completion chunks in, text out, and usage at the end."""

import json
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

from chat.providers import errors
from chat.providers.base import ChatMessage, Piece, ProviderError, Usage, estimate_tokens

from .sse import MAX_EVENT_BYTES, EventParser

MAX_COUNT = 2**31 - 1  # tokens
MAX_COST = 1_000_000  # USD
COST_UNIT = Decimal("1e-12")  # no price is finer
MAX_LABEL_CHARS = 200  # characters of a model's or generation's name
MAX_PROVIDER_CHARS = 100
FINISH_REASON = re.compile(r"[A-Za-z_]{1,32}")

# Numbers stay exact, since prices are decimal. NaN and Infinity become None.
_decoder = json.JSONDecoder(parse_float=Decimal, parse_constant=lambda _name: None)


class Reply:
    """Reads one answer. `take` gives the text of each part; `failure` is set when something is wrong.

    `whole`: the answer is one JSON document, not an event stream.
    """

    def __init__(self, generation_id: str | None = None, *, whole: bool = False) -> None:
        self.failure: ProviderError | None = None
        self.finish_reason: str | None = None
        self.done = False  # the provider's end mark has come
        self.generation_id = label(generation_id)
        self.model: str | None = None
        self.provider: str | None = None
        self._parser = EventParser()
        self._body = bytearray() if whole else None
        self._introduced = False
        self._characters = 0
        self._counts: Mapping[str, Any] = {}
        self._tool_calls = False
        self._held = ""  # the first half of a character that comes in two escapes

    def take(self, data: bytes) -> str:
        """The text in `data`, a part of the body. Text before a failure counts."""
        if self._body is None:
            try:
                events = self._parser.feed(data)
            except ValueError:
                self.failure = errors.invalid_response("event too large")
                return ""
            return self._texts(events)
        self._body += data
        if len(self._body) > MAX_EVENT_BYTES:
            self.failure = errors.invalid_response("answer too large")
        return ""

    def take_end(self) -> str:
        """The text that the end of the body completes."""
        if self._body is None:
            text = self._texts(self._parser.finish())
            if self.failure and self.failure.code == "provider_invalid_response":
                self.failure = None  # the event was cut short; last_piece checks whether the reply has an end
            return text
        text = self._texts([bytes(self._body).strip()])
        if text and self.finish_reason is None:
            self.finish_reason = "stop"  # a whole document was not cut short
        return text

    def piece(self, text: str) -> Piece:
        """A piece with `text`. The first one names model and provider."""
        if self._introduced:
            return Piece(text)
        self._introduced = True
        return Piece(text, None, None, self.model, self.provider, self.generation_id)

    def _texts(self, events: list[bytes]) -> str:
        texts: list[str] = []
        try:
            for event in events:
                texts.append(self._event(event))
        except ProviderError as failure:
            self.failure = failure
        except ValueError:
            self.failure = errors.invalid_response("an event that is no JSON")
        except (AttributeError, IndexError, KeyError, TypeError, RecursionError):
            self.failure = errors.invalid_response("an event of an unknown shape")
        text = "".join(texts)
        self._characters += len(text)
        return text

    def last_piece(self, messages: Sequence[ChatMessage]) -> Piece:
        """The piece that ends the reply. Raises where the reply failed, or has no end or no content."""
        if self.failure:
            raise self.failure
        held, self._held = self._held and "\ufffd", ""
        self._characters += len(held)
        usage = self._usage(messages)
        if self.finish_reason is None and self.done and self._counted() and self._characters:
            self.finish_reason = "stop"  # Ollama may give no reason, but it marks the end and counts
        if self.finish_reason is None:
            raise errors.invalid_response("the stream has no end")
        if not self._characters and not self._tool_calls and self.finish_reason != "tool_calls":
            raise self._empty()
        return Piece(held, self.finish_reason, usage, self.model, self.provider, self.generation_id)

    def _event(self, data: bytes) -> str:
        if data == b"[DONE]":
            self.done = True
        if self.done:
            return ""
        line = data.decode("utf-8", "replace")
        chunk, end = _decoder.raw_decode(line)
        if end != len(line) and line[end:].strip():
            raise ValueError("more than one document")
        choices = chunk.get("choices")
        if chunk.get("error") or not choices:
            failure = errors.from_body(chunk)
            if failure:
                raise failure
        self._note(chunk)
        text = self._choice(choices[0]) if choices else ""
        return self._storable(text) if self._held or "\\u" in line else text

    def _note(self, chunk: dict[str, Any]) -> None:
        if self.model is None:
            self.model = label(chunk.get("model"))
            self.provider = label(chunk.get("provider"), MAX_PROVIDER_CHARS)
            self.generation_id = self.generation_id or label(chunk.get("id"))
        counts = chunk.get("usage")
        if counts and isinstance(counts, dict):
            self._counts = counts

    def _choice(self, choice: dict[str, Any]) -> str:
        reason = choice.get("finish_reason")
        if reason:
            self._finish(reason, choice)
        delta = choice.get("delta") or choice.get("message") or {}
        content = delta.get("content")
        if content and content.__class__ is str:
            return str(content)
        if delta.get("tool_calls") or delta.get("function_call"):
            self._tool_calls = True
        return _text_of(content) or _text_of(delta.get("refusal"))

    def _finish(self, reason: Any, choice: dict[str, Any]) -> None:
        if reason == "error":
            raise errors.from_body(choice) or ProviderError(
                "provider_error", "finish_reason error", retryable=True, may_have_been_billed=True
            )
        if not isinstance(reason, str):
            raise TypeError("finish_reason")
        self.finish_reason = reason if FINISH_REASON.fullmatch(reason) else "other"

    def _storable(self, text: str) -> str:
        """`text` as databases accept it: NUL, and half a character whose rest does not come, become U+FFFD."""
        text, self._held = self._held + text, ""
        if text and "\ud800" <= text[-1] <= "\udbff":
            text, self._held = text[:-1], text[-1]
        return text.replace("\0", "\ufffd").encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")

    def _counted(self) -> bool:
        return bool(_count(self._counts.get("completion_tokens")))

    def _usage(self, messages: Sequence[ChatMessage]) -> Usage:
        """The provider's counts. Estimates those that are missing, invalid, or zero although there was text."""
        counts = self._counts
        prompt = _count(counts.get("prompt_tokens"))
        completion = _count(counts.get("completion_tokens"))
        estimated = not prompt or completion is None or (completion == 0 and self._characters > 0)
        if not prompt:
            prompt = sum(estimate_tokens(message.content) for message in messages)
        if not completion:
            completion = estimate_tokens(" " * self._characters)
        cached = _details(counts, "prompt_tokens_details").get("cached_tokens")
        reasoning = _details(counts, "completion_tokens_details").get("reasoning_tokens")
        return Usage(
            prompt, completion, _count(cached) or 0, _count(reasoning) or 0, _cost(counts.get("cost")), estimated
        )

    def _empty(self) -> ProviderError:
        if self.finish_reason == "content_filter":
            return ProviderError("content_moderated", "content_filter without text", may_have_been_billed=True)
        return errors.invalid_response("a reply without content")


def label(value: Any, longest: int = MAX_LABEL_CHARS) -> str | None:
    """A short name from outside, made storable; `None` where it is no name."""
    if not value or not isinstance(value, str):
        return None
    return value[:longest].replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def _text_of(content: Any) -> str:
    """The text of content that is null, a string, or a list of parts, some of them text."""
    if not content:
        return ""
    if isinstance(content, str):
        return content
    return "".join(part["text"] for part in content if part.get("type") == "text")


def _details(counts: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    details = counts.get(name)
    return details if isinstance(details, dict) else {}


def _count(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | Decimal) or not 0 <= value <= MAX_COUNT:
        return None
    return int(value) if value == int(value) else None


def _cost(value: Any) -> Decimal | None:
    """USD from a number or a string; `None` where it is no valid price."""
    if isinstance(value, bool) or not isinstance(value, int | str | Decimal) or len(str(value)) > 64:
        return None
    try:
        cost = Decimal(str(value))
    except InvalidOperation:
        return None
    if not cost.is_finite() or not 0 <= cost <= MAX_COST:
        return None
    return cost if cost == (rounded := cost.quantize(COST_UNIT)) else rounded

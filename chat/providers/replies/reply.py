"""A reply as it arrives: completion chunks in, text out, and usage at the end."""

import json
from collections.abc import Sequence
from decimal import Decimal
from itertools import pairwise
from typing import Any

from chat.providers import errors
from chat.providers.base import ChatMessage, Piece, ProviderError

from . import reasons
from .documents import HtmlError, LineParser, open_body
from .sse import EventParser
from .usage import Counts

MAX_LABEL_CHARS = 200  # characters of a model's or generation's name
MAX_PROVIDER_CHARS = 100
MAX_OTHERS = 100_000  # pieces of choices that are not the first
MAX_WORD_BYTES = 16
TEXT_PARTS = {None, "text", "output_text"}
SIGNS_OF_LIFE = {b"ping", b"keep-alive", b"keepalive", b"heartbeat"}

# Numbers stay exact, since prices are decimal. NaN and Infinity become None.
_decoder = json.JSONDecoder(parse_float=Decimal, parse_constant=lambda _name: None)


class Reply:
    """Reads one answer. `take` gives the text of each part; `failure` is set when something is wrong.

    With a finish reason the reply is complete. What comes behind it can only add counts.
    """

    def __init__(self, generation_id: str | None = None) -> None:
        self.failure: ProviderError | None = None
        self.finish_reason: str | None = None
        self.done = False  # the provider's end mark has come
        self.generation_id = label(generation_id)
        self.model: str | None = None
        self.provider: str | None = None
        self._parser: EventParser | LineParser | None = None
        self._head = b""  # the first bytes, until they tell what the body is
        self._introduced = False
        self._characters = 0
        self._counts = Counts()
        self._tool_calls = False
        self._held = ""  # the first half of a character that comes in two escapes
        self._in_deltas = False  # text has come piece by piece
        self._messages = ""  # text that has come as whole messages
        self._others: list[tuple[int, str, str | None]] = []  # other choices: index, text, finish reason

    def take(self, data: bytes) -> str:
        """The text in `data`, a part of the body. Text before a failure counts."""
        try:
            if self._parser is None:
                self._head += data
                opened = open_body(self._head)
                if opened is None:
                    return ""
                self._parser, data = opened
            documents = self._parser.feed(data)
        except HtmlError:
            self._fail(ProviderError("provider_error", "an HTML page", retryable=True, may_have_been_billed=True))
            return ""
        except ValueError as problem:
            self._fail(errors.invalid_response(str(problem)))
            return ""
        return self._texts(documents) if documents else ""

    def take_end(self) -> str:
        """The text that the end of the body completes."""
        if self._parser is None:
            return ""
        try:
            text = self._texts(self._parser.finish())
        except ValueError as problem:
            self._fail(errors.invalid_response(str(problem)))
            return ""
        if self._parser.is_whole:
            if text and self.finish_reason is None and self.failure is None and self._messages:
                self.finish_reason = "stop"  # a whole document was not cut short
        elif self.finish_reason is None and self.failure and self.failure.code == "provider_invalid_response":
            self.failure = None  # the event was cut short; last_piece checks whether the reply has an end
        if self.finish_reason is None and self.failure is None and self._others:
            text += self._other()
        return text

    def piece(self, text: str) -> Piece:
        """A piece with `text`. The first one names model and provider."""
        if self._introduced:
            return Piece(text)
        self._introduced = True
        return Piece(text, None, None, self.model, self.provider, self.generation_id)

    def last_piece(self, messages: Sequence[ChatMessage]) -> Piece:
        """The piece that ends the reply. Raises where the reply failed, or has no end or no content."""
        if self.failure:
            raise self.failure
        held, self._held = self._held and "\ufffd", ""
        self._characters += len(held)
        if self.finish_reason is None and self.done and self._counts and self._characters:
            self.finish_reason = "stop"  # Ollama may give no reason, but it marks the end and counts
        if self.finish_reason is None:
            raise errors.invalid_response("the stream has no end")
        if not self._characters and not self._tool_calls and self.finish_reason.casefold() not in reasons.TOOLS:
            raise reasons.empty_of(self.finish_reason)
        usage = self._counts.usage(messages, self._characters)
        return Piece(held, self.finish_reason, usage, self.model, self.provider, self.generation_id)

    def counted(self, messages: Sequence[ChatMessage]) -> Piece | None:
        """What a reply that failed has used, where the provider counted it."""
        if not self._counts.any:
            return None
        usage = self._counts.usage(messages, self._characters)
        return Piece("", None, usage, self.model, self.provider, self.generation_id)

    def _texts(self, documents: Sequence[bytes]) -> str:
        texts = []
        for document in documents:
            if self.failure and self.finish_reason is None:
                break
            try:
                texts.append(self._document(document))
            except ProviderError as failure:
                self._fail(failure)
            except ValueError:
                self._fail(errors.invalid_response("an event that is no JSON"))
            except (AttributeError, IndexError, KeyError, TypeError, RecursionError):
                self._fail(errors.invalid_response("an event of an unknown shape"))
        text = "".join(texts)
        self._characters += len(text)
        return text

    def _fail(self, failure: ProviderError) -> None:
        if self.finish_reason is None:
            self.failure = failure
        elif failure.code == "provider_invalid_response":
            self.done = True  # garbage behind the end: no counts will come

    def _document(self, data: bytes) -> str:
        if len(data) < MAX_WORD_BYTES:
            word = data.strip(b'" []').lower()
            if word == b"done":
                self.done = True
            if word in SIGNS_OF_LIFE:
                return ""
        if self.done:
            return ""
        line = data.decode("utf-8", "replace")
        chunk, end = _decoder.raw_decode(line)
        if end != len(line) and line[end:].strip():
            raise ValueError("more than one document")
        text = self._list(chunk) if chunk.__class__ is list else self._chunk(chunk)
        return self._storable(text) if self._held or "\\u" in line else text

    def _list(self, chunks: list[dict[str, Any]]) -> str:
        """Gemini packs even a single error into a list."""
        if not chunks:
            raise TypeError("an empty list")
        text = ""
        try:
            for chunk in chunks:
                text += self._chunk(chunk)
        except ProviderError as failure:  # the text before it stays
            self._fail(failure)
        return text

    def _chunk(self, chunk: dict[str, Any]) -> str:
        choices = chunk.get("choices")
        if self.finish_reason is not None:
            self._counts.note(chunk, choices and choices[0])
            return ""
        if chunk.get("error") or not choices:
            self._counts.note(chunk)
            if failure := errors.from_body(chunk):
                raise failure
        if self.model is None:
            self._introduce(chunk)
        if not choices:
            return ""
        choice = choices[0]
        if len(choices) > 1 or choice.get("index"):
            choice = self._first_of(choices)
        delta = choice.get("delta")
        content = delta and delta.get("content")
        if content and content.__class__ is str:  # nearly always
            self._in_deltas, text = True, content
        else:
            text = self._content(choice)
        if reason := choice.get("finish_reason") or choice.get("finishReason"):
            self._finish(reason, choice)
            self._counts.note(chunk, choice)
        elif chunk.get("usage"):
            self._counts.note(chunk)
        return text

    def _introduce(self, chunk: dict[str, Any]) -> None:
        self.model = label(chunk.get("model"))
        self.provider = label(chunk.get("provider"), MAX_PROVIDER_CHARS)
        self.generation_id = self.generation_id or label(chunk.get("id"))

    def _finish(self, value: Any, choice: dict[str, Any]) -> None:
        reason = reasons.reason_of(value)
        if reason is None:
            return
        broken = reasons.failure_of(reason)
        self.failure = broken and (errors.from_body(choice) or broken)
        self.finish_reason = reason

    def _first_of(self, choices: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Choice 0, which alone is the reply. Others are kept aside, for servers that number them in their own way."""
        first: dict[str, Any] = {}
        for choice in choices:
            index = choice.get("index")
            if not index or index == "0":
                first = first or choice
            elif isinstance(index, int) and len(self._others) < MAX_OTHERS:
                said = choice.get("delta") or choice.get("message") or {}
                reason = reasons.reason_of(choice.get("finish_reason"))
                self._others.append((index, _text_of(said.get("content")), reason))
        return first

    def _other(self) -> str:
        """The text where choice 0 never spoke: of the only choice that did, or of pieces that are counted (old TGI)."""
        indexes = [index for index, _, _ in self._others]
        is_only = len(set(indexes)) == 1 and not (self._in_deltas or self._messages)
        is_counted = self.done and all(after == before + 1 for before, after in pairwise(indexes))
        if not is_only and not is_counted:
            return ""
        self._finish(self._others[-1][2], {})
        text = "".join(text for _, text, _ in self._others)
        self._characters += len(text)
        return text

    def _content(self, choice: dict[str, Any]) -> str:
        delta = choice.get("delta")
        if delta:
            if delta.get("tool_calls") or delta.get("function_call"):
                self._tool_calls = True
            if text := _text_of(delta.get("content")) or _text_of(delta.get("refusal")):
                self._in_deltas = True
                return text
        message = choice.get("message")
        if message:
            return self._whole_message(message)
        return "" if delta or "delta" in choice else _text_of(choice.get("text"))

    def _whole_message(self, message: dict[str, Any]) -> str:
        """The new text of a message. Some servers repeat in a last one all that came before."""
        if message.get("tool_calls") or message.get("function_call"):
            self._tool_calls = True
        text = _text_of(message.get("content")) or _text_of(message.get("refusal"))
        if self._in_deltas:
            return ""
        if self._messages and text.startswith(self._messages):
            text = text[len(self._messages) :]
        self._messages += text
        return text

    def _storable(self, text: str) -> str:
        """`text` as databases accept it: NUL, and half a character whose rest does not come, become U+FFFD."""
        text, self._held = self._held + text, ""
        if text and "\ud800" <= text[-1] <= "\udbff":
            text, self._held = text[:-1], text[-1]
        return text.replace("\0", "\ufffd").encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def label(value: Any, longest: int = MAX_LABEL_CHARS) -> str | None:
    """A short name from outside, made storable; `None` where it is no name."""
    if not value or not isinstance(value, str):
        return None
    if len(value) <= longest and value.isascii() and value.isprintable():
        return value
    return value[:longest].replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def _text_of(content: Any) -> str:
    """The text of content that is null, a string, or parts, some of them text."""
    if not content:
        return ""
    if isinstance(content, str):
        return content
    parts = [content] if isinstance(content, dict) else content
    return "".join(part if isinstance(part, str) else _text_of_part(part) for part in parts)


def _text_of_part(part: dict[str, Any]) -> str:
    text = part.get("text") if part.get("type") in TEXT_PARTS else None
    return text if isinstance(text, str) else ""

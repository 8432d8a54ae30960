"""Any server that speaks OpenAI's chat completions: OpenAI, Ollama, vLLM, llama.cpp, LM Studio."""

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

import httpx

from . import errors
from .attempts import Attempts
from .base import ChatMessage, Options, Piece, Provider, ProviderError
from .circuits import LIST, Circuits, Tickets
from .connection import Connection
from .replies.body import chunks_of, close, read_counts, read_whole
from .replies.reply import Reply
from .request import NO_PARAMETER, Form, LearnedForms, Request

SENDABLE_KEY = re.compile(r"[\x21-\x7e]+")
MAX_LIST_BYTES = 4 * 1024 * 1024  # room for thousands of models, with a kilobyte each
MAX_LIST_PARTS = 400_000  # objects, lists and commas; with millions, parsing takes seconds
LARGE_LIST_BYTES = 256 * 1024  # a larger list is parsed in a thread: other turns would wait for it


class OpenAICompatible(Provider):
    """`base_url` ends before `/chat/completions`. Time-outs and `pause` (before the first retry) are in seconds.

    `max_tokens_parameter` ("none", or "" where it is not known), `leave_out` and `system_role`: what models want.
    All callers share the circuit that failed connections open. What is answered counts for a model and a key alone.
    """

    name = "openai"
    base_url = "https://api.openai.com/v1"
    keep_alive = 4.0  # seconds; uvicorn and Node close an idle connection after 5

    def __init__(
        self,
        *,
        default_model: str,
        base_url: str = "",
        api_key: str = "",
        connect_timeout: float = 5.0,
        write_timeout: float = 10.0,
        read_timeout: float = 60.0,
        retries: int = 2,
        pause: float = 0.5,
        proxy: str = "",
        max_tokens_parameter: str = "",
        leave_out: Sequence[str] = (),
        system_role: str = "system",
        extra_parameters: Mapping[str, Any] | None = None,
        circuits: Circuits | None = None,
    ) -> None:
        self.default_model = default_model
        url = _checked_url(base_url or self.base_url)
        self._chat_url = httpx.URL(f"{url}/chat/completions")
        self._models_url = httpx.URL(f"{url}/models")
        # OpenAI's newer models refuse max_tokens; other servers know no other name.
        own = self._chat_url.host == "api.openai.com"
        self.max_tokens_parameter = "max_completion_tokens" if own else "max_tokens"
        if max_tokens_parameter == NO_PARAMETER:
            leave_out = (*leave_out, "max_tokens")
        elif max_tokens_parameter:
            self.max_tokens_parameter = max_tokens_parameter
        self._forms = LearnedForms(Form(self.max_tokens_parameter, tuple(dict.fromkeys(leave_out)), system_role))
        self._extra_parameters = extra_parameters or {}
        self._headers = self._all_headers(api_key.strip())
        self._list_seconds = read_timeout
        self._circuits = circuits or Circuits(self.name)
        self._attempts = Attempts(self._circuits, retries=retries, pause=pause)
        self._connection = Connection(
            connect_timeout=connect_timeout,
            write_timeout=write_timeout,
            read_timeout=read_timeout,
            keep_alive=self.keep_alive,
            proxy=proxy or None,
        )

    def extra_headers(self) -> dict[str, str]:
        return {}

    def extra_body(self, options: Options) -> dict[str, Any]:
        return {}

    async def stream(self, messages: Sequence[ChatMessage], options: Options) -> AsyncGenerator[Piece]:
        response, ticket, left_out = await self._begin(messages, options)
        with ticket:
            reply = Reply(response.headers.get("x-generation-id"))
            source = chunks_of(response)
            try:
                if left_out:
                    yield Piece(left_out=left_out)
                async for data in source:
                    text = reply.take(data)
                    if text:
                        yield reply.piece(text)
                    if reply.failure:
                        break
                    if ticket.is_probe and (text or reply.model):
                        ticket.succeeded()  # all turns wait for the probe, and its reply may take minutes
                    if reply.done or reply.finish_reason:
                        break
                if not reply.finish_reason and not reply.failure and (text := reply.take_end()):
                    yield reply.piece(text)
                if reply.finish_reason:
                    if not reply.failure:
                        ticket.succeeded()  # even for an empty reply, which a small max_tokens brings about
                    await read_counts(source, reply)
                yield reply.last_piece(messages)
            except (*errors.TRANSPORT_ERRORS, ProviderError) as problem:
                if counted := reply.counted(messages):
                    yield counted
                if isinstance(problem, ProviderError):
                    raise
                raise errors.from_transport(problem, answering=True) from problem
            finally:
                await close(source, response)

    async def _begin(
        self, messages: Sequence[ChatMessage], options: Options
    ) -> tuple[httpx.Response, Tickets, tuple[str, ...]]:
        """The answer, its tickets, and what the model refused, so that it was asked without it."""
        headers, model = self._headers_for(options.api_key), options.model or self.default_model
        pair = self._circuits.pair(model, options.api_key)
        request = Request(self._forms, model, messages, options, {**self.extra_body(options), **self._extra_parameters})
        response, tickets = await self._attempts.accepted(
            lambda: self._connection.post(self._chat_url, headers, request.body),
            pair,
            has_fallback=options.has_fallback,
            repair=request.repair,
        )
        request.accepted()
        return response, tickets, request.left_out

    async def models(self, api_key: str | None = None) -> list[dict[str, Any]]:
        headers, pair = self._headers_for(api_key), self._circuits.pair(LIST, api_key)
        response, tickets = await self._attempts.accepted(lambda: self._connection.get(self._models_url, headers), pair)
        with tickets:
            return await _listed(response, self._list_seconds)

    def try_acquire(self, model: str = "", api_key: str | None = None) -> float:
        return self._circuits.try_acquire(model, api_key)

    def release(self, model: str = "", api_key: str | None = None) -> None:
        self._circuits.release(model, api_key)

    @property
    def is_down(self) -> bool:
        return self._circuits.is_down

    @property
    def refuses_models(self) -> bool:
        return self._circuits.refuses_models

    @property
    def failing_models(self) -> frozenset[str]:
        return self._circuits.failing_models

    async def aclose(self) -> None:
        await self._connection.aclose()

    def _headers_for(self, api_key: str | None) -> httpx.Headers:
        if api_key is None:
            return self._headers
        if not SENDABLE_KEY.fullmatch(api_key):
            raise ProviderError("invalid_request", "the key can't be sent in a header")
        headers = self._headers.copy()
        headers["Authorization"] = f"Bearer {api_key}"
        return headers

    def _all_headers(self, api_key: str) -> httpx.Headers:
        headers = {
            "Content-Type": "application/json",
            "Accept": "text/event-stream, application/json",
            "Accept-Encoding": "identity",  # compression would delay pieces
            "User-Agent": "BancoBot",
            **self.extra_headers(),
        }
        if api_key:
            if not SENDABLE_KEY.fullmatch(api_key):
                raise ValueError("the provider's key has characters that can't be sent in a header")
            headers["Authorization"] = f"Bearer {api_key}"
        return httpx.Headers(headers)


async def _listed(response: httpx.Response, seconds: float) -> list[dict[str, Any]]:
    """The list, if it comes within `seconds` as a whole: one that trickles would never be too late for a read."""
    try:
        async with asyncio.timeout(seconds):
            body = await read_whole(response, MAX_LIST_BYTES)
        return await asyncio.to_thread(_models_in, body) if len(body) > LARGE_LIST_BYTES else _models_in(body)
    except (ValueError, RecursionError) as exc:
        raise errors.invalid_response("a list of models that is no JSON") from exc
    except errors.TRANSPORT_ERRORS as exc:
        raise errors.from_transport(exc, answering=True) from exc


def _models_in(body: bytes) -> list[dict[str, Any]]:
    listed = _parsed(body)
    found = listed.get("data") if isinstance(listed, dict) else listed
    if not isinstance(found, list):
        raise errors.invalid_response("no list of models")
    return [model for model in found if isinstance(model, dict) and _is_name(model.get("id"))]


def _parsed(body: bytes) -> Any:
    """JSON without NaN and without halves of characters, which no answer could contain."""
    if sum(map(body.count, (b"{", b"[", b","))) > MAX_LIST_PARTS:
        raise ValueError("too many parts")
    text = body.decode("utf-8", "replace")
    # The hook changes nothing. With it, the parser lets other threads run after each object.
    parsed = json.loads(text, parse_constant=lambda _name: None, object_hook=lambda found: found)
    if b"\\ud" not in body.lower():
        return parsed
    whole = json.dumps(parsed, ensure_ascii=False).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return json.loads(whole)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _checked_url(text: str) -> str:
    url = httpx.URL(text)
    if url.scheme not in ("http", "https") or not url.host or url.userinfo or url.query or url.fragment:
        raise ValueError("a provider's URL is http(s)://host/path, without credentials, query or fragment")
    return text.rstrip("/")

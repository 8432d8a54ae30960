"""The endpoints that talk: they validate, begin a turn, and answer with it."""

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from django.conf import settings
from django.http import HttpResponse
from django.http.response import HttpResponseBase
from django.utils.crypto import salted_hmac
from django.utils.translation import gettext as _
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.serializers import Serializer

from access.callers import Caller, caller_of
from access.models import Scope
from access.schema import KEY
from chat import schema, serializers
from chat.answers import chat_answer, message_answer
from chat.engine.following import FollowedTurn
from chat.engine.listener import Listener
from chat.engine.service import get_service
from chat.engine.turn import TurnOptions
from chat.streaming import events
from chat.viewsets import LoopViewSet
from sessions_api.models import Message, Outcome, new_public_id
from sessions_api.store.messages import NewTurn
from web.errors import ApiError, language_of
from web.fields import without_nulls
from web.logs import add_log_fields
from web.openapi import examples_of
from web.responses import Stream

IDEMPOTENCY_KEY = re.compile(r"[\x20-\x7e]{1,255}")


class TurnViewSet(LoopViewSet, ABC):
    """What the endpoints that start a turn share."""

    scopes = {"create": (Scope.CHAT,)}
    body: Serializer[Any]  # one instance serves all requests: validating keeps no state

    @abstractmethod
    def plan(self, question: dict[str, Any], caller: Caller) -> tuple[NewTurn, TurnOptions]:
        """The turn for a validated request."""

    @abstractmethod
    def answer(self, reply: Outcome | Message, turn_id: str, session_id: str) -> dict[str, Any]:
        """The JSON answer of a turn that ended well."""

    @extend_schema(tags=["Turns"], auth=KEY, parameters=[schema.IDEMPOTENCY_KEY, schema.OMITTED, schema.REPLAYED])
    async def create(self, request: Request) -> HttpResponseBase:
        question = self.body.run_validation(request.data)
        turn, replayed = await get_service().begin(*self._new_turn(request, question))
        caller = caller_of(request)
        add_log_fields(turn=turn.turn_id, session=turn.session_id, owner_kind=caller.kind)
        if replayed:
            self.headers["Idempotent-Replayed"] = "true"
        listener = Listener(turn, caller.key_id)
        if question.get("stream") or request.accepted_renderer.format == "sse":
            return await self._stream(listener, language_of(request))
        await listener.wait_for_end()
        return HttpResponse(
            json.dumps(self._whole(turn), ensure_ascii=False).encode(),
            "application/json",
            headers=omitted(turn) | self.headers,
        )

    def _new_turn(self, request: Request, question: dict[str, Any]) -> tuple[NewTurn, TurnOptions]:
        """The turn of `plan`, with the options that all these endpoints share."""
        new, options = self.plan(without_nulls(question), caller_of(request))
        if "after_turn" in question:  # null is the conversation's start
            new = replace(new, after_turn=question["after_turn"] or "")
        if (key := idempotency_key(request)) is not None:
            new = replace(new, idempotency_key=key, fingerprint=fingerprint(request))
        if question.get("on_busy") == "reject":
            options = replace(options, patience=0)
        return new, options

    async def _stream(self, listener: Listener, language: str) -> Stream:
        await listener.wait_for_first_sign()
        turn = listener.turn
        if turn.error is not None and not turn.text:
            raise turn.error
        return stream_of(listener, self._whole, language, headers=omitted(turn) | self.headers)

    def _whole(self, turn: FollowedTurn) -> dict[str, Any]:
        return self.answer(ended_well(turn), turn.turn_id, turn.session_id)


def ended_well(turn: FollowedTurn) -> Outcome | Message:
    """The reply of a turn that has ended. Raises the turn's error where there is none."""
    if turn.outcome is None:
        raise turn.error or ApiError("internal_error")
    add_log_fields(tokens=(turn.outcome.prompt_tokens or 0) + (turn.outcome.completion_tokens or 0))
    return turn.outcome


def stream_of(
    listener: Listener,
    answer: Callable[[FollowedTurn], dict[str, Any]],
    language: str,
    offset: int = 0,
    headers: dict[str, str] | None = None,
) -> Stream:
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no", **(headers or {})}
    return Stream(events(listener, answer, language, offset), content_type="text/event-stream", headers=headers)


def idempotency_key(request: Request) -> str | None:
    """The client's name for its request, which makes a repetition safe. Raises `ValidationError`."""
    key = request.META.get("HTTP_IDEMPOTENCY_KEY")
    if key is not None and not IDEMPOTENCY_KEY.fullmatch(key):
        raise ValidationError({"Idempotency-Key": [_("Use 1 to 255 printable ASCII characters.")]})
    return None if key is None else str(key)


def fingerprint(request: Request) -> str:
    """Tells requests apart and reveals none of their text: a backup may outlive the session."""
    content = json.dumps([request.path_info.rstrip("/"), request.data], sort_keys=True, ensure_ascii=False)
    return salted_hmac("chat.idempotency", content, secret=settings.OWNER_HASH_KEY, algorithm="sha256").hexdigest()


def omitted(turn: FollowedTurn) -> dict[str, str]:
    return {"X-History-Omitted": str(turn.omitted)} if turn.omitted else {}


@extend_schema_view(
    create=extend_schema(
        operation_id="createMessage",
        summary="Say something to the bank's assistant",
        description="Stores the message, sends the session's history to the model, stores its reply and answers with "
        "it. Without a session_id, or with one that is not known, a session begins.",
        request=serializers.MessageRequestSerializer,
        examples=examples_of(
            {"nova sessão": schema.NEW_MESSAGE, "mesma sessão": schema.NEXT_MESSAGE}, request_only=True
        ),
        responses=schema.starting(serializers.MessageAnswerSerializer, schema.MESSAGE_ANSWER),
    )
)
class MessageViewSet(TurnViewSet):
    """The bank's assistant: POST /api/message."""

    body = serializers.MessageRequestSerializer()

    def plan(self, question: dict[str, Any], caller: Caller) -> tuple[NewTurn, TurnOptions]:
        timing = question.get("timing_metadata")
        new = NewTurn(
            owner=caller.owner,
            session_id=question.get("session_id") or new_public_id(),
            turn_id=new_public_id(),
            question=question["message"],
            default_system_prompt=settings.BANCOBOT_SYSTEM_PROMPT,
            persona_id=question.get("persona_id"),
            metadata={} if timing is None else {"timing_metadata": timing},
            history_limit=settings.HISTORY_MAX_MESSAGES,
        )
        return new, options_of(caller)

    def answer(self, reply: Outcome | Message, turn_id: str, session_id: str) -> dict[str, Any]:
        return message_answer(reply, turn_id, session_id)


@extend_schema_view(
    create=extend_schema(
        operation_id="createChatTurn",
        summary="Say something to a model",
        description="As POST /api/message, with the model and the system prompt of your choice. The session remembers "
        "both.",
        request=serializers.ChatRequestSerializer,
        examples=examples_of(schema.CHATS, request_only=True),
        responses=schema.starting(serializers.ChatAnswerSerializer, schema.CHAT_ANSWER),
    )
)
class ChatViewSet(TurnViewSet):
    """Any model, any system prompt: POST /chat."""

    body = serializers.ChatRequestSerializer()

    def plan(self, question: dict[str, Any], caller: Caller) -> tuple[NewTurn, TurnOptions]:
        new = NewTurn(
            owner=caller.owner,
            session_id=question.get("session_id") or new_public_id(),
            turn_id=new_public_id(),
            question=question["message"],
            model=question.get("model"),
            system_prompt=question.get("system_prompt"),
            default_system_prompt=settings.CHAT_SYSTEM_PROMPT,
            history_limit=settings.HISTORY_MAX_MESSAGES,
        )
        options = options_of(caller, question.get("temperature"), question.get("max_tokens"))
        others = question.get("fallback_models")
        return new, options if others is None else replace(options, fallback_models=tuple(others))

    def answer(self, reply: Outcome | Message, turn_id: str, session_id: str) -> dict[str, Any]:
        return chat_answer(reply, turn_id, session_id)


def options_of(caller: Caller, temperature: float | None = None, max_tokens: int | None = None) -> TurnOptions:
    return TurnOptions(
        temperature=temperature,
        max_tokens=max_tokens,
        default_max_tokens=settings.MAX_TOKENS_DEFAULT,
        default_context_length=settings.DEFAULT_CONTEXT_LENGTH,
        deadline_seconds=settings.TURN_DEADLINE_SECONDS,
        patience=settings.SESSION_BUSY_WAIT_SECONDS,
        api_key=caller.provider_key,
        key_id=caller.key_id,
        limits=caller.limits,
    )

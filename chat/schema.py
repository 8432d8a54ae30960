"""Turns and models in the published document: error codes, headers, and examples made by the code that answers."""

import copy
from typing import Any

from drf_spectacular.utils import OpenApiParameter, OpenApiResponse

from access.schema import errors
from chat.answers import chat_answer, message_answer, turn_state
from chat.serializers import MAX_OFFSET
from chat.streaming import KEEP_ALIVE, frame
from sessions_api.api.schema import MODEL, RECORD, REPLY, SESSION_ID, STORING, TURN_ID
from sessions_api.models import Message
from web.errors import CODES
from web.openapi import EVENTS, Schema, answer, answer_header, examples_of, path_parameter

FAILED = [code for code, known in CODES.items() if known.stored]
PROVIDER = [code for code in FAILED if code not in ("context_length_exceeded", "turn_interrupted")]
STARTING = (
    *STORING, *FAILED, "session_busy", "idempotency_mismatch", "turn_not_found",
)  # fmt: skip
TURN_ERRORS = (*RECORD, "turn_not_found", "not_found")
IN_TURN = path_parameter("turn_id", "turn", TURN_ID, pattern="^[A-Za-z0-9_-]{1,64}$")
LAST_EVENT_ID = OpenApiParameter(
    "Last-Event-ID",
    {"type": "integer", "minimum": 0, "maximum": MAX_OFFSET},
    OpenApiParameter.HEADER,
    description="The id of the last event that arrived; the stream goes on behind it.",
)
IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key",
    {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]+$"},
    OpenApiParameter.HEADER,
    description="Your name for this request. The same request again under the same name is the same turn: it is "
    "attached to while it runs, and its answer repeated afterwards.",
)
OMITTED = answer_header(
    "X-History-Omitted",
    "How many of the session's messages did not fit the model's context. Only where it is more than none.",
    {"type": "integer", "minimum": 1},
)
REPLAYED = answer_header(
    "Idempotent-Replayed",
    "Where the answer is that of a turn which had ended before this request came.",
    {"type": "string", "enum": ["true"]},
)


def starting(serializer: Any, shown: Schema) -> dict[Any, OpenApiResponse]:
    """The answers to a request that starts a turn: `shown` as JSON or as events, and errors."""
    return (
        answer(serializer, {"resposta": shown})
        | events_of(shown, "For `stream: true` or `Accept: text/event-stream`. ")
        | errors(*STARTING, turn=TURN_ID, problems={"message": "Este campo é obrigatório."})
    )


def events_of(shown: Schema, when: str = "") -> dict[Any, OpenApiResponse]:
    """The answer as a stream of events."""
    return {
        (200, EVENTS): OpenApiResponse(
            {
                "type": "string",
                "description": f"{when}The events are `start`, `delta` with the next characters of the reply (its id "
                "is the number of characters so far), and at the end `done` with the answer that there would have been "
                "as JSON, or `error` with the error object. A comment comes after 15 s of silence.",
            },
            examples=examples_of({"eventos": _events(shown)}, media_type=EVENTS),
        )
    }


def _events(shown: Schema) -> str:
    text: str = shown["response"]
    half = text.index(" ") + 1
    frames = [
        frame("start", {"turn_id": TURN_ID, "session_id": SESSION_ID, "model": MODEL}),
        frame("delta", {"text": text[:half]}, half),
        KEEP_ALIVE,
        frame("delta", {"text": text[half:]}, len(text)),
        frame("done", shown, len(text)),
    ]
    return b"".join(frames).decode()


def _state(status: str, **values: Any) -> Schema:
    """The example's turn with another status and values."""
    reply = copy.copy(REPLY)
    for name, value in {"status": status, **values}.items():
        setattr(reply, name, value)
    return turn_state(reply)


NEW_MESSAGE = {"message": "Olá, quero informações sobre cartões de crédito"}
NEXT_MESSAGE = {
    "message": "Qual o limite disponível?",
    "session_id": SESSION_ID,
    "persona_id": "cliente-indeciso",
    "timing_metadata": {"typing_ms": 2300},
}
MESSAGE_REPLY = Message(
    content="Olá! Temos três cartões de crédito. Qual é o seu perfil: compras do dia a dia, viagens ou cashback?"
)
MESSAGE_ANSWER = message_answer(MESSAGE_REPLY, TURN_ID, SESSION_ID)
CHATS = {
    "nova sessão": {"message": "Olá, como você está?", "model": MODEL, "temperature": 0.7, "max_tokens": 1000},
    "mesma sessão": {"message": "Pode dar um exemplo prático?", "session_id": SESSION_ID},
    "outros modelos": {
        "message": "Quais são as tarifas do Pix?",
        "model": MODEL,
        "fallback_models": ["anthropic/claude-3.5-haiku", "openai/gpt-4o-mini"],
    },
    "editada": {"message": "Dê outro exemplo", "session_id": SESSION_ID, "after_turn": TURN_ID},
    "eventos": {
        "message": "O que é machine learning?",
        "system_prompt": "Responda em uma frase, para uma criança de dez anos.",
        "stream": True,
    },
}
CHAT_ANSWER = chat_answer(REPLY, TURN_ID, SESSION_ID)
COMPLETED = turn_state(REPLY)
PENDING = _state(Message.Status.PENDING, content="Olá! Estou", completed_at=None)
CANCELLED = _state(Message.Status.CANCELLED, content="Olá! Estou", finish_reason="cancelled")
MODELS = {
    "data": [
        {
            "id": MODEL,
            "name": "Anthropic: Claude 3.5 Sonnet",
            "context_length": 200_000,
            "pricing": {"prompt": "0.000003", "completion": "0.000015"},
        }
    ]
}

"""What the published document shows of requests and answers. A test holds each against its schema."""

from typing import Any

from django.utils import translation

from chat.streaming import KEEP_ALIVE, frame
from web.errors import CODES

SESSION_ID = "atendimento-2025-06-13"
TURN_ID = "Zk3rV0p9Qm2bXc8TtYw1Aa"
REQUEST_ID = "5f1d0c9ab2e47d63"
MODEL = "anthropic/claude-3.5-sonnet"
REPLY = "Olá! Temos três cartões de crédito. Qual é o seu perfil: compras do dia a dia, viagens ou cashback?"

NEW_MESSAGE = {"message": "Olá, quero informações sobre cartões de crédito"}
NEXT_MESSAGE = {
    "message": "Qual o limite disponível?",
    "session_id": SESSION_ID,
    "persona_id": "cliente-indeciso",
    "timing_metadata": {"typing_ms": 2300},
}
MESSAGE_ANSWER = {"response": REPLY, "session_id": SESSION_ID, "turn_id": TURN_ID}

NEW_CHAT = {"message": "Olá, como você está?", "model": MODEL, "temperature": 0.7, "max_tokens": 1000}
NEXT_CHAT = {"message": "Pode dar um exemplo prático?", "session_id": SESSION_ID}
EDITED_CHAT = {"message": "Dê outro exemplo", "session_id": SESSION_ID, "after_turn": TURN_ID}
GUIDED_CHAT = {
    "message": "O que é machine learning?",
    "system_prompt": "Responda em uma frase, para uma criança de dez anos.",
    "stream": True,
}
USAGE = {
    "prompt_tokens": 31,
    "completion_tokens": 14,
    "total_tokens": 45,
    "cost": 0.000303,
    "cached_tokens": 0,
    "reasoning_tokens": 0,
}
CHAT_ANSWER = {
    "response": "Olá! Estou bem, obrigado por perguntar. Como posso ajudar?",
    "model_used": MODEL,
    "session_id": SESSION_ID,
    "tokens_used": 45,
    "timestamp": "2025-06-13T10:30:00.000Z",
    "turn_id": TURN_ID,
    "finish_reason": "stop",
    "usage": USAGE,
}
TURN_COMPLETED = {
    "turn_id": TURN_ID,
    "session_id": SESSION_ID,
    "status": "completed",
    "text": CHAT_ANSWER["response"],
    "created_at": "2025-06-13T10:29:58.412Z",
    "completed_at": "2025-06-13T10:30:00.000Z",
    "answer": CHAT_ANSWER,
    "error": None,
}
TURN_PENDING = {**TURN_COMPLETED, "status": "pending", "text": "Olá! Estou", "completed_at": None, "answer": None}
TURN_CANCELLED = {
    **TURN_COMPLETED,
    "status": "cancelled",
    "text": "Olá! Estou",
    "answer": {**CHAT_ANSWER, "response": "Olá! Estou", "finish_reason": "cancelled"},
}

OPINION = {"rating": "up", "comment": "Clara e completa."}
FEEDBACK = {**OPINION, "created_at": "2025-06-13T10:31:12.006000Z"}
MESSAGE_FEEDBACK = {"id": f"{TURN_ID}.1", "feedback": FEEDBACK}
MESSAGES: list[dict[str, Any]] = [
    {
        "id": f"{TURN_ID}.0",
        "turn_id": TURN_ID,
        "role": "user",
        "content": "Olá, como você está?",
        "status": "completed",
        "model": None,
        "usage": None,
        "latency_ms": None,
        "first_token_ms": None,
        "finish_reason": None,
        "error": None,
        "metadata": {},
        "created_at": "2025-06-13T10:29:58.412000Z",
        "completed_at": "2025-06-13T10:29:58.412000Z",
        "superseded_at": None,
        "feedback": None,
    },
    {
        "id": f"{TURN_ID}.1",
        "turn_id": TURN_ID,
        "role": "assistant",
        "content": CHAT_ANSWER["response"],
        "status": "completed",
        "model": MODEL,
        "usage": USAGE,
        "latency_ms": 1588,
        "first_token_ms": 540,
        "finish_reason": "stop",
        "error": None,
        "metadata": {},
        "created_at": "2025-06-13T10:29:58.412000Z",
        "completed_at": "2025-06-13T10:30:00.000000Z",
        "superseded_at": None,
        "feedback": FEEDBACK,
    },
]
SESSION = {
    "session_id": SESSION_ID,
    "title": "Dúvidas sobre cartões",
    "model": MODEL,
    "system_prompt": "",
    "persona_id": "cliente-indeciso",
    "created_at": "2025-06-13T10:29:58.412000Z",
    "last_activity_at": "2025-06-13T10:30:00.000000Z",
    "message_count": 2,
    "usage": {name: USAGE[name] for name in ("prompt_tokens", "completion_tokens", "total_tokens", "cost")},
    "metadata": {"canal": "whatsapp"},
    "forked_from": "",
}
FORKED_SESSION = {
    **SESSION,
    "session_id": "Vd0uRr5Jq7nW2sLk9hQx3g",
    "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0, "cost": 0.0},
    "forked_from": TURN_ID,
}
FORK = {"after_turn": TURN_ID}
SESSION_WITH_MESSAGES = {**SESSION, "messages": MESSAGES}
SESSION_PAGE = {"data": [SESSION], "next": "http://localhost:8000/sessions?limit=1&cursor=1749810600000000.7"}
MESSAGE_PAGE = {"data": MESSAGES, "next": None}
SESSION_PATCH = {"title": "Dúvidas sobre cartões", "metadata": {"canal": "whatsapp"}}
SESSION_IDS = {"sessions": [SESSION_ID, "Vd0uRr5Jq7nW2sLk9hQx3g"], "count": 2, "next": None}
REMOVED = {"status": "success", "message": f"Sessão {SESSION_ID} removida"}
MODEL_LIST = {
    "data": [
        {
            "id": MODEL,
            "name": "Anthropic: Claude 3.5 Sonnet",
            "context_length": 200_000,
            "pricing": {"prompt": "0.000003", "completion": "0.000015"},
        }
    ]
}


def stream(answer: dict[str, Any], reply: str) -> str:
    """`reply` as the events that carry it, with `answer` in the last one."""
    began = {"turn_id": TURN_ID, "session_id": SESSION_ID, "model": MODEL}
    half = reply.index(" ") + 1
    frames = (
        frame("start", began),
        frame("delta", {"text": reply[:half]}, half),
        KEEP_ALIVE,
        frame("delta", {"text": reply[half:]}, len(reply)),
        frame("done", answer, len(reply)),
    )
    return b"".join(frames).decode()


TURN_EVENTS = stream(CHAT_ANSWER, str(CHAT_ANSWER["response"]))


def error(code: str, of_a_turn: bool = False, problems: dict[str, str] | None = None) -> dict[str, Any]:
    """The error object with this code, in Portuguese as far as it is translated; `problems` by field."""
    with translation.override("pt-br"):
        value: dict[str, Any] = {"detail": str(CODES[code].sentence), "code": code, "request_id": REQUEST_ID}
    if code == "invalid_request" and problems:
        value["errors"] = {field: [problem] for field, problem in problems.items()}
    if CODES[code].retry_after:
        value["retry_after"] = CODES[code].retry_after
    if of_a_turn and CODES[code].stored:
        value |= {"turn_id": TURN_ID, "may_have_been_billed": CODES[code].billed}
    return value

"""Sessions in the published document: error codes, path parameters, and examples made by the serializers."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from access.schema import CALLER
from sessions_api.api.serializers import FeedbackSerializer, MessageSerializer, SessionSerializer
from sessions_api.models import Feedback, Message, Session
from web.openapi import path_parameter

RECORD = (*CALLER, "overloaded")
STORING = (*RECORD, "unsupported_media_type", "budget_exhausted")
SESSION_ID = "atendimento-2025-06-13"
TURN_ID = "Zk3rV0p9Qm2bXc8TtYw1Aa"
MODEL = "anthropic/claude-3.5-sonnet"
ASKED_AT = datetime(2025, 6, 13, 10, 29, 58, 412_000, UTC)
ANSWERED_AT = datetime(2025, 6, 13, 10, 30, tzinfo=UTC)
IN_SESSION = path_parameter("session_id", "session", SESSION_ID)
IN_MESSAGE = path_parameter("message_id", "reply", f"{TURN_ID}.1")

OPINION = {"rating": "up", "comment": "Clara e completa."}
_FEEDBACK = Feedback(**OPINION, created_at=datetime(2025, 6, 13, 10, 31, 12, 6_000, UTC))
_SESSION: dict[str, Any] = {
    "title": "Dúvidas sobre cartões",
    "model": MODEL,
    "persona_id": "cliente-indeciso",
    "created_at": ASKED_AT,
    "last_activity_at": ANSWERED_AT,
    "message_count": 2,
    "metadata": {"canal": "whatsapp"},
}
_COUNTS: dict[str, Any] = {"prompt_tokens": 31, "completion_tokens": 14, "cost": Decimal("0.000303")}
STORED = Session(session_id=SESSION_ID, **_SESSION, **_COUNTS)
QUESTION = Message(
    turn_id=TURN_ID,
    position=0,
    role=Message.Role.USER,
    content="Olá, como você está?",
    status=Message.Status.COMPLETED,
    created_at=ASKED_AT,
    completed_at=ASKED_AT,
)
REPLY = Message(
    session=STORED,
    turn_id=TURN_ID,
    position=1,
    role=Message.Role.ASSISTANT,
    content="Olá! Estou bem, obrigado por perguntar. Como posso ajudar?",
    status=Message.Status.COMPLETED,
    model=MODEL,
    latency_ms=1588,
    first_token_ms=540,
    finish_reason="stop",
    created_at=ASKED_AT,
    completed_at=ANSWERED_AT,
    **_COUNTS,
)

FEEDBACK = {"id": f"{TURN_ID}.1", "feedback": dict(FeedbackSerializer(_FEEDBACK).data)}
MESSAGES = list(MessageSerializer([QUESTION, REPLY], many=True, context={"feedback": {1: _FEEDBACK}}).data)
SESSION = dict(SessionSerializer(STORED).data)
SESSION_WITH_MESSAGES = {**SESSION, "messages": MESSAGES}
COPY_ID = "Vd0uRr5Jq7nW2sLk9hQx3g"
COPY = dict(SessionSerializer(Session(session_id=COPY_ID, forked_from=TURN_ID, **_SESSION)).data)
SESSION_PAGE = {"data": [SESSION], "next": "http://localhost:8000/sessions?limit=1&cursor=1749810600000000.7"}
MESSAGE_PAGE = {"data": MESSAGES, "next": None}
SESSION_IDS = {"sessions": [SESSION_ID, COPY_ID], "count": 2, "next": None}
CHANGES = {name: _SESSION[name] for name in ("title", "metadata")}
REMOVED = {"status": "success", "message": f"Sessão {SESSION_ID} removida"}
REMOVE = (
    "It is gone from the API at once; the operator's retention decides when its text is erased. A new message with its "
    "id starts a new session."
)

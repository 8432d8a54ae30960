"""What every address takes and answers, in the words of the published document."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse, extend_schema

from access.schema import CALLER, ErrorSerializer
from bancobot_project import schema_answers as answers
from bancobot_project import schema_examples as examples
from chat.serializers import ChatSerializer, MessageSerializer
from web.errors import CODES

Schema = dict[str, Any]
Describe = Callable[[Callable[..., Any]], Callable[..., Any]]
JSON, EVENTS = "application/json", "text/event-stream"

RECORD = (*CALLER, "overloaded")
PROVIDER = (
    "unsupported_model", "provider_auth_failed", "provider_payment_required", "permission_denied", "content_moderated",
    "provider_rate_limited", "provider_error", "provider_invalid_response", "provider_unreachable",
    "provider_unavailable", "provider_timeout",
)  # fmt: skip
BODY = ("unsupported_media_type",)
ENDED_BADLY = (*PROVIDER, "context_length_exceeded", "turn_interrupted")
TURN = (
    *RECORD,
    "budget_exhausted",
    *BODY,
    *ENDED_BADLY,
    "session_busy",
    "idempotency_mismatch",
    "turn_not_found",
)


def header(name: str, description: str, schema: Schema) -> OpenApiParameter:
    """A header of the answer, where it is 200."""
    return OpenApiParameter(name, schema, OpenApiParameter.HEADER, description=description, response=[200])


def query(name: str, description: str, **schema: Any) -> OpenApiParameter:
    return OpenApiParameter(name, {"type": "string"} | schema, OpenApiParameter.QUERY, description=description)


TURN_ID = OpenApiParameter(
    "turn_id",
    {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$"},
    OpenApiParameter.PATH,
    examples=[OpenApiExample("turn", examples.TURN_ID)],
)
FARTHEST = 999_999_999  # characters
AFTER = [
    query(
        "after",
        "The same in the address, for clients that can't send the header.",
        type="integer",
        minimum=0,
        maximum=FARTHEST,
    ),
    OpenApiParameter(
        "Last-Event-ID",
        {"type": "integer", "minimum": 0, "maximum": FARTHEST},
        OpenApiParameter.HEADER,
        description="The id of the last event that arrived; the stream goes on behind it.",
    ),
]
OMITTED = header(
    "X-History-Omitted",
    "How many of the session's messages did not fit the model's context. Only where it is more than none.",
    {"type": "integer", "minimum": 1},
)


def operation(
    name: str,
    tag: str,
    summary: str,
    description: str,
    answer: Any,
    codes: Sequence[str],
    shown: dict[str, Any],
    *,
    problems: dict[str, str] | None = None,
    status: int = 200,
    **more: Any,
) -> Describe:
    """One operation. `shown`: examples of the answer; `problems`: what its example of a 400 finds fault with."""
    responses = {(status, JSON): OpenApiResponse(answer, description="OK", examples=_examples(shown))}
    return extend_schema(
        operation_id=name,
        tags=[tag],
        summary=summary,
        description=description,
        responses=responses | more.pop("responses", {}) | _errors(codes, more.get("request") is not None, problems),
        request=more.pop("request", None),
        **more,
    )


KEY = OpenApiParameter(
    "Idempotency-Key",
    {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]+$"},
    OpenApiParameter.HEADER,
    description="Your name for this request. The same request again under the same name is the same turn: it is "
    "attached to while it runs, and its answer repeated afterwards.",
)
REPLAYED = header(
    "Idempotent-Replayed",
    "Where the answer is that of a turn which had ended before this request came.",
    {"type": "string", "enum": ["true"]},
)
EVENTS_OF_A_TURN = (
    "The events are `start`, `delta` with the next characters of the reply (its id is the number of characters so "
    "far), and at the end `done` with the answer that there would have been as JSON, or `error` with the error object. "
    "A comment comes after 15 s of silence."
)


def turn(name: str, summary: str, description: str, body: Any, bodies: Schema, answer: Any, shown: Schema) -> Describe:
    """An operation that starts a turn, and answers as JSON or as a stream."""
    events = f"For `stream: true` or `Accept: text/event-stream`. {EVENTS_OF_A_TURN}"
    stream = OpenApiExample("eventos", examples.stream(shown, shown["response"]), media_type=EVENTS)
    return operation(
        name,
        "Turns",
        summary,
        description,
        answer,
        TURN,
        {"resposta": shown},
        request=body,
        examples=[OpenApiExample(title, value, request_only=True) for title, value in bodies.items()],
        parameters=[KEY, OMITTED, REPLAYED],
        responses={(200, EVENTS): OpenApiResponse({"type": "string", "description": events}, examples=[stream])},
        problems={"message": "Este campo é obrigatório."},
    )


def _examples(shown: dict[str, Any]) -> list[OpenApiExample]:
    return [OpenApiExample(title, value, response_only=True) for title, value in shown.items()]


def _errors(codes: Sequence[str], of_a_turn: bool, problems: dict[str, str] | None) -> dict[Any, OpenApiResponse]:
    by_status = defaultdict(list)
    for code in codes:
        by_status[CODES[code].status].append(code)
    return {
        (status, JSON): OpenApiResponse(
            ErrorSerializer,
            description=", ".join(f"`{code}`" for code in sorted(by_status[status])),
            examples=_examples({code: examples.error(code, of_a_turn, problems) for code in sorted(by_status[status])}),
        )
        for status in sorted(by_status)
    }


OPERATIONS: dict[str, Describe] = {
    "POST /api/message": turn(
        "createMessage",
        "Say something to the bank's assistant",
        "Stores the message, sends the session's history to the model, stores its reply and answers with it. Without a "
        "session_id, or with one that is not known, a session begins.",
        MessageSerializer,
        {"nova sessão": examples.NEW_MESSAGE, "mesma sessão": examples.NEXT_MESSAGE},
        answers.MessageAnswerDocument,
        examples.MESSAGE_ANSWER,
    ),
    "POST /chat": turn(
        "createChatTurn",
        "Say something to a model",
        "As POST /api/message, with the model and the system prompt of your choice. The session remembers both.",
        ChatSerializer,
        {
            "nova sessão": examples.NEW_CHAT,
            "mesma sessão": examples.NEXT_CHAT,
            "editada": examples.EDITED_CHAT,
            "eventos": examples.GUIDED_CHAT,
        },
        answers.ChatAnswerDocument,
        examples.CHAT_ANSWER,
    ),
    "GET /turns/{turn_id}": operation(
        "getTurn",
        "Turns",
        "A turn's state",
        "While it runs: the text so far. When it is done: its answer, or why there is none.",
        answers.TurnDocument,
        (*RECORD, "turn_not_found", "not_found"),
        {"concluído": examples.TURN_COMPLETED, "em andamento": examples.TURN_PENDING},
        parameters=[TURN_ID],
    ),
    "GET /turns/{turn_id}/events": extend_schema(
        operation_id="followTurn",
        tags=["Turns"],
        summary="Take a turn's stream up again",
        description="From a character of the reply on, while the turn runs and after, on any worker. Its `done` has "
        "the keys of POST /chat's answer, whichever address began the turn.",
        request=None,
        parameters=[TURN_ID, *AFTER, OMITTED],
        responses={
            (200, EVENTS): OpenApiResponse(
                {"type": "string", "description": EVENTS_OF_A_TURN},
                examples=[OpenApiExample("eventos", examples.TURN_EVENTS, media_type=EVENTS)],
            )
        }
        | _errors(
            (*RECORD, "turn_not_found", "not_found"), False, {"after": "Use o id de um evento, um número inteiro."}
        ),
    ),
    "POST /turns/{turn_id}/cancel": operation(
        "cancelTurn",
        "Turns",
        "Stop a turn",
        "What has come of the reply is kept; who listens gets `done` with the finish_reason `cancelled`. A turn that "
        "has ended is answered as it is.",
        answers.TurnDocument,
        (*RECORD, "turn_not_found", "not_found"),
        {"cancelado": examples.TURN_CANCELLED, "já concluído": examples.TURN_COMPLETED},
        parameters=[TURN_ID],
    ),
    "GET /models": operation(
        "listModels",
        "Models",
        "The models on offer",
        "The provider's own list, which the server keeps for some minutes. Works without a key.",
        answers.ModelListDocument,
        (*CALLER, *PROVIDER),
        {"modelos": examples.MODEL_LIST},
        auth=[{"bearer": []}, {}],
    ),
}
TAGS = [
    {"name": "Turns", "description": "Conversas: a message goes in, the model's reply comes back, and both are kept."},
    {"name": "Sessions", "description": "Sessões: what has been said so far."},
    {"name": "Models", "description": "Modelos: who can reply."},
    {"name": "Service", "description": "Serviço: whether all is well."},
]

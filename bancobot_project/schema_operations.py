"""What every address takes and answers, in the words of the published document."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse, extend_schema

from access.schema import CALLER, ErrorSerializer
from bancobot_project import schema_answers as answers
from bancobot_project import schema_examples as examples
from chat.serializers import ChatSerializer, MessageSerializer
from sessions_api.api.serializers import ForkSerializer, OpinionSerializer, SessionPatchSerializer
from sessions_api.exports.formats import CLOCKS, FORMATS, WITH_CLOCKS
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


def limit(default: int, most: int) -> OpenApiParameter:
    return query("limit", "How many at the most.", type="integer", minimum=1, maximum=most, default=default)


SESSION = OpenApiParameter(
    "session_id", {"type": "string"}, OpenApiParameter.PATH, examples=[OpenApiExample("session", examples.SESSION_ID)]
)
TURN_ID = OpenApiParameter(
    "turn_id",
    {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$"},
    OpenApiParameter.PATH,
    examples=[OpenApiExample("turn", examples.TURN_ID)],
)
MESSAGE_ID = OpenApiParameter(
    "message_id",
    {"type": "string"},
    OpenApiParameter.PATH,
    examples=[OpenApiExample("reply", f"{examples.TURN_ID}.1")],
)
INCLUDE = query("include", "Also the messages that a later turn took the place of.", enum=["superseded", ""])
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
CURSOR = query(
    "cursor",
    "Where a page begins: comes with `next`, and means nothing else.",
    pattern=r"^([0-9]{1,17}\.[0-9]{1,18})?$",
)
ERASE = query(
    "erase",
    "true: the session is deleted before the answer, not only closed. What may stay on disk: docs/operations.md.",
    type="boolean",
    default=False,
)
A_MOMENT = "ISO 8601; in UTC where it names no zone, and a date alone is its beginning."
MOMENTS = [{"format": "date-time"}, {"format": "date"}, {"maxLength": 0}]
FILTERS = [
    query("q", "Only sessions with all these words in the title or in one message; the last may be unfinished."),
    query("since", f"Only sessions that were active at this moment or later. {A_MOMENT}", anyOf=MOMENTS),
    query("until", f"Only sessions that were last active before this moment. {A_MOMENT}", anyOf=MOMENTS),
    query("persona_id", "Only sessions of this persona."),
]
OWNER = query(
    "owner",
    "Whose sessions, for keys with the scope admin:read: an owner, or * for all. Yours unless you say so; of several "
    "sessions with one id the one that was last active.",
    maxLength=80,
)
A_MESSAGE_ID = r"^((.*\.)?[0-9]{1,9})?$"
MESSAGES = [
    limit(100, 100),
    query("after", "Only messages that come after the one with this id.", pattern=A_MESSAGE_ID),
    query("before", "Only messages that come before the one with this id.", pattern=A_MESSAGE_ID),
    query("order", "Oldest first, or newest first.", enum=["asc", "desc"], default="asc"),
]
FILE = [
    query("format", "What the file is to be.", enum=list(FORMATS), default=next(iter(FORMATS))),
    query(
        "clock",
        f"By which clock {' and '.join(f'`{name}`' for name in WITH_CLOCKS)} tell what happened.",
        enum=list(CLOCKS),
        default="real",
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


REMOVE = (
    "It is gone from the API at once; the operator's retention decides when its text is erased. A new message with its "
    "id starts a new session."
)
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
    "GET /sessions": operation(
        "listSessions",
        "Sessions",
        "Your sessions",
        "Last active first.",
        answers.SessionPageDocument,
        RECORD,
        {"sessões": examples.SESSION_PAGE},
        parameters=[limit(20, 100), CURSOR, *FILTERS, OWNER],
        problems={"limit": "Use um número inteiro de 1 a 100."},
    ),
    "GET /sessions/{session_id}": operation(
        "getSession",
        "Sessions",
        "A session",
        "What it is, what it took, and its newest messages.",
        answers.SessionWithMessagesDocument,
        (*RECORD, "session_not_found"),
        {"sessão": examples.SESSION_WITH_MESSAGES},
        parameters=[SESSION, INCLUDE, OWNER],
    ),
    "POST /sessions/{session_id}/fork": operation(
        "forkSession",
        "Sessions",
        "Copy a session",
        "A new session with what was said up to the end of a turn: all of it without `after_turn`, nothing where that "
        "is null. Superseded messages are left out; the copies cost nothing, and so have no usage.",
        answers.SessionDocument,
        (*RECORD, *BODY, "session_not_found", "turn_not_found", "session_busy", "session_exists"),
        {"cópia": examples.FORKED_SESSION},
        status=201,
        request=ForkSerializer,
        examples=[OpenApiExample("até um turno", examples.FORK, request_only=True)],
        parameters=[SESSION],
        problems={"session_id": "Use de 1 a 128 caracteres dentre A-Z a-z 0-9 . _ : -"},
    ),
    "POST /messages/{message_id}/feedback": operation(
        "giveFeedback",
        "Sessions",
        "Say what you think of a reply",
        "The newest opinion counts; a rating of null takes it back.",
        answers.MessageFeedbackDocument,
        (*RECORD, *BODY, "message_not_found"),
        {"avaliada": examples.MESSAGE_FEEDBACK},
        request=OpinionSerializer,
        examples=[OpenApiExample("boa", examples.OPINION, request_only=True)],
        parameters=[MESSAGE_ID],
        problems={"rating": "Use “up”, “down” ou null."},
    ),
    "PATCH /sessions/{session_id}": operation(
        "updateSession",
        "Sessions",
        "Change a session",
        "What is left out stays as it is; metadata is replaced as a whole.",
        answers.SessionDocument,
        (*RECORD, *BODY, "session_not_found"),
        {"sessão": examples.SESSION},
        request=SessionPatchSerializer,
        examples=[OpenApiExample("título", examples.SESSION_PATCH, request_only=True)],
        parameters=[SESSION],
        problems={"title": "Não é um string válido."},
    ),
    "DELETE /sessions/{session_id}": operation(
        "deleteSession",
        "Sessions",
        "Remove a session",
        REMOVE,
        answers.RemovedDocument,
        (*RECORD, "session_not_found"),
        {"removida": examples.REMOVED},
        parameters=[SESSION, ERASE],
        problems={"erase": "Use true ou false."},
    ),
    "GET /sessions/{session_id}/messages": operation(
        "listMessages",
        "Sessions",
        "A session's messages",
        "The whole conversation, page by page.",
        answers.MessagePageDocument,
        (*RECORD, "session_not_found"),
        {"mensagens": examples.MESSAGE_PAGE},
        parameters=[SESSION, *MESSAGES, INCLUDE, OWNER],
        problems={"order": "Use asc ou desc."},
    ),
    "GET /sessions/{session_id}/export": extend_schema(
        operation_id="exportSession",
        tags=["Sessions"],
        summary="A session as a file",
        description="With all its messages: docs/research.md describes the formats.",
        request=None,
        parameters=[SESSION, *FILE, INCLUDE, OWNER],
        responses={
            (200, media_type): OpenApiResponse(
                {"type": "string"},
                examples=[
                    OpenApiExample(name, chosen.example, media_type=media_type)
                    for name, chosen in FORMATS.items()
                    if chosen.example and chosen.content_type == media_type
                ],
            )
            for media_type in dict.fromkeys(chosen.content_type for chosen in FORMATS.values())
        }
        | _errors(
            (*RECORD, "session_not_found"),
            False,
            {"format": f"Use um destes: {', '.join(FORMATS)}."},
        ),
    ),
    "GET /api/sessions": operation(
        "listSessionIds",
        "Sessions",
        "Your sessions' ids",
        "Last active first.",
        answers.SessionIdsDocument,
        RECORD,
        {"sessões": examples.SESSION_IDS},
        parameters=[limit(1000, 1000), CURSOR, OWNER],
        problems={"limit": "Use um número inteiro de 1 a 1000."},
    ),
    "DELETE /api/sessions/{session_id}": operation(
        "deleteSessionById",
        "Sessions",
        "Remove a session",
        f"The same as DELETE /sessions/{{session_id}}. {REMOVE}",
        answers.RemovedDocument,
        (*RECORD, "session_not_found"),
        {"removida": examples.REMOVED},
        parameters=[SESSION, ERASE],
        problems={"erase": "Use true ou false."},
    ),
}
TAGS = [
    {"name": "Turns", "description": "Conversas: a message goes in, the model's reply comes back, and both are kept."},
    {"name": "Sessions", "description": "Sessões: what has been said so far."},
    {"name": "Models", "description": "Modelos: who can reply."},
    {"name": "Service", "description": "Serviço: whether all is well."},
]
